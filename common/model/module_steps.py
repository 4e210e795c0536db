"""The steps that a network of one's own may bring: `training_step`, `validation_step`, `configure_optimizers`."""

from __future__ import annotations

import copy
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from common.cli import UserError
from common.model.classifier import Classifier

STEPS = ("configure_optimizers", "training_step", "validation_step")


class ModuleSteps:
    """The steps of a network in one epoch, and the means over its inputs of what they return.

    Parameters
    ----------
    network : common.model.Classifier
        Its backbone has the steps.
    optimizer : Optimizer, optional
        For training.
    """

    def __init__(self, network: Classifier, optimizer: Optimizer | None = None):
        self.network, self.optimizer = network, optimizer
        self._values: dict[str, list[tuple[torch.Tensor, int]]] = defaultdict(list)
        torchmetrics: Any = sys.modules.get("torchmetrics")
        for module in network.modules() if torchmetrics else ():
            if isinstance(module, torchmetrics.Metric):
                module.reset()

    def train(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimizer, by `training_step` itself or with the gradient of its loss, which is returned.

        Raises
        ------
        UserError
            When it returns something else than a loss, or does half of a step.
        """
        assert self.optimizer is not None
        name, stepped = f"{type(self.network.backbone).__name__}.training_step", []
        self.optimizer.zero_grad()
        hook = register_optimizer_step_post_hook(lambda optimizer, *_: stepped.append(optimizer))
        try:
            loss = self._call("training_step", images, labels)
        finally:
            hook.remove()
        weights = set(map(id, self.network.parameters()))
        own = [o for o in stepped if any(id(p) in weights for group in o.param_groups for p in group["params"])]
        if any(optimizer is not self.optimizer for optimizer in own):
            raise UserError(f"{name}: it steps another optimizer than configure_optimizers() sets as self.optimizer")
        if not own:
            if any(p.grad is not None for p in self.network.parameters()):
                raise UserError(f"{name}: it calls backward() and no optimizer.step(); expected both, or neither")
            if not loss.requires_grad:
                raise UserError(f"{name}: expected a loss with a gradient, or a step of self.optimizer; found neither")
            loss.backward()
            self.optimizer.step()
        return loss.detach()

    def validate(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in what `validation_step` returns."""
        self._call("validation_step", images, labels)

    def means(self, part: str) -> dict[str, float]:
        """Of all numbers that the steps returned, named ``<part>_<name>``."""
        found = {}
        for name, pairs in self._values.items():
            values, sizes = zip(*pairs, strict=True)
            found[f"{part}_{name}"] = float(np.average([float(value) for value in values], weights=sizes))
        return found

    def _call(self, step: str, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        module = self.network.backbone
        result = getattr(module, step)((self.network.prepare(images), labels))
        loss, values = _read(result, f"{type(module).__name__}.{step}")
        for name, value in {**values, "loss": loss}.items():
            self._values[name].append((value.detach(), len(labels)))
        return loss


def _read(result: Any, name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, and the other numbers, by name."""
    loss, others = result, {}
    if isinstance(result, dict):
        loss, others = result.get("loss"), result
    elif isinstance(result, tuple) and len(result) == 2 and _is_number(result[1]):
        loss, others = result[0], {"accuracy": result[1]}
    if not _is_number(loss):
        expected = "expected the loss of the batch, a dict with 'loss', or (loss, accuracy)"
        raise UserError(f"{name}: {expected}, found {' '.join(repr(result).split()):.80}")
    return torch.as_tensor(loss), {str(key): torch.as_tensor(v) for key, v in others.items() if _is_number(v)}


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim == 0
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def own_optimizer(module: Any) -> tuple[Optimizer, list[LRScheduler]]:
    """What `configure_optimizers` sets as ``self.optimizer``, or returns: an optimizer, a dict, or a pair of lists.

    Raises
    ------
    UserError
        When it is not one optimizer.
    """
    made = module.configure_optimizers()
    made = getattr(module, "optimizer", None) if made is None else made
    if isinstance(made, dict):
        made = [made.get("optimizer")], [made["lr_scheduler"]] if "lr_scheduler" in made else []
    elif not (isinstance(made, (list, tuple)) and len(made) == 2 and isinstance(made[0], Sequence)):
        made = made if isinstance(made, (list, tuple)) else [made], []
    optimizers, schedulers = made
    if len(optimizers) != 1 or not isinstance(optimizers[0], Optimizer):
        found = f"{len(optimizers)}" if len(optimizers) != 1 else f"{optimizers[0]!r:.80}"
        expected = "expected one optimizer, returned or set as self.optimizer"
        raise UserError(f"{type(module).__name__}.configure_optimizers: {expected}, found {found}")
    return optimizers[0], [s["scheduler"] if isinstance(s, dict) else s for s in schedulers]


def check_module(network: Classifier, n_classes: int, input_shape: Sequence[int]) -> None:
    """Show a classifier with a network of one's own two inputs, and let its steps run once, on a copy.

    Raises
    ------
    UserError
        When it does not take them, gives no logits of `n_classes`, or a step returns what it should not.
    """
    kind, inputs = type(network.backbone).__name__, torch.zeros(2, *input_shape)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            found = tuple(network.eval()(inputs).shape)
    except Exception as error:  # a network of somebody else's raises what it likes
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {kind}: does not take inputs of shape {tuple(input_shape)} ({reason})") from error
    expected = (2,) if n_classes == 2 else (2, n_classes)
    if found != expected:
        of_two = ", (B, 1) or (B, 2)," if n_classes == 2 else f" (B, {n_classes})"
        raise UserError(f"model {kind}: expected logits{of_two} for {n_classes} classes, found {found} for 2 inputs")
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UserError(f"model {kind}: it has no weights to train; expected at least one parameter that is not frozen")
    if not any(hasattr(network.backbone, step) for step in STEPS):
        return
    step, labels = "", torch.arange(2) % n_classes
    try:
        with torch.random.fork_rng():
            tried = copy.deepcopy(network).train()
            if hasattr(tried.backbone, step := "configure_optimizers"):
                optimizer, _ = own_optimizer(tried.backbone)
            else:
                optimizer = torch.optim.SGD(tried.parameters(), 1e-3)
            if hasattr(tried.backbone, step := "training_step"):
                ModuleSteps(tried, optimizer).train(inputs, labels)
            if hasattr(tried.eval().backbone, step := "validation_step"):
                with torch.no_grad():
                    ModuleSteps(tried).validate(inputs, labels)
    except UserError as error:
        raise UserError(f"model {error}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {kind}.{step}: cannot run on a batch of 2 inputs ({reason})") from error
