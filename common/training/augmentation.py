"""Random changes of training images: each image has its own, drawn from a stream, applied to a batch at once."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from common.config.settings import Augmentation

N_DRAWS = 8
CHUNK = 1 << 18
"""Values that are worked on at a time, so that they stay in the processor's cache."""


def augment(images: torch.Tensor, draws: np.ndarray, settings: Augmentation) -> torch.Tensor:
    """Mirror, rotate, zoom, shift, and change brightness, contrast and saturation of each image by its own draws.

    Parameters
    ----------
    images : Tensor of uint8, shape (B, C, H, W)
    draws : ndarray, shape (B, 8)
        Uniform in [0, 1); 0.5 throughout leaves an image as it is (when the probability of mirroring is at most 0.5).
    settings : Augmentation

    Returns
    -------
    Tensor of float32, shape (B, C, H, W), in [0, 1]
        Pixels from outside the image are mirrored at its border.
    """
    parts = max(1, images[0].numel() * len(images) // CHUNK) if images.device.type == "cpu" else 1
    signed = torch.from_numpy(draws.astype(np.float32)).to(images.device) * 2 - 1
    chunks = zip(images.tensor_split(parts), signed.tensor_split(parts), strict=True)
    return torch.cat([_augment(some, theirs, settings) for some, theirs in chunks if len(some)])


def _augment(images: torch.Tensor, signed: torch.Tensor, settings: Augmentation) -> torch.Tensor:
    moved = functional.grid_sample(
        images.float(), _grid(images, signed, settings), padding_mode="reflection", align_corners=False
    )
    amounts = (settings.brightness, settings.contrast, settings.saturation)
    bright, contrast, colour = (1 + signed[:, 5 + i, None, None, None] * amount for i, amount in enumerate(amounts))
    bright = bright / 255
    grey = moved.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    shared = grey.mul_(bright * contrast * (1 - colour)).add_(bright * (1 - contrast) * mean)
    return moved.mul_(bright * contrast * colour).add_(shared).clamp_(0, 1)


def _grid(images: torch.Tensor, signed: torch.Tensor, settings: Augmentation) -> torch.Tensor:
    """Where each pixel comes from, as `grid_sample` wants it: shape (B, H, W, 2), x and y in [-1, 1]."""
    n_images, _, height, width = images.shape
    flip = torch.where(signed[:, 0] < settings.flip * 2 - 1, -1.0, 1.0)
    angle = signed[:, 1] * (settings.rotation * torch.pi / 180)
    scale = 1 + signed[:, 2] * settings.zoom
    shift = signed[:, 3:5] * (2 * settings.shift)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    x, y = ((2 * torch.arange(n, device=images.device) + 1) / n - 1 for n in (width, height))
    grid = torch.empty(n_images, height, width, 2, device=images.device)
    for axis, (by_x, by_y) in enumerate([(cosine * flip, -sine), (sine * flip, cosine)]):
        along_x = torch.outer(by_x, x) + shift[:, axis, None]
        torch.add(along_x[:, None, :], torch.outer(by_y, y)[:, :, None], out=grid[..., axis])
    return grid
