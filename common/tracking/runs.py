"""MLflow runs: nested, written by one process alone, closed with the right status, and never changed once finished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mlflow.entities import Metric

from common import progress
from common.tracking import records
from common.tracking.closing import closing
from common.tracking.outbox import outbox_of
from common.tracking.pages import runs_page
from common.tracking.records import FitRun, Log, Record, place_of
from common.tracking.seam import OnRecord, tell
from common.tracking.writable import Writable

PARENT = "mlflow.parentRunId"
OF_TEST = ("test_", "ensemble_test_", "optimism")
"""How metrics begin that a run which shows dev scores alone does not log."""

_open: dict[str, Run] = {}


@dataclass(eq=False)
class Run(Writable):
    """One open MLflow run of this process. Where it is pickled, for a fit elsewhere, a :class:`FitRun` arrives.

    Attributes
    ----------
    uri : str
        Tracking server or database.
    experiment_id, run_id : str
    place : dict
        Tags that the runs below inherit: ``root_run_id``, ``root_split``, ``trial``, ``inner_split``, ``phase``.
    resumed, is_over : bool
        Whether it goes on with what an interrupted process began: then the runs below may be there already. And whether
        it had finished before that: then nothing of it is written again.
    brokers : tuple of str
        Where its events and those of the runs below go: ``kafka``, ``pubsub``.
    verbose, alone : bool
        Whether each epoch is printed, and whether the runs below are not made, but write to this one.
    recorded : OnRecord or None
        What the ledger says of it, see :meth:`record`; None where there is none.
    tables : dict of str to DataFrame
        Those that it has stored as artifacts, by their names.
    n_networks : int
        How many networks its root run makes that may be kept: one for each fold.
    """

    uri: str = field(repr=False)
    experiment_id: str
    run_id: str
    place: dict[str, str] = field(default_factory=dict)
    resumed: bool = False
    is_over: bool = False
    brokers: tuple[str, ...] = ()
    verbose: bool = False
    alone: bool = False
    recorded: OnRecord | None = None
    tables: dict[str, Any] = field(default_factory=dict, repr=False)
    n_networks: int = 1
    _predicted: str | bytes = field(default="", repr=False)
    _logged: set[tuple[str, int]] = field(default_factory=set, repr=False)
    _below: dict[tuple[str, ...], Run] = field(default_factory=dict, repr=False)
    _unclosed: set[tuple[str, ...]] = field(default_factory=set, repr=False)

    def __reduce__(self):
        return FitRun, (self.run_id, self.place)

    @contextlib.contextmanager
    def child(self, name: str, **tags: object) -> Iterator[Run]:
        """A run below this one, closed at the end: FINISHED, FAILED after an error, KILLED after an interruption."""
        texts = self.place | {key: str(value) for key, value in tags.items()}
        if self.alone:
            yield replace(self, place=place_of(texts))
            return
        with closing(lambda: self._make(name, texts), wait=tags.get("run_level") != "root_split") as run:
            yield run

    def _make(self, name: str, tags: dict[str, str], start: int | None = None) -> Run:
        place = place_of(tags)
        of_name = f"tags.`{PARENT}` = '{self.run_id}' and attributes.run_name = '{name}'"
        found = self.client.search_runs([self.experiment_id], of_name, max_results=1) if self.resumed else []
        if found:
            run = Run.again(self.uri, found[0], place)
        else:
            tags = {PARENT: self.run_id, **tags}
            created = self.client.create_run(self.experiment_id, start_time=start, tags=tags, run_name=name)
            run = Run(self.uri, self.experiment_id, created.info.run_id, place)
        run.brokers, run.verbose, run.recorded = self.brokers, self.verbose, self.recorded
        run.n_networks = self.n_networks
        return run

    @classmethod
    def again(cls, uri: str, found, place: dict[str, str]) -> Run:
        """An interrupted run, opened again; what has been logged will not be logged twice."""
        run = cls(uri, found.info.experiment_id, found.info.run_id, place, True, found.info.status == "FINISHED")
        if not run.is_over:
            histories = [run.client.get_metric_history(run.run_id, name) for name in found.data.metrics]
            run._logged = {(m.key, m.step) for history in histories for m in history}
            run.client.update_run(run.run_id, status="RUNNING")
        return run

    def root_split(self, root_split: int) -> contextlib.AbstractContextManager[Run]:
        """A run for one outer fold."""
        return self.child(f"root {root_split}", run_level="root_split", root_split=root_split)

    def trial(self, number: int) -> contextlib.AbstractContextManager[Run]:
        """A run for one trial of a search."""
        return self.child(f"trial {number}", run_level="trial", trial=number)

    def fold(self, fold) -> contextlib.AbstractContextManager[FitRun]:
        """As :meth:`FitRun.fold`."""
        return self._as_fit.fold(fold)

    def phase(self, name: str) -> contextlib.AbstractContextManager[FitRun]:
        """As :meth:`FitRun.phase`."""
        return self._as_fit.phase(name)

    @property
    def log(self) -> Log:
        """A callable that records metrics: ``run.log({"dev_loss": 0.5}, step)``."""
        return self._as_fit.log

    @cached_property
    def _as_fit(self) -> FitRun:
        return FitRun(self.run_id, self.place)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Take in what fits say to this run until the end of the block."""
        _open[self.run_id] = self
        try:
            yield
        finally:
            self.log.flush()
            _open.pop(self.run_id, None)

    @property
    def page(self) -> str:
        """Where MLflow's UI shows the runs of its experiment."""
        return runs_page(self.uri, self.experiment_id)

    def open(self, path: tuple[str, ...], tags: dict[str, str], start: int) -> None:
        """Make the run that a fit has opened below this one, `start` in milliseconds, or go on with it."""
        parent, known = self._at(path[:-1]), self._below.get(path)
        if self.alone:
            self._below[path] = replace(self, place=place_of(tags))
        elif known is None:
            self._below[path] = parent._make(path[-1], tags, start)
        elif not known.is_over:  # a fit that begins again, as its machine is gone
            known.client.update_run(known.run_id, status="RUNNING")
        self._unclosed.add(path)

    def close(self, path: tuple[str, ...], status: str, end: int) -> None:
        """Close the run that a fit has closed, `end` in milliseconds; once it has finished nothing more is written."""
        run = self._at(path)
        self._unclosed.discard(path)
        if not (run.is_over or self.alone):
            outbox_of(self.uri).end(run.run_id, status, end)
            run.is_over = status == "FINISHED"
            run._logged = run._logged if not run.is_over else set()

    def end(self, status: str) -> None:
        """Close this run, and before it those below that no fit has closed, as it was interrupted or is lost."""
        for path in sorted(self._unclosed, key=len, reverse=True):
            self.close(path, "KILLED", int(time.time() * 1000))
        outbox_of(self.uri).end(self.run_id, status)

    def metrics(self, lines: list[tuple[str, float, int, int]]) -> None:
        """Record metrics (name, value, milliseconds, step) that are not recorded yet."""
        if self.is_over:
            return
        if self.recorded and self.recorded.sealed:
            lines = [line for line in lines if not line[0].startswith(OF_TEST)]
        new = [line for line in lines if (line[0], line[3]) not in self._logged]
        self._logged |= {(name, step) for name, _, _, step in new}
        outbox_of(self.uri).metrics(self.run_id, [Metric(*line) for line in new])
        epochs: dict[int, dict[str, float]] = {}
        for name, value, _, step in new if "phase" in self.place else ():
            if not name.startswith("batch_"):
                epochs.setdefault(step, {})[name] = value
        for epoch, values in epochs.items():
            tell(self, "epoch", str(epoch), epoch=epoch, **values)
            if self.verbose and epoch > 0:
                text = ", ".join(f"{name.replace('_', ' ', 1)} {value:.6f}" for name, value in values.items())
                progress.say(f"Epoch {epoch} ({self.where}): {text}")

    def _at(self, path: tuple[str, ...]) -> Run:
        return self._below[path] if path else self


def open_root() -> Run | None:
    """The root run that is open in this process."""
    return next((run for run in _open.values() if run.run_id == run.place.get("root_run_id")), None)


def deliver(said: list[Record]) -> None:
    """Write what a fit has said to its runs, soon.

    Raises
    ------
    UserError
        When the server could not be reached for longer than MLflow tries.
    """
    if (run := _open.get(said[0][0])) is not None:
        outbox_of(run.uri).call(lambda: _take(run, said))


def _take(run: Run, said: list[Record]) -> None:
    for _, path, what, content in said:
        if what == "open":
            run.open(path, *content)
        elif path and path not in run._below:  # interrupted before it was open
            continue
        elif what == "close":
            run.close(path, *content)
        elif what == "tags":
            run._at(path).tags(**content[0])
        else:
            getattr(run._at(path), what)(*content)


records.hear(deliver)
