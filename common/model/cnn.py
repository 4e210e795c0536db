"""`CNN`: a plain convolutional network whose every part is an argument, for a search to choose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import nn

NORMS = {"batch": nn.BatchNorm2d, "instance": lambda width: nn.GroupNorm(width, width), "none": lambda _: nn.Identity()}
ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU, "leaky_relu": nn.LeakyReLU}
POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class CNN(nn.Module):
    """Blocks of convolution, normalisation, activation and pooling, then fully connected layers.

    From float images (B, C, H, W) to logits: (B, 1) for two classes, else (B, `n_classes`).

    Parameters
    ----------
    input_shape : (int, int, int)
        C, H and W of an image.
    n_classes : int
    widths : sequence of int
        Channels of each block, at least one block. A block halves the picture, so min(H, W) is at least
        ``2 ** len(widths)``.
    kernels : sequence of int
        Odd kernel sizes of the blocks' convolutions, which keep the size of the picture.
    dense : sequence of int
        Units of the hidden fully connected layers.
    norm : {"batch", "instance", "none"}
    activation : {"relu", "elu", "gelu", "leaky_relu"}
    pool : {"max", "average"}
    global_pool : bool
        Average over the picture before the fully connected layers, instead of flattening it.
    dropout : float
        Before each fully connected layer, in [0, 1).

    Raises
    ------
    ValueError
        When the blocks do not fit the picture.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        widths: Sequence[int] = (16, 32, 64),
        kernels: Sequence[int] = (3, 3, 3),
        dense: Sequence[int] = (64,),
        norm: str = "batch",
        activation: str = "relu",
        pool: str = "max",
        global_pool: bool = True,
        dropout: float = 0.2,
    ):
        super().__init__()
        channels, height, width = input_shape
        if not widths or len(widths) != len(kernels):
            raise ValueError(f"expected a kernel size for each of one or more widths, found {widths} and {kernels}")
        if min(height, width) < 2 ** len(widths):
            raise ValueError(f"{len(widths)} blocks need images of {2 ** len(widths)} pixels, found {height} x {width}")
        blocks: list[nn.Module] = []
        for block_width, kernel in zip(widths, kernels, strict=True):
            blocks += [
                nn.Conv2d(channels, block_width, kernel, padding=kernel // 2, bias=norm == "none"),
                NORMS[norm](block_width),
                ACTIVATIONS[activation](),
                POOLS[pool](2),
            ]
            channels, height, width = block_width, height // 2, width // 2
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1) if global_pool else nn.Identity(), nn.Flatten())
        units = [channels if global_pool else prod((channels, height, width)), *dense]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(units):
            layers += [nn.Dropout(dropout), nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
        self.classifier = nn.Sequential(
            *layers, nn.Dropout(dropout), nn.Linear(units[-1], 1 if n_classes == 2 else n_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        return self.classifier(self.features(images))
