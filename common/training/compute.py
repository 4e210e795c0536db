"""What a fit runs on: device, precision and threads, always with deterministic algorithms."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

from common.cli import UserError
from common.model.classifier import Classifier, build_classifier
from common.seeds import Stream
from common.training.config import TrainingConfig


@dataclass(frozen=True)
class Compute:
    """Where and how a fit computes.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    precision : str
        ``fp32`` or ``bf16`` (autocast).
    threads : int
        CPU threads of one fit. Results depend on it in the last digits, so it never depends on the number of jobs.
    """

    device: str
    precision: str
    threads: int

    @property
    def description(self) -> str:
        """The device with its model, such as ``cuda (NVIDIA H100)``."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.machine()
        return f"{self.device} ({name})"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up(device: str, precision: str, parallel_fits: int = 1) -> Compute:
    """Choose device, precision and threads, and make PyTorch deterministic.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "fp32", "bf16"}
        ``auto`` is bf16 on a GPU that has it, else fp32.
    parallel_fits : int
        Fits that could run side by side; they share the cores.

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
    if precision == "auto":
        precision = "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    compute = Compute(device, precision, max(1, cores() // parallel_fits))
    apply(compute)
    return compute


def apply(compute: Compute) -> None:
    """Set this process up for `compute`."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # deterministic algorithms; a warning where there is none
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(compute.threads)


def new_model(config: TrainingConfig, compute: Compute, stream: Stream) -> Classifier:
    """A fresh :class:`Classifier` for these settings, on the device, its head seeded from `stream`.

    Raises
    ------
    UserError
        When the backbone or its weights cannot be had.
    """
    network = build_classifier(config.backbone, config.weights, config.hidden_dim, config.dropout_rate, stream)
    network.image_size = config.image_size
    network.precision = compute.precision
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
