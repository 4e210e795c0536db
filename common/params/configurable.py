"""The network of a `params` dict: its `net_arch`, and what is done to images before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from common.cli import UserError
from common.model.modules import build_module
from common.params.net_arch import build_classifier


class Preparation(nn.Module):
    """From images in [0, 1], (B, C, H, W), to what a network of `params` takes.

    Parameters
    ----------
    image_height, image_width : int
        Pixels; images are scaled, and their middle is cut out, where they differ.
    is_image_color : bool
        Three channels, else one; images are converted.
    flip_images : bool
        Whether training images are mirrored: left and right, and up and down, each with `flip_probability`.
    additional_transforms : sequence of nn.Module, or classes or partials of them, or None
        Applied after that. Random ones of torchvision change each training image for itself, and no others.
    normalise_images : bool
        Whether `normalise_mean` is taken off and the rest divided by `normalise_std`, per channel, at the end.
    """

    def __init__(
        self,
        image_height: int,
        image_width: int,
        is_image_color: bool,
        flip_images: bool = False,
        flip_probability: float = 0.5,
        additional_transforms: Sequence[Any] | None = (),
        normalise_images: bool = False,
        normalise_mean: Sequence[float] | None = None,
        normalise_std: Sequence[float] | None = None,
    ):
        super().__init__()
        self.size = (image_height, image_width)
        self.channels = v2.RGB() if is_image_color else v2.Grayscale(1)
        self.flip_probability = flip_probability if flip_images else 0.0
        shape = (3 if is_image_color else 1, image_height, image_width)
        self.transforms = nn.ModuleList(build_module(transform, shape, 2) for transform in additional_transforms or ())
        self.normalise = v2.Normalize(normalise_mean, normalise_std) if normalise_images else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float32, shape (B, 3 or 1, image_height, image_width)."""
        images = self.channels(_fitted(images, self.size))
        if self.training and self.flip_probability:
            for dimension in (3, 2):  # left and right, up and down
                flips = torch.rand(len(images), 1, 1, 1).to(images.device) < self.flip_probability
                images = torch.where(flips, images.flip(dimension), images)
        for transform in self.transforms:
            if not _is_random(transform):
                images = transform(images)
            elif self.training:
                images = torch.stack([transform(image) for image in images])
        return self.normalise(images)


class ParamsClassifier(nn.Module):
    """Logits of the network that `net_arch` lists, for a :class:`common.training.TrainingConfig`.

    Parameters
    ----------
    n_classes : int
        Of the images.
    expected_classes : int
        ``params["n_classes"]``.
    net_arch : list
        See :func:`common.params.net_arch.build_classifier`.
    **preparation
        See :class:`Preparation`.

    Raises
    ------
    UserError
        When the images have another number of classes, and as :func:`build_classifier` does.
    """

    def __init__(
        self,
        n_classes: int,
        expected_classes: int,
        net_arch: Sequence[Mapping[str, Any]],
        **preparation: Any,
    ):
        super().__init__()
        if n_classes != expected_classes:
            raise UserError(f"params.n_classes: expected {n_classes}, as the images have, found {expected_classes}")
        self.preparation = Preparation(**preparation)
        expected = (3 if preparation["is_image_color"] else 1, *self.preparation.size)
        with torch.random.fork_rng():
            found = tuple(self.preparation(torch.zeros(2, *expected)).shape[1:])
        if found != expected:
            sizes = [" x ".join(map(str, size)) for size in (expected, found)]
            raise UserError(f"params.additional_transforms: expected images of {sizes[0]} after them, found {sizes[1]}")
        self.classifier = build_classifier({**preparation, "net_arch": net_arch, "n_classes": n_classes})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (B, n_classes); of two classes that of the second, (B, 1), with the same probabilities."""
        return _one_of_two(self.classifier.logits(self.preparation(images)))


class ModuleClassifier(nn.Module):
    """Logits of a network of one's own, which takes the images that `params` prepare.

    Parameters
    ----------
    n_classes : int
        Of the images.
    module : class, functools.partial, or instance of nn.Module
        See :func:`common.model.modules.build_module`.
    gives_probabilities : bool
        Whether its outputs are these, else logits; of each class, (B, n_classes).
    **preparation
        See :class:`Preparation`.
    """

    def __init__(self, n_classes: int, module: Any, gives_probabilities: bool, **preparation: Any):
        super().__init__()
        self.preparation = Preparation(**preparation)
        shape = (3 if preparation["is_image_color"] else 1, *self.preparation.size)
        self.classifier = build_module(module, shape, n_classes)
        self.gives_probabilities = gives_probabilities

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, as :meth:`ParamsClassifier.forward` gives them."""
        outputs = self.classifier(self.preparation(images))
        return _one_of_two(
            outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log() if self.gives_probabilities else outputs
        )


def _one_of_two(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def _fitted(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The images scaled until they just cover `size`, and their middle."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    scale = max(size[0] / height, size[1] / width)
    scaled = [max(wanted, round(found * scale)) for wanted, found in zip(size, (height, width), strict=True)]
    return v2.functional.center_crop(v2.functional.resize(images, scaled, antialias=True), list(size))


def _is_random(transform: nn.Module) -> bool:
    """Whether it is one of torchvision's that draw random numbers."""
    kind = type(transform)
    if not kind.__module__.startswith("torchvision."):
        return False
    draws = getattr(kind, "make_params", v2.Transform.make_params) is not v2.Transform.make_params
    automatic = kind.__module__.endswith(("_auto_augment", ".autoaugment"))
    return draws or automatic or "Random" in kind.__name__ or hasattr(kind, "get_params")
