"""A network of two weights for slices through heads: does a bright spot of one size stand out?"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import conv2d


class Spots(nn.Module):
    """The brightest spot of an image, as a blur less one of twice its width shows it, and a logit that grows with it.

    Parameters
    ----------
    input_shape : tuple of int
        Channels, height, width.
    n_classes : int
    sigma : float
        Width of the blur in pixels, above 0.
    radius : float
        Where it looks: an ellipse in the middle; from 1.2 on the whole head. Above 0.
    """

    kernel: torch.Tensor
    outside: torch.Tensor

    def __init__(self, input_shape: tuple[int, int, int], n_classes: int = 2, sigma: float = 2.0, radius: float = 1.0):
        super().__init__()
        kernel = _blur(sigma, reach := math.ceil(4 * sigma)) - _blur(2 * sigma, reach)
        down, right = (torch.linspace(-1, 1, n) for n in input_shape[1:])
        inside = (right / 0.66) ** 2 + (down[:, None] / 0.87) ** 2 < radius**2
        self.register_buffer("kernel", kernel[None, None])
        self.register_buffer("outside", torch.where(inside, 0.0, -10.0))
        self.line = nn.Linear(1, 1 if n_classes == 2 else n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = images.mean(1, keepdim=True)
        spots = conv2d(grey, self.kernel, padding=self.kernel.shape[-1] // 2) + self.outside
        return self.line(20 * spots.amax((2, 3)) - 2)


def _blur(sigma: float, reach: int) -> torch.Tensor:
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    return torch.outer(line, line) / line.sum() ** 2
