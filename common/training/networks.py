"""Networks for the settings of a training."""

from __future__ import annotations

import torch

from common.cli import UserError
from common.model.classifier import Classifier, build_classifier
from common.seeds import Stream
from common.training.compute import Compute
from common.training.config import TrainingConfig


def new_model(config: TrainingConfig, compute: Compute, stream: Stream) -> Classifier:
    """A fresh :class:`Classifier` for these settings, on the device, its head seeded from `stream`.

    Raises
    ------
    UserError
        When the backbone or its weights cannot be had.
    """
    network = build_classifier(config.backbone, config.weights, config.hidden_dim, config.dropout_rate, stream)
    network.image_size = config.image_size
    network.precision = compute.exceptions.get(config.backbone, compute.precision)
    return network.to(compute.device, memory_format=torch.channels_last)


def check_network(config: TrainingConfig) -> None:
    """Build a network with these settings and show it an image.

    Raises
    ------
    UserError
        When the backbone or its weights cannot be had, or it does not take images of this size.
    """
    network = new_model(config, Compute("cpu", "fp32", 1), Stream(0)).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, config.image_size, config.image_size))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--image-size {config.image_size}: does not fit {config.backbone} ({error})") from error
