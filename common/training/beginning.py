"""From flags to settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from common import progress
from common.config.places import first_values
from common.config.settings import TrainingConfig, model_name
from common.training import servers

if TYPE_CHECKING:
    from common.training.compute import Compute

Result = TypeVar("Result")


def configure(config: TrainingConfig, args: argparse.Namespace) -> TrainingConfig:
    """The settings with what the flags change.

    ``--backbone`` brings its own image size unless ``--image-size`` is given; ``--fast`` means one epoch per phase and
    smaller images, unless they are for a pretrained network. A network of one's own without a head has no warm-up.

    Raises
    ------
    UserError
        When there is no such backbone.
    """
    if _has_processes(args):
        backbone = args.backbone or first_values(config).backbone
        servers.prepare([] if config.model or backbone == "small_cnn" else ["common.model.vision"])
    changes: dict[str, object] = {}
    if args.backbone:
        size = args.image_size or _result_of(partial(_native_image_size, args.backbone), args)
        changes |= {"backbone": args.backbone, "image_size": size}
    if args.fast:
        changes |= {"warmup_epochs": 1, "epochs": 1}
        if changes.get("backbone", config.backbone) == "small_cnn" and config.head is None:
            changes["image_size"] = 32
    if args.weights:
        changes["weights"] = args.weights
    if args.image_size:
        changes["image_size"] = args.image_size
    config = replace(config, **changes)
    if config.model is not None and config.head is None and config.warmup_epochs != 0:
        print(f"no warm-up: {model_name(config)} has no head; TrainingConfig.head names the part that is one")
        config = replace(config, warmup_epochs=0)
    return config


def set_up_for(config: TrainingConfig, args: argparse.Namespace) -> Compute:
    """What fits with these settings run on, by the flags; see :func:`set_up`. With ``--engine`` a worker says it.

    Raises
    ------
    UserError
        When the network, its optimizer or its schedules cannot be made with these settings; where they are searched,
        with the first of each. Or when the device is not there.
    """
    parallel_fits = getattr(args, "root_splits", 1) * getattr(args, "inner_splits", 1)
    resolve = partial(_checked, config, args.device, args.precision, parallel_fits, args.fast_math)
    if getattr(args, "engine", "local") != "local":
        from common.engines.remote import on_worker

        return replace(on_worker(args.engine, resolve), mixed=args.mixed_machines)
    return _result_of(resolve, args)


def _has_processes(args: argparse.Namespace) -> bool:
    return getattr(args, "n_jobs", 1) != 1 and args.engine == "local"


def _result_of(call: Callable[[], Result], args: argparse.Namespace) -> Result:
    """Where fits are computed in other processes, from one of them, while this one does what fits wait for."""
    if not _has_processes(args):
        return call()
    from common.training.elsewhere import elsewhere

    wait = elsewhere(call)
    progress.do_before_fits()
    return wait()


def _native_image_size(backbone: str) -> int:
    from common.model.backbones import native_image_size

    return native_image_size(backbone)


def _checked(config: TrainingConfig, device: str, precision: str, parallel_fits: int, fast_math: bool) -> Compute:
    from common.training.networks import check_network
    from common.training.optimizers import check_optimizer
    from common.training.precision import set_up

    first = first_values(config)
    check_optimizer(first)
    check_network(first)
    return set_up(device, precision, parallel_fits, config, fast_math)


def print_epoch(metrics: dict[str, float], epoch: int) -> None:
    """A `log` that prints a line per epoch."""
    if "dev_roc_auc" in metrics:
        print(f"  epoch {epoch:2d}  " + "  ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
