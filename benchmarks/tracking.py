"""Row tracking: the fits of step 3, with their runs in MLflow and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.figures import Figure, alternate, at_most, minima, progress
from benchmarks.null_run import NullRun
from benchmarks.subset import write_subset
from common import tracking
from common.seeds import Stream
from common.state import PROJECT
from step_3 import train as step_3

AIM = 1.02
FLAGS = ("--root-splits", "1", "--inner-splits", "2", "--n-jobs", "1")


@dataclass(frozen=True)
class Size:
    """Flags of step 3, how often, and how many images of each class (None: all drawn pets)."""

    what: str
    flags: tuple[str, ...]
    repetitions: int
    per_class: int | None = None


SMALL = Size("small_cnn 64 px", (), 6)
LARGE = Size("resnet18 224 px", ("--backbone", "resnet18", "--weights", "none", "--fast"), 4, 60)
TINY = Size("small_cnn 32 px", ("--fast",), 1)
SIZES = {"normal": [SMALL, LARGE], "full": [SMALL, LARGE], "fast": [TINY]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Wall time of both sides, for each backbone."""
    sizes = SIZES[size_name]
    with progress("tracking", sum(2 * (size.repetitions + 1) for size in sizes)) as bar:
        return [_measure(size, bar) for size in sizes]


def _measure(size: Size, bar) -> Figure:
    flags = [*FLAGS, *size.flags]
    if size.per_class is not None:
        write_subset(PROJECT / "data" / "drawn", PROJECT / "subset", size.per_class, Stream(0).at("subset"))
        flags += ["--data", str(PROJECT / "subset")]
    whole: dict[str, list[float]] = {"with": [], "without": []}
    sides = {
        "with": partial(_run, flags, tracking.start, whole["with"]),
        "without": partial(_run, flags, _start_nothing, whole["without"]),
    }
    alternate(sides, 1, bar)
    seconds = minima(alternate(sides, size.repetitions, bar))
    return Figure(
        "tracking",
        f"with / without: {size.what}",
        seconds,
        "s",
        **at_most(seconds["with"] / seconds["without"], AIM),
        taken=f"minima of {size.repetitions}",
        note="two fits, until all has arrived and the run is closed; opening it comes once beside that",
        details={"whole script, s": {name: values[1:] for name, values in whole.items()}},
    )


@contextmanager
def _start_nothing(*args: object) -> Iterator[NullRun]:
    yield NullRun()


def _run(flags: list[str], start: Callable, whole: list[float]) -> float:
    """Step 3 with another start of tracking; the seconds in which its run is open."""
    seconds = 0.0

    @contextmanager
    def timed(*args: object) -> Iterator[object]:
        nonlocal seconds
        with start(*args) as run:
            opened = time.perf_counter()
            yield run
        seconds = time.perf_counter() - opened

    began = time.perf_counter()
    with mock.patch.object(tracking, "start", timed):
        step_3.main(flags)
    whole.append(time.perf_counter() - began)
    return seconds
