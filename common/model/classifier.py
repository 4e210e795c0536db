"""The classifier that is fine-tuned: raw images in, logits out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from common.cli import UserError
from common.model.backbones import load_backbone
from common.model.modules import as_record, build_module, from_record, take_off
from common.seeds import Stream


class Classifier(nn.Module):
    """A backbone and a head, with what is done to raw images before inside.

    Parameters
    ----------
    backbone : nn.Module
        Maps prepared images (B, C, H, W), or arrays (B, ...), to features (B, n_features), or to logits: (B, 1), (B, 2)
        or (B, K), or (B, S, K) of a sequence, of which the last count.
    head : nn.Module
        Maps features to one logit, (B, 1), or to one for each of three or more classes, (B, K). Without weights of its
        own where the backbone gives the logits.
    mean, std : sequence of 3 floats, optional
        Normalisation of images in [0, 1].
    transforms : sequence of nn.Module
        Applied before the normalisation, in evaluation as in training.
    settings : dict, optional
        What :func:`make_classifier` builds it again from.
    precision : {"fp32", "bf16"}
        Of the arithmetic; weights are fp32.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean=None,
        std=None,
        transforms: Sequence[nn.Module] = (),
        settings: dict[str, Any] | None = None,
        precision: str = "fp32",
    ):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.transforms = nn.Sequential(*transforms)
        self.settings = settings or {}
        self.precision = precision
        self.backbone_frozen = False
        self.register_buffer("mean", None if mean is None else torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", None if std is None else torch.tensor(std).view(1, 3, 1, 1))

    @property
    def channels(self) -> int:
        """Of the images that it takes: 1 or 3."""
        return self.settings["input_shape"][0]

    @property
    def image_size(self) -> int:
        """Width and height, in pixels, of the images that it takes."""
        return self.settings["input_shape"][-1]

    @property
    def has_head(self) -> bool:
        """Whether there is a head to train alone."""
        return any(True for _ in self.head.parameters())

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Leave the backbone as it is while training: its weights, BatchNorm statistics and dropout too.

        Without a head nothing can be frozen.
        """
        if self.has_head:
            self.backbone_frozen = frozen
            self.backbone.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """What the backbone takes: float32, from `images` as for :meth:`forward`."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        images = self.transforms(images)
        if self.mean is None:
            return images
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The backbone's output, float32, shape (B, n_features); `images` as for :meth:`forward`."""
        images = self.prepare(images)
        with _arithmetic(images, self.precision):
            return self.backbone(images).float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, float32: of the positive class, shape (B,), or of each of three or more classes, shape (B, K).

        Parameters
        ----------
        images : Tensor, shape (B, C, H, W) or (B, ...)
            uint8 in 0-255, or float in [0, 1]; one channel where all images are grey. Arrays are float.
        """
        return _logits(self.head, self.features(images), self.precision)


class HeadOnly(nn.Module):
    """The head of a :class:`Classifier`, which it shares: features (B, n_features) in, logits (B,) or (B, K) out."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.head = classifier.head
        self.precision = classifier.precision

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits, as :meth:`Classifier.forward` gives them."""
        return _logits(self.head, features, self.precision)


def _logits(head: nn.Module, features: torch.Tensor, precision: str) -> torch.Tensor:
    with _arithmetic(features, precision):
        logits = head(features).float()
    if logits.ndim == 3:
        logits = logits[:, -1]
    if logits.shape[1:] == (2,):  # with the same probabilities and the same cross-entropy
        return logits[:, 1] - logits[:, 0]
    return logits.squeeze(1) if logits.shape[1:] == (1,) else logits


def _arithmetic(inputs: torch.Tensor, precision: str) -> torch.autocast:
    return torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16")


def make_classifier(
    stream: Stream,
    n_classes: int = 2,
    input_shape: Sequence[int] = (3, 64, 64),
    backbone: str = "small_cnn",
    weights: str = "DEFAULT",
    hidden_dim: int = 64,
    dropout_rate: float = 0.2,
    model: Any = None,
    transforms: Sequence[Any] = (),
    precision: str = "fp32",
    head: str | None = None,
) -> Classifier:
    """A :class:`Classifier`, its new weights seeded from `stream`.

    Parameters
    ----------
    n_classes : int
    input_shape : tuple of int
        Of one image or array.
    backbone, weights : str
        See :func:`load_backbone`. The head is dropout, a hidden layer of `hidden_dim` units with ReLU, dropout, and one
        output (two classes) or one for each class.
    model : class, functools.partial, or instance of nn.Module, optional
        A network of one's own instead, see :func:`build_module`.
    transforms : sequence of the same
        Applied to images in [0, 1], or to arrays, before.
    precision : {"fp32", "bf16"}
    head : str, optional
        The last part of `model`, by its name in it, such as ``classifier``.

    Raises
    ------
    UserError
        When the network cannot be built, or has no such part at its end.
    """
    settings = {"n_classes": n_classes, "input_shape": list(input_shape), "transforms": as_record(transforms)}
    if model is None:
        settings |= {"backbone": backbone, "hidden_dim": hidden_dim, "dropout_rate": dropout_rate}
    else:
        settings |= {"model": as_record(model), **({"head": head} if head else {})}
    n_outputs = 1 if n_classes == 2 else n_classes
    with torch.random.fork_rng():
        torch.manual_seed(stream.integer())
        before = [build_module(transform, tuple(input_shape), n_classes) for transform in transforms]
        if model is None:
            features, n_features, mean, std = load_backbone(backbone, weights)
            new_head = nn.Sequential(
                nn.Dropout(dropout_rate),
                nn.Linear(n_features, hidden_dim),
                nn.ReLU(),
                nn.Dropout(dropout_rate),
                nn.Linear(hidden_dim, n_outputs),
            )
            return Classifier(features, new_head, mean, std, before, settings, precision)
        module = build_module(model, tuple(input_shape), n_classes)
        last = take_off(module, head, nn.Sequential(*before)(torch.rand(2, *input_shape))) if head else nn.Identity()
        return Classifier(module, last, None, None, before, settings, precision)


def save_classifier(network: Classifier, path: Path) -> None:
    """Write a network's weights, and what it takes to build it again, as safetensors."""
    settings = {**network.settings, "precision": network.precision}
    weights = {k: v.clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}  # also tied
    save_file(weights, path, {"classifier": json.dumps(settings)})


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
        own = {name: from_record(settings.pop(name)) for name in ("model", "transforms") if name in settings}
        network = make_classifier(Stream(0), weights="none", **settings, **own)
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"{path}: not a stored classifier ({error})") from error
    return network.eval()
