"""What a fit runs on: device, precision and threads, with deterministic algorithms unless speed matters more."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.tracking import records

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


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
    exceptions : dict from backbone to precision
        Backbones of a search that are faster in another precision.
    deterministic : bool
        Whether two fits give the same results to the last digit; on a CPU always.
    description, cpu : str
        The device with its model, such as ``cuda (NVIDIA H100)``, and the processor.
    machine : str
        The kind of machine: what the last digits of results depend on, besides the precision. See
        :func:`describe_machine`.
    mixed : bool
        Whether fits may run on machines of other kinds, too.
    """

    device: str
    precision: str
    threads: int
    exceptions: dict[str, str] = field(default_factory=dict)
    deterministic: bool = True
    description: str = ""
    cpu: str = ""
    machine: str = ""
    mixed: bool = False

    @property
    def precision_description(self) -> str:
        """The precision, with that of each exception, such as ``fp32, densenet121 bf16``."""
        return ", ".join([self.precision, *(f"{name} {value}" for name, value in self.exceptions.items())])

    def begin(self, call: Callable[[], Result]) -> Callable[[], Result]:
        """Begin a picklable call where fits are computed, on this machine: see :mod:`common.training.elsewhere`."""
        from common.training.elsewhere import elsewhere

        return elsewhere(call)

    def apply_elsewhere(self) -> str | None:
        """Set a worker's process up; what is wrong when this is another kind of machine than it was made on."""
        apply(self)
        machine = describe_machine(self.device)
        if machine == self.machine or self.mixed or not self.machine:
            return None
        return (
            f"{socket.gethostname()}: {machine}; expected {self.machine}, as fits began on; --mixed-machines allows it"
        )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def apply(compute: Compute) -> None:
    """Set this process up for `compute`."""
    import torch  # a script whose fits are computed elsewhere gets to its first one without it

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # deterministic algorithms; a warning where there is none
    torch.set_deterministic_debug_mode("warn" if compute.deterministic else "default")
    torch.backends.cudnn.benchmark = not compute.deterministic
    torch.backends.fp32_precision = "tf32" if compute.device == "cuda" else "none"
    torch.set_num_threads(compute.threads)
    records.of_machine(describe_machine(compute.device))


def applied(compute: Compute) -> Compute:
    """Set this process up for `compute`; returns it with what this machine is."""
    import torch

    apply(compute)
    name = torch.cuda.get_device_name() if compute.device == "cuda" else platform.machine()
    of = {"description": f"{compute.device} ({name})", "cpu": processor(), "machine": describe_machine(compute.device)}
    return replace(compute, **of)


def processor() -> str:
    """The model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe_machine(device: torch.device | str) -> str:
    """What the last digits of a computation depend on, besides its inputs: PyTorch, processor, device, threads."""
    import torch

    parts = [
        torch.__version__,
        processor(),
        torch.backends.cpu.get_cpu_capability(),
        f"{torch.get_num_threads()} threads",
    ]
    if torch.device(device).type == "cuda":
        parts.append(f"{torch.cuda.get_device_name()} {torch.version.cuda} {torch.backends.fp32_precision}")
    if torch.device(device).type != "cpu" and not torch.are_deterministic_algorithms_enabled():
        parts.append("fast math")
    return ", ".join([*parts, torch.device(device).type])
