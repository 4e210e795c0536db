"""The network that a training ends with as a classifier that predicts by itself, as those of the steps do."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import torch

from common.cli import UserError
from common.config.settings import TrainingConfig
from common.model.classifier import Classifier, make_classifier
from common.params.configurable import ModuleClassifier, Preparation
from common.params.net_arch import NetArchClassifier
from common.seeds import Stream


def classifier_of(model: torch.nn.Module, config: TrainingConfig, n_classes: int, pixels: np.ndarray) -> Classifier:
    """Images such as `pixels`, uint8 (n, C, size, size), in, logits out; with the weights of `model`.

    What `config` prepares is done inside. Of a network of one's own the outputs are taken for probabilities where those
    of two images are, else for logits.

    Raises
    ------
    UserError
        When the model cannot be built again from what `params` say, or from its own class and arguments, or does not
        give a value for each class.
    """
    kind: Any = config.model
    if not isinstance(model, NetArchClassifier):
        preparation = {
            key: value for key, value in kind.keywords.items() if key not in ("net_arch", "expected_classes")
        }
        images = torch.from_numpy(pixels[:2]).float() / 255
        outputs = _outputs(model, Preparation(**preparation).eval()(images), n_classes)
        is_sure = bool((outputs >= 0).all() and (outputs.sum(1) - 1).abs().max() < 1e-4)
        kind = partial(ModuleClassifier, module=model, gives_probabilities=is_sure, **preparation)
    network = make_classifier(Stream(0), n_classes, pixels.shape[1:], model=kind)
    inner: Any = network.backbone
    try:
        if '"__main__:' in json.dumps(network.settings):
            raise UserError(f"{type(model).__name__}: expected its classes in a module, found one in the script itself")
        inner.classifier.load_state_dict(model.state_dict())
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{type(model).__name__}: cannot be built again from params or its own arguments") from error
    return network.to(next(model.parameters()).device).eval()


@torch.no_grad()
def _outputs(model: torch.nn.Module, images: torch.Tensor, n_classes: int) -> torch.Tensor:
    outputs = model.eval()(images.to(next(model.parameters()).device))
    expected = (len(images), n_classes)
    if not isinstance(outputs, torch.Tensor) or outputs.shape != expected:
        found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise UserError(f"{type(model).__name__}: expected outputs of {expected} for two images, found {found}")
    return outputs.float()
