"""The choice of what a fit runs on: device, threads, and by a rule the precision."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import nn

from common.cli import UserError
from common.config.places import first_values
from common.config.settings import TrainingConfig
from common.config.spaces import Space
from common.model.backbones import load_backbone
from common.seeds import Stream
from common.training.compute import Compute, applied, cores
from common.training.networks import build_network

GAIN = 1.1
"""How many times faster than fp32 bf16 must be measured to be taken."""
PRECISIONS = ("fp32", "bf16")


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
        ``fp32``, ``bf16``, one of them with exceptions (``fp32, densenet121 bf16``), ``auto`` or ``measure``. ``auto``
        is :func:`precision_for` the backbone of `config`; ``measure`` is bf16 where that is measured faster now, which
        may differ from one start to the next. Both are fp32 without a config, or for a network of one's own.
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
    is_to_choose = precision in ("auto", "measure")
    main, *others = ["fp32"] if is_to_choose else precision.split(", ")
    compute = applied(
        Compute(
            device,
            main,
            max(1, cores() // parallel_fits),
            deterministic=device == "cpu" or not fast_math,
            exceptions=dict(other.split() for other in others),
        )
    )
    if is_to_choose and config is not None and config.model is None:
        first = first_values(config)

        def choose(backbone: str) -> str:
            if precision == "auto" or device == "mps":
                return precision_for(backbone, device)
            seconds = step_seconds(replace(first, backbone=backbone), compute)
            return "bf16" if seconds["fp32"] >= GAIN * seconds["bf16"] else "fp32"

        best = {name: choose(name) for name in _backbones(config)}
        main = best.pop(first.backbone)
        compute = replace(compute, precision=main, exceptions={k: v for k, v in best.items() if v != main})
    return compute


def precision_for(backbone: str, device: str) -> str:
    """``bf16`` on a CPU that has instructions for it, for a backbone without depthwise convolutions; else ``fp32``.

    The answer depends on nothing that varies from one start to the next. Measured on AVX-512 bf16, a training step of
    such backbones takes 0.5 to 0.9 of its time in fp32 at 32 to 224 px, and one with depthwise convolutions up to 2.6
    times as long; without these instructions bf16 takes 12 times as long. ``python -m benchmarks --rows precision``
    measures it anew. On a GPU fp32 means TF32, and bf16 was not measured.

    Parameters
    ----------
    backbone : str
        See :func:`common.model.load_backbone`.
    device : {"cpu", "cuda", "mps"}
    """
    if device != "cpu" or not has_bf16_instructions():
        return "fp32"
    with torch.device("meta"):  # its layers, without numbers
        layers = load_backbone(backbone, "none")[0].modules()
    is_depthwise = (isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels for layer in layers)
    return "fp32" if any(is_depthwise) else "bf16"


def has_bf16_instructions() -> bool:
    """Whether the processor multiplies bf16 itself (AVX-512 or AMX)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def step_seconds(config: TrainingConfig, compute: Compute, enough: float = 1.0) -> dict[str, float]:
    """Seconds of the fastest training step in each precision: on a CPU its own seconds, not those of other processes.

    Parameters
    ----------
    config : TrainingConfig
        Without spaces; weights are random, batches of at most 8 images (on a GPU 32).
    enough : float
        Seconds of steps after which no further pair of them is taken.
    """
    n_images = min(config.batch_size, 32 if compute.device == "cuda" else 8)
    images = torch.zeros(n_images, 3, config.image_size, config.image_size, dtype=torch.uint8, device=compute.device)
    networks, steps = {}, {precision: [] for precision in PRECISIONS}
    for precision in PRECISIONS:
        quick, on = replace(config, weights="none"), replace(compute, precision=precision, exceptions={})
        networks[precision] = build_network(quick, 2, images.shape[1:], on, Stream(0)).train()
        _step(networks[precision], images)  # the first of a size sets kernels up
    while len(steps["bf16"]) < 30 and sum(map(sum, steps.values())) < enough:
        for precision, network in networks.items():
            steps[precision].append(_step(network, images))
    return {precision: min(taken) for precision, taken in steps.items()}


def _step(network: nn.Module, images: torch.Tensor) -> float:
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
