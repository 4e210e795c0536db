"""The choice of what a fit runs on; a short measurement decides its precision."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from filelock import FileLock

from common.cli import UserError
from common.config.places import first_values
from common.config.settings import TrainingConfig
from common.config.spaces import Space
from common.data import cache
from common.seeds import Stream
from common.training.compute import Compute, apply, cores, describe_machine
from common.training.networks import build_network

GAIN = 1.4
"""How many times faster than fp32 bf16 must be to be chosen: results of the two differ, so the choice must not flip."""

ENOUGH = 1.0
"""Seconds of steps after which no further pair of them is taken: long steps vary little."""


def set_up(
    device: str = "auto",
    precision: str = "auto",
    parallel_fits: int = 1,
    config: TrainingConfig | None = None,
    fast_math: bool = False,
) -> Compute:
    """Choose device, threads and precision, and make PyTorch deterministic.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
    precision : str
        ``fp32``, ``bf16``, one of them with exceptions (``fp32, densenet121 bf16``), or ``auto``. That
        is what trains the backbone of `config` clearly faster, measured once on a machine and remembered in
        ``cache/precision.json``; fp32 without a config, or for a network of one's own.
    parallel_fits : int
        Fits that could run side by side; they share the cores.
    config : TrainingConfig, optional
        Where backbones are searched, each has its own precision.
    fast_math : bool
        On a GPU, allow algorithms whose results differ from run to run in the last digits.

    Raises
    ------
    UserError
        When the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name, there in available.items() if there)
    elif not available[device]:
        raise UserError(f"--device {device}: not available on this machine; expected auto or cpu")
    main, *others = precision.split(", ")
    compute = Compute(
        device,
        "fp32" if main == "auto" else main,
        max(1, cores() // parallel_fits),
        deterministic=device == "cpu" or not fast_math,
        exceptions=dict(other.split() for other in others),
    )
    apply(compute)
    if precision == "auto" and config is not None and config.model is None:
        first = first_values(config)
        best = {name: fastest_precision(replace(first, backbone=name), compute) for name in _backbones(config)}
        main = best.pop(first.backbone)
        compute = replace(compute, precision=main, exceptions={k: v for k, v in best.items() if v != main})
    return compute


def fastest_precision(config: TrainingConfig, compute: Compute) -> str:
    """``bf16`` if it trains this backbone at least `GAIN` times as fast as fp32 on this machine, else ``fp32``.

    Measured once: results depend on it, so the answer is remembered in ``cache/precision.json``, whatever else is
    cached. Where that cannot be written, it is measured at each call.
    """
    if compute.device == "mps":
        return "fp32"
    key = f"{config.backbone} {config.image_size} px on {describe_machine(compute.device)}"
    path = cache.CACHE / "precision.json"
    try:
        cache.CACHE.mkdir(exist_ok=True)
        with FileLock(f"{path}.lock"):
            if (known := _read(path)).get(key) not in ("fp32", "bf16"):
                known[key] = _measure(config, compute)
                part = path.with_suffix(".part")
                part.write_text(json.dumps(known, indent=1))
                os.replace(part, path)
            return known[key]
    except OSError:
        return _measure(config, compute)


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _measure(config: TrainingConfig, compute: Compute) -> str:
    n_images = min(config.batch_size, 32 if compute.device == "cuda" else 8)
    images = torch.zeros(n_images, 3, config.image_size, config.image_size, dtype=torch.uint8, device=compute.device)
    networks = {}
    for precision in ("fp32", "bf16"):
        quick, on = replace(config, weights="none"), replace(compute, precision=precision)
        networks[precision] = build_network(quick, 2, images.shape[1:], on, Stream(0)).train()
        _step(networks[precision], images[:2])
    pairs = []
    while len(pairs) < 30 and sum(map(sum, pairs)) < ENOUGH:
        pairs.append([_step(network, images) for network in networks.values()])
    fp32, bf16 = map(median, zip(*pairs, strict=True))
    return "bf16" if fp32 >= GAIN * bf16 else "fp32"


def _step(network: torch.nn.Module, images: torch.Tensor) -> float:
    """Seconds of a step: on a CPU its own, which other processes do not change much."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    started = clock()
    network(images).sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - started


def _backbones(config: TrainingConfig) -> list[str]:
    searched = isinstance(config.backbone, Space)
    choices = [choice for _, choice in config.backbone.extremes()] if searched else [config.backbone]
    return [first_values(replace(config, backbone=choice)).backbone for choice in choices]
