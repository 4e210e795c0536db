"""Where fits are computed: in processes of this machine, or on others by a wing."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from common.cli import UserError
from common.training.compute import Compute, apply, cores
from common.training.workers import Hear, Workers, pickled


@dataclass(frozen=True)
class Running:
    """A fit that an engine computes.

    Attributes
    ----------
    result : Future of bytes
        What it returned, as :func:`common.training.workers.pickled` gives it, or what it raised.
    interrupt : callable
        Ends it, if it is not done.
    """

    result: Future[bytes]
    interrupt: Callable[[], None]


class Engine(Protocol):
    """Computes fits."""

    most: int
    """How many fits it may come to compute at once."""

    @property
    def slots(self) -> int:
        """How many fits it computes at once now."""

    def submit(self, call: Callable[[], Any], hear: Hear) -> Running:
        """Compute a fit: a picklable function, which may be called again where its machine is lost.

        `hear` gets the records that it says on the way, in their order, before it is done.
        """


@contextlib.contextmanager
def engine_for(args: argparse.Namespace, compute: Compute) -> Iterator[Engine | None]:
    """The engine that the flags name; None where fits are to be computed here, one after the other.

    Raises
    ------
    UserError
        When there are more fits at once than GPUs have room for.
    """
    if args.engine != "local":
        from common.engines.remote import Remote

        with Remote(args.engine, compute) as engine:
            yield engine
        return
    devices = _devices(args.n_jobs, getattr(args, "fits_per_gpu", 1), compute)
    if len(devices) == 1:
        apply(compute)
        yield None
        return
    with Processes(compute, devices) as engine:
        yield engine
    apply(compute)  # to what is computed here afterwards


def _devices(n_jobs: int | None, fits_per_gpu: int, compute: Compute) -> list[dict[str, str]]:
    """What the environment of each process says of its device."""
    if compute.device != "cuda":
        most = cores() // compute.threads if compute.device == "cpu" else 1
        return [{}] * (n_jobs or max(1, most))
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    gpus = [name.strip() for name in named.split(",")][:count] if named else [str(number) for number in range(count)]
    n_jobs = n_jobs or len(gpus) * fits_per_gpu
    if n_jobs > len(gpus) * fits_per_gpu:
        raise UserError(
            f"--n-jobs {n_jobs}: expected at most {len(gpus) * fits_per_gpu}: {fits_per_gpu} on each of {len(gpus)} "
            "GPUs; --fits-per-gpu allows more"
        )
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(n_jobs)]


class Processes:
    """The engine of one machine.

    Parameters
    ----------
    compute : Compute
    environments : list of dict
        For each process the variables that are its own.
    """

    def __init__(self, compute: Compute, environments: list[dict[str, str]]):
        self.slots = self.most = len(environments)
        self._workers = Workers(pickled(compute), environments)
        self._threads = ThreadPoolExecutor(self.slots)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown()
        self._workers.close()

    def submit(self, call: Callable[[], Any], hear: Hear) -> Running:
        """As :meth:`Engine.submit`."""
        key = uuid4().hex
        result = self._threads.submit(lambda: self._workers.run(key, pickled(call), hear))
        return Running(result, partial(self._workers.interrupt, key))
