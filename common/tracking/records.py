"""What a fit says while it computes, as records: whoever listens makes runs, metrics and artifacts of them.

A fit opens no tracking store and imports no MLflow. Its metrics are lines in a file beside its checkpoint as well: when
it goes on, here or on another machine, it says them again, and whoever listens leaves out what has arrived.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from common.cli import UserError
from common.interrupting import uninterrupted
from common.state import sync, work_folder
from common.tracking.identity import flatten

Record = tuple[str, tuple[str, ...], str, tuple]
"""The id of the run that the fit was given, the names of the runs below it that lead to the one meant, what, with."""

_emit: Callable[[list[Record]], object] = lambda records: None  # noqa: E731


_machine: dict[str, str] = {}


def hear(emit: Callable[[list[Record]], object]) -> None:
    """Have `emit` called with the records of the fits of this process, as they come."""
    global _emit
    _emit = emit


def of_machine(kind: str) -> None:
    """Have the runs of folds tagged with the kind of this machine, and its name."""
    _machine.update(machine=kind, host=socket.gethostname())


def place_of(tags: dict[str, str]) -> dict[str, str]:
    """What the runs below a run with these tags inherit."""
    return {name: value for name, value in tags.items() if name not in ("run_level", "machine", "host")}


class Placed(ABC):
    """What follows from a run's place in the tree: tags ``root_run_id``, ``root_split``, ``trial``, ``inner_split``,
    ``phase``.
    """

    place: dict[str, str]

    @property
    def study_name(self) -> str:
        """Of the search at this place, for Optuna: such as ``<root run id> root 0``."""
        return f"{self.place['root_run_id']} root {self.place['root_split']}"

    @property
    def checkpoint(self) -> Path:
        """Where a phase stands until the root run is finished; of others, what the names of those below begin with."""
        name = (self.where or "run") + (".pt" if "phase" in self.place else "")
        return work_folder("checkpoints") / self.place["root_run_id"] / name

    @property
    def where(self) -> str:
        """Its place in words: ``root 0 trial 1 inner 0 fine-tuning``; nothing for the root run."""
        levels = {"root_split": "root", "trial": "trial", "inner_split": "inner", "phase": ""}
        return " ".join(f"{word} {self.place[tag]}".strip() for tag, word in levels.items() if tag in self.place)

    @abstractmethod
    def text(self, text: str | bytes, artifact: str) -> None:
        """Store a text as an artifact, such as ``provenance/packages.txt``; bytes are stored as they are."""

    def table(self, table, artifact: str) -> None:
        """Store a pandas DataFrame as a CSV artifact; floats as Python's repr, so they read back as they were."""
        self.text(table.to_csv(index=False, lineterminator="\n"), artifact)

    def model(self, network) -> None:
        """Store a :class:`common.model.Classifier` as ``model.safetensors``; `load_classifier` reads it."""
        from common.model import save_classifier

        with tempfile.TemporaryDirectory() as folder:
            save_classifier(network, path := Path(folder) / "model.safetensors")
            self.text(path.read_bytes(), path.name)


@dataclass(eq=False)
class FitRun(Placed):
    """A run as a fit sees it: it may be anywhere, and what is said to it becomes records.

    Attributes
    ----------
    run_id : str
        Of the run that the fit was given.
    place : dict
        See :class:`Placed`.
    path : tuple of str
        Names of the runs that lead from there to this one.
    """

    run_id: str
    place: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()

    @contextlib.contextmanager
    def child(self, name: str, **tags: object) -> Iterator[FitRun]:
        """A run below this one, closed at the end: FINISHED, FAILED after an error, KILLED after an interruption."""
        texts = self.place | {key: str(value) for key, value in tags.items()}
        texts |= _machine if tags.get("run_level") == "fold" else {}
        run, status = FitRun(self.run_id, place_of(texts), (*self.path, name)), "FINISHED"
        try:
            with uninterrupted():
                run._say("open", texts, int(time.time() * 1000))
                run.say_again()
            yield run
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        except Exception as error:
            status = "FAILED"
            with contextlib.suppress(UserError):
                run.tags(error=f"{type(error).__name__}: {error}"[:5000])
            raise
        finally:
            # an error that is on its way already says more than one while closing
            with contextlib.suppress(*[] if status == "FINISHED" else [UserError]), uninterrupted():
                run.log.flush()
                run._say("close", status, int(time.time() * 1000))

    def fold(self, fold) -> contextlib.AbstractContextManager[FitRun]:
        """A run for one :class:`common.data.Fold`."""
        tags = {"root_split": fold.root_split, "inner_split": fold.inner_split}
        return self.child(f"inner {fold.inner_split}", run_level="fold", **tags)

    def phase(self, name: str) -> contextlib.AbstractContextManager[FitRun]:
        """A run for one phase of a fit."""
        return self.child(name, run_level="phase", phase=name)

    @cached_property
    def log(self) -> Log:
        """A callable that records metrics: ``run.log({"dev_loss": 0.5}, step)``."""
        return Log(self)

    def params(self, values: object) -> None:
        """Record parameters from a dict or a dataclass; nested ones get dotted names."""
        self._say("params", flatten(values))

    def tags(self, **values: object) -> None:
        """Set tags."""
        self._say("tags", values)

    def text(self, text: str | bytes, artifact: str) -> None:
        self._say("text", text, artifact)

    def event(self, kind: str, once: str, payload: dict[str, object]) -> None:
        """Tell the brokers, see :mod:`common.events`."""
        self._say("event", kind, once, payload)

    def say_again(self) -> None:
        """Say the metrics of a process that ended here."""
        if said := _read(self.lines):
            self._say("metrics", said)

    @property
    def lines(self) -> Path | None:
        """The file that keeps the metrics of a phase until the root run is finished."""
        return self.checkpoint.with_suffix(".jsonl") if "phase" in self.place else None

    def _say(self, what: str, *content: object) -> None:
        _emit([(self.run_id, self.path, what, content)])


@dataclass(eq=False)
class Log:
    """Records metrics of a run. Those named ``batch_...`` wait for the next others (an epoch's end) to go with."""

    run: FitRun
    _pending: list[tuple[str, float, int, int]] = field(default_factory=list)

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._pending += [(name, float(value), now, step) for name, value in metrics.items()]
        if not all(name.startswith("batch_") for name in metrics):
            self.flush()

    def flush(self) -> None:
        """Say what waits; of a phase it is on disk before that.

        Raises
        ------
        UserError
            When the disk is full.
        """
        if not self._pending:
            return
        if (path := self.run.lines) is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "a", encoding="utf-8") as file:
                    file.write("\n".join(["", *map(json.dumps, self._pending)]))  # begins a line even after a torn one
                    sync(file)
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}") from error
        said, self._pending = self._pending, []
        self.run._say("metrics", said)


def _read(path: Path | None) -> list[tuple[str, float, int, int]]:
    """The metrics in a file of lines; what no process has written is left out, and a line says so."""
    found, is_damaged = [], False
    try:
        lines = path.read_bytes().split(b"\n") if path else []
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            name, value, timestamp, step = json.loads(line.decode())
            found.append((str(name), float(value), int(timestamp), int(step)))
        except json.JSONDecodeError:  # a torn line
            continue
        except (ArithmeticError, RecursionError, TypeError, ValueError):
            is_damaged = True
    if is_damaged:
        print(f"{path}: holds lines that are no metrics; they are left out", file=sys.stderr)
    return found
