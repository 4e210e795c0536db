"""The classifier that is fine-tuned: raw images in, logits out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from common.cli import UserError
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

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The backbone's output, float32, shape (B, n_features); `images` as for :meth:`forward`."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        with _arithmetic(images, self.precision):
            return self.backbone((images - self.mean) / self.std).float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the positive class, float32, shape (B,).

        Parameters
        ----------
        images : Tensor, shape (B, 3, H, W)
            uint8 in 0-255, or float in [0, 1].
        """
        return _logits(self.head, self.features(images), self.precision)


class HeadOnly(nn.Module):
    """The head of a :class:`Classifier`, which it shares: features (B, n_features) in, logits (B,) out."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.head = classifier.head
        self.precision = classifier.precision

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the positive class, float32, shape (B,)."""
        return _logits(self.head, features, self.precision)


def _logits(head: nn.Module, features: torch.Tensor, precision: str) -> torch.Tensor:
    with _arithmetic(features, precision):
        return head(features).float().squeeze(1)


def _arithmetic(inputs: torch.Tensor, precision: str) -> torch.autocast:
    return torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16")


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
    network = Classifier(features, head, mean, std)
    network.settings = {"backbone": backbone, "hidden_dim": hidden_dim, "dropout_rate": dropout_rate}
    return network


def save_classifier(network: Classifier, path: Path) -> None:
    """Write a network's weights, and what it takes to build it again, as safetensors."""
    settings = {**network.settings, "image_size": network.image_size, "precision": network.precision}
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path, {"classifier": json.dumps(settings)})


def load_classifier(path: Path) -> Classifier:
    """The network that :func:`save_classifier` wrote, on the CPU, ready to predict.

    Raises
    ------
    UserError
        When the file is none of its.
    """
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads(file.metadata()["classifier"])
        image_size, precision = settings.pop("image_size"), settings.pop("precision")
        network = build_classifier(weights="none", stream=Stream(0), **settings)
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not a stored classifier ({error})") from error
    network.image_size, network.precision = image_size, precision
    return network.eval()
