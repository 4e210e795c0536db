"""Optimizers and learning-rate schedules of a phase, by the settings or by a network's own `configure_optimizers`."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from common.cli import UserError
from common.config.settings import SGD, AdamW, TrainingConfig
from common.model.module_steps import own_optimizer


def make_optimizer(
    network: torch.nn.Module, kind: AdamW | SGD | partial, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of one phase, over the weights that are not frozen.

    A backbone with ``configure_optimizers()``, as Lightning's modules have it, chooses its own.

    Raises
    ------
    UserError
        When an optimizer class does not take its arguments.
    """
    if hasattr(backbone := getattr(network, "backbone", None), "configure_optimizers"):
        optimizer, network.schedulers = own_optimizer(backbone)
        return optimizer
    weights = [p for p in network.parameters() if p.requires_grad]
    common = {"lr": learning_rate, "weight_decay": weight_decay}
    if isinstance(kind, partial):
        return _made(kind, "optimizer", weights, **common)
    common["fused"] = weights[0].is_cuda
    if kind.learning_rate is not None:
        common["lr"] = kind.learning_rate
    if isinstance(kind, SGD):
        return _EagerSGD(weights, momentum=kind.momentum, nesterov=kind.nesterov, **common)
    return _EagerAdamW(weights, betas=(kind.beta1, kind.beta2), **common)


def check_optimizer(config: TrainingConfig) -> None:
    """Make the optimizer and the schedules of a config for a network of one weight.

    Raises
    ------
    UserError
        When a class does not take its arguments.
    """
    network = torch.nn.Linear(1, 1, bias=False)
    Schedules(network, make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay), config)


def _eager(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """An optimizer without what guards its methods in a compiled function: that imports PyTorch's compiler, for 1.5 s.

    Its results are the same, as nothing is compiled here.
    """
    guarded = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in guarded}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(plain["step"])})


_EagerAdamW, _EagerSGD = _eager(torch.optim.AdamW), _eager(torch.optim.SGD)


class Schedules:
    """The learning-rate schedules of a phase, together: a step of each after every epoch.

    Parameters
    ----------
    network : common.model.Classifier
        Its backbone's own schedules come from `make_optimizer`.
    optimizer : Optimizer
    config : TrainingConfig
        ``config.schedulers`` holds partials of classes of ``torch.optim.lr_scheduler``.

    Raises
    ------
    UserError
        When a class does not take its arguments.
    """

    def __init__(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, config: TrainingConfig):
        own = getattr(network, "schedulers", None)
        self.schedulers: list[LRScheduler] = (
            [_made(scheduler, "schedulers", optimizer) for scheduler in config.schedulers] if own is None else own
        )

    def step(self, dev_loss: float | None) -> None:
        """After an epoch; ``ReduceLROnPlateau`` looks at the loss on the dev set, and leaves out epochs without one."""
        for scheduler in self.schedulers:
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            elif dev_loss is not None:
                scheduler.step(dev_loss)

    def state_dict(self) -> list[dict]:
        """Where they stand."""
        return [scheduler.state_dict() for scheduler in self.schedulers]

    def load_state_dict(self, states: list[dict]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        for scheduler, state in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(state)


def _made(kind: partial, field: str, *arguments: Any, **keywords: Any) -> Any:
    kind = kind if isinstance(kind, partial) else partial(kind)
    try:
        return kind(*arguments, **{**keywords, **kind.keywords})
    except (TypeError, ValueError) as error:
        hint = "; leave verbose out: PyTorch no longer takes it, the learning rate is logged" * (
            "verbose" in str(error)
        )
        raise UserError(f"{field}: {kind.func.__name__} cannot be made ({error}){hint}") from error
