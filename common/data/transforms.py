"""Transforms of images: normalisation of each by itself, inverted colours; and a scale, for arrays too."""

from __future__ import annotations

from typing import Any

import PIL.Image
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


def _is_plain(inpt: Any) -> bool:
    return isinstance(inpt, torch.Tensor) and not isinstance(inpt, tv_tensors.TVTensor)


class _ImageTransform(v2.Transform):
    """A transform of images and videos, that leaves masks and boxes as they are."""

    _transformed_types = (tv_tensors.Image, tv_tensors.Video, PIL.Image.Image, _is_plain)


class SamplewiseNormalize(_ImageTransform):
    """Shift and scale each channel of each image to mean 0 and standard deviation 1.

    Takes tensors of shape (..., H, W), one image (C, H, W) or a batch (B, C, H, W), and PIL images. The result is of
    the same type and, for floats, of the same dtype; of integers it is float32, and of a PIL image a float32
    :class:`torchvision.tv_tensors.Image`. A channel of one value becomes zeros. The standard deviation is the
    population's (divided by the number of pixels).

    Raises
    ------
    TypeError
        For complex or boolean images.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> torch.Tensor:
        if isinstance(inpt, PIL.Image.Image):
            inpt = functional.to_image(inpt)
        if inpt.is_complex() or inpt.dtype == torch.bool:
            raise TypeError(f"SamplewiseNormalize: found an image of {inpt.dtype}, expected integers or floats")
        image = inpt.as_subclass(torch.Tensor)
        dtype = image.dtype if image.is_floating_point() else torch.float32
        image = image if dtype == torch.float64 else image.float()
        # scaled to [0, 1] first: the result is the same, tiny values keep their variance, one value gives exact zeros
        low, high = (limit(image.detach(), (-2, -1), keepdim=True) for limit in (torch.amin, torch.amax))
        unit = (image - low) / torch.where(high > low, high - low, 1)
        variance, mean = torch.var_mean(unit, (-2, -1), correction=0, keepdim=True)
        result = ((unit - mean) / torch.where(high > low, variance, 1).sqrt()).to(dtype)
        return tv_tensors.wrap(result, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else result


class InvertColors(_ImageTransform):
    """The negative: 255 - x of uint8 images, 1 - x of float images (whose range is [0, 1]).

    Takes tensors of any shape, so single images as well as batches, and PIL images of mode L or RGB.

    Raises
    ------
    TypeError
        For other dtypes and modes, which have no such range.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, PIL.Image.Image):
            if inpt.mode not in ("L", "RGB"):
                raise TypeError(f"InvertColors: found a PIL image of mode {inpt.mode}, expected L or RGB")
        elif inpt.dtype != torch.uint8 and not inpt.is_floating_point():
            raise TypeError(f"InvertColors: found an image of {inpt.dtype}, expected uint8, or floats in [0, 1]")
        return functional.invert(inpt)


class Scale(torch.nn.Module):
    """Multiply images or arrays by a factor: 1e5 brings volts of EEG to a size of about 1."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The product."""
        return inputs * self.factor
