"""`SmallCNN`, the embedded backbone: small enough to ship with its weights and to train on one core."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

WEIGHTS = Path(__file__).with_suffix(".safetensors")
"""The shipped weights, made by ``python -m common.model.pretrain``."""

MEAN, STD = (0.45, 0.42, 0.38), (0.25, 0.25, 0.25)
"""Normalisation per channel, for images in [0, 1]."""


class SmallCNN(nn.Module):
    """Four strided convolutions with batch normalisation and ReLU, then the mean over the picture.

    From normalised float images (B, 3, H, W), H and W at least 16, to features (B, `out_features`).
    """

    out_features: int = 128

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, self.out_features)
        self.blocks = nn.Sequential(*(_block(*pair) for pair in pairwise(widths)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of images."""
        return self.blocks(images).mean((2, 3))


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )
