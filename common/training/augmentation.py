"""Random changes of training images: each image has its own, drawn from a stream, applied to a batch at once."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from common.training.config import Augmentation

N_DRAWS = 8


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
    uniform = torch.from_numpy(draws.astype(np.float32)).to(images.device)
    signed = uniform * 2 - 1
    flip = torch.where(uniform[:, 0] < settings.flip, -1.0, 1.0)
    angle = signed[:, 1] * (settings.rotation * torch.pi / 180)
    scale = 1 + signed[:, 2] * settings.zoom
    shift = signed[:, 3:5] * (2 * settings.shift)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack(
        [torch.stack([cosine * flip, -sine, shift[:, 0]], 1), torch.stack([sine * flip, cosine, shift[:, 1]], 1)], 1
    )
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    changed = functional.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    brightness, contrast, saturation = (signed[:, i, None, None, None] for i in (5, 6, 7))
    changed = changed * (1 + brightness * settings.brightness)
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + (changed - mean) * (1 + contrast * settings.contrast)
    grey = changed.mean(1, keepdim=True)
    changed = grey + (changed - grey) * (1 + saturation * settings.saturation)
    return changed.clamp(0, 1)
