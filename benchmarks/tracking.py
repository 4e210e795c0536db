"""Row tracking: the fits of step 3, with their runs in MLflow and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag

from benchmarks.figures import Figure, alternate, at_most, minima, minima_of, progress
from benchmarks.limit import OF_THE_LIMIT
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


SMALL = Size("small_cnn 64 px", (), 4)
LARGE = Size("resnet18 224 px", ("--backbone", "resnet18", "--weights", "none", "--fast"), 3, 60)
TINY = Size("small_cnn 32 px", ("--fast",), 1)
SIZES = {"normal": [SMALL, LARGE], "full": [SMALL, LARGE], "fast": [TINY]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Wall time of both sides, for each backbone."""
    sizes = SIZES[size_name]
    with progress("tracking", sum(3 * size.repetitions + 2 for size in sizes)) as bar:
        return [figure for size in sizes for figure in _measure(size, bar)]


def _measure(size: Size, bar) -> list[Figure]:
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
    seconds = minima(alternate({**sides, "MLflow alone": _replay}, size.repetitions, bar))
    alone = seconds.pop("MLflow alone")
    limit = 1 + alone / seconds["without"]
    taken = minima_of(size.repetitions)
    return [
        Figure(
            "tracking",
            f"with / without: {size.what}",
            seconds,
            "s",
            **at_most(seconds["with"] / seconds["without"], round(max(AIM, limit / OF_THE_LIMIT), 2)),
            taken=taken,
            note="two fits, until all has arrived and the run is closed; opening it comes once beside that",
            details={"whole script, s": {name: values[1:] for name, values in whole.items()}},
        ),
        Figure(
            "tracking",
            f"without, and then MLflow alone / without: {size.what}",
            {"without": seconds["without"], "MLflow alone": alone},
            "s",
            limit,
            taken=taken,
            note="MLflow alone: its client writes down the same runs, in as few calls as it has; the aim is 1.02, or "
            f"1 / {OF_THE_LIMIT} of this where that is more",
        ),
    ]


def _replay() -> float:
    """Seconds in which MLflow's client writes down, in as few calls as it has, what the last run has recorded."""
    client = MlflowClient(f"sqlite:///{PROJECT / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("step_3").experiment_id
    (newest,) = client.search_runs([experiment], "tags.run_level = 'root'", max_results=1)
    runs = client.search_runs([experiment], f"attributes.start_time >= {newest.info.start_time}")
    copies = client.get_experiment_by_name("copies")
    copies_id = copies.experiment_id if copies else client.create_experiment("copies")
    histories = [
        [m for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)] for run in runs
    ]
    folders = [Path(run.info.artifact_uri.removeprefix("file://")) for run in runs]
    began = time.perf_counter()
    for run, history, folder in zip(runs, histories, folders, strict=True):
        copied = client.create_run(copies_id, run.info.start_time).info.run_id
        tags = [RunTag(key, value) for key, value in run.data.tags.items()]
        client.log_batch(copied, history, [Param(key, value) for key, value in run.data.params.items()], tags)
        if folder.is_dir():
            client.log_artifacts(copied, str(folder))
        client.set_terminated(copied)
    return time.perf_counter() - began


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
