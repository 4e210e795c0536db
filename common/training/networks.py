"""Networks for the settings of a training."""

from __future__ import annotations

import torch

from common.cli import UserError
from common.config.settings import TrainingConfig
from common.data.images import ImageTable
from common.model.classifier import Classifier, make_classifier
from common.model.module_steps import check_module
from common.seeds import Stream
from common.training.compute import Compute


def new_model(config: TrainingConfig, table: ImageTable, compute: Compute, stream: Stream) -> Classifier:
    """A fresh :class:`Classifier` for these settings and the table's classes, on the device, seeded from `stream`.

    Raises
    ------
    UserError
        When the network or its weights cannot be had.
    """
    if table.is_arrays:
        for field, found, expected in (
            ("model", config.model is None, "a network that takes arrays"),
            ("augmentation", config.augmentation is not None, "None"),
        ):
            if found:
                raise UserError(f"TrainingConfig.{field}: expected {expected} for the arrays of {table.root}")
    return build_network(config, len(table.classes), table.pixels.shape[1:], compute, stream)


def build_network(
    config: TrainingConfig, n_classes: int, input_shape: tuple[int, ...], compute: Compute, stream: Stream
) -> Classifier:
    """As :func:`new_model`, for images or arrays of `input_shape`."""
    network = make_classifier(
        stream,
        n_classes,
        input_shape,
        config.backbone,
        config.weights,
        config.hidden_dim,
        config.dropout_rate,
        config.model,
        config.transforms,
        compute.exceptions.get(config.backbone, compute.precision),
        config.head,
    )
    if config.model is not None:
        check_module(network, n_classes, input_shape)
    return network.to(compute.device, memory_format=torch.channels_last)


def check_network(config: TrainingConfig) -> None:
    """Build a network with these settings and show it an image; one of one's own is checked when the data are known.

    Raises
    ------
    UserError
        When the backbone or its weights cannot be had, or it does not take images of this size.
    """
    if config.model is not None:
        return
    shape = (3, config.image_size, config.image_size)
    network = build_network(config, 2, shape, Compute("cpu", "fp32", 1), Stream(0)).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--image-size {config.image_size}: does not fit {config.backbone} ({error})") from error
