"""The classifier that is fine-tuned: raw images in, logits out."""

from __future__ import annotations

import torch
from torch import nn

from common.model.backbones import load_backbone
from common.seeds import Stream


class Classifier(nn.Module):
    """A backbone and a binary head, with the normalisation of the images inside.

    Parameters
    ----------
    backbone : nn.Module
        Maps normalised images (B, 3, H, W) to features (B, n_features).
    head : nn.Module
        Maps features to one logit, (B, 1).
    mean, std : sequence of 3 floats
        For images in [0, 1].
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, mean, std):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.precision = "fp32"
        self.backbone_frozen = False
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Leave the backbone as it is while training: its weights, BatchNorm statistics and dropout too."""
        self.backbone_frozen = frozen
        self.backbone.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the positive class, float32, shape (B,).

        Parameters
        ----------
        images : Tensor, shape (B, 3, H, W)
            uint8 in 0-255, or float in [0, 1].
        """
        if images.dtype == torch.uint8:
            images = images.float() / 255
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.head(self.backbone((images - self.mean) / self.std))
        return logits.float().squeeze(1)


def build_classifier(backbone: str, weights: str, hidden_dim: int, dropout_rate: float, stream: Stream) -> Classifier:
    """A :class:`Classifier` on a backbone by name (see :func:`load_backbone`), its head seeded from `stream`.

    The head is dropout, a hidden layer of `hidden_dim` units with ReLU, dropout, and one output.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream.integer())
        features, n_features, mean, std = load_backbone(backbone, weights)
        head = nn.Sequential(
            nn.Dropout(dropout_rate),
            nn.Linear(n_features, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Linear(hidden_dim, 1),
        )
    return Classifier(features, head, mean, std)
