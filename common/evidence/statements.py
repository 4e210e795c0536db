"""What a report is made of: sentences, tables and pictures, each bound to the artifacts of a run that it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.cli import UserError, escaped
from common.data.csv_tables import check_same_folds, read_table
from common.tracking.runs import Run
from common.tracking.verdict import artifact

RECORD = "parameters and tags"
"""What stands for an artifact where a sentence comes from a run's entries in the tracking store."""
TAGS = ("command", "identity", "fingerprint", "step", "verdict", "run_level")


class Unsayable(Exception):
    """An artifact is not there, or cannot be read; the text says which."""


class Source(NamedTuple):
    """An artifact of a run, by the SHA-256 of its bytes."""

    run_id: str
    artifact: str
    sha256: str


Sources = tuple[Source, ...]
Value = float | int | str | None


class Cell(NamedTuple):
    """A number in a table, as it is shown and in full."""

    text: str
    value: Value


Table = Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Said:
    """A sentence, the numbers in it in full, and where they come from; nowhere, if it has none."""

    text: str
    values: tuple[Value, ...] = ()
    sources: Sources = ()


@dataclass(frozen=True)
class Rows:
    """A table; a cell is a text, or a :class:`Cell`."""

    caption: str
    heads: Sequence[str]
    rows: Table
    sources: Sources = ()


@dataclass(frozen=True)
class Shown:
    """A picture: a PNG file, with its text for those who do not see it."""

    title: str
    png: bytes
    sources: Sources = ()


@dataclass(frozen=True)
class Drawing:
    """An SVG element, and its text."""

    title: str
    svg: str
    sources: Sources = ()


@dataclass(frozen=True)
class Listing:
    """Lines as they are: commands, or what a program has written."""

    title: str
    text: str
    sources: Sources = ()


@dataclass(frozen=True)
class Ask:
    """A question that only a person can answer, and the answer; "" as long as there is none."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Lack:
    """What cannot be said, and why."""

    text: str


@dataclass(frozen=True)
class Headed:
    """A heading within a section."""

    text: str


Block = Said | Rows | Shown | Drawing | Listing | Ask | Lack | Headed


def sentence(template: str, sources: Sources, **values: Value) -> Said:
    """A sentence from a template as :meth:`str.format` takes it, and its values."""
    plain = tuple(value.item() if isinstance(value, np.generic) else value for value in values.values())
    return Said(template.format(**values), plain, sources)


def number(value: float, form: str = ".3f") -> Cell:
    """A number for a table; an empty cell where it is not defined."""
    return Cell("" if value != value else f"{value:{form}}", float(value))


def told(blocks: Callable[[], Iterable[Block]]) -> list[Block]:
    """The blocks, or why they cannot be told."""
    try:
        return list(blocks())
    except Unsayable as error:
        return [Lack(f"cannot be said: {error}")]


class Evidence:
    """What a finished run has left: its artifacts, each read once, and its record.

    Parameters
    ----------
    run : Run
    title : str
        What the report calls it.
    """

    def __init__(self, run: Run, title: str = ""):
        self.run, self.title = run, title
        self._read: dict[str, bytes] = {}
        self._there: dict[str | None, set[str]] = {}

    @cached_property
    def about(self):
        """Its entry in the tracking store, as MLflow gives it."""
        return self.run.client.get_run(self.run.run_id)

    @cached_property
    def record(self) -> dict[str, str]:
        """Its parameters, and the tags and times that results depend on or that say how it went."""
        tags = {name: value for name, value in self.about.data.tags.items() if name in TAGS}
        info = self.about.info
        times = {"start_time": str(info.start_time), "end_time": str(info.end_time), "run_name": info.run_name or ""}
        return {**self.about.data.params, **tags, **times}

    @property
    def identity(self) -> dict[str, str]:
        """What its results depend on, see :func:`common.tracking.identity.identity`; of old runs an artifact."""
        return json.loads(self.record["identity"]) if "identity" in self.record else self.json("identity.json")

    def has(self, name: str) -> bool:
        """Whether the run has such an artifact."""
        folder = name.rpartition("/")[0] or None
        if folder not in self._there:
            self._there[folder] = {file.path for file in self.run.client.list_artifacts(self.run.run_id, folder)}
        return name in self._there[folder]

    def bytes_of(self, name: str) -> bytes:
        """An artifact.

        Raises
        ------
        Unsayable
            When it is not there.
        """
        if name == RECORD:
            return json.dumps(self.record, sort_keys=True).encode()
        if name not in self._read:
            if not self.has(name):
                raise Unsayable(f"artifact {name} of run {self.run.run_id} is gone, or was never made")
            self._read[name] = artifact(self.run.client, self.run.run_id, name)
        return self._read[name]

    def text(self, name: str) -> str:
        """An artifact that is a text, without what moves a terminal's cursor, or hides."""
        lines = self.bytes_of(name).decode(errors="replace").splitlines()
        return "\n".join(map(escaped, lines))

    def json(self, name: str):
        """An artifact that is JSON; :class:`Unsayable` where it cannot be read."""
        try:
            return json.loads(self.bytes_of(name))
        except ValueError as error:
            raise Unsayable(f"artifact {name} of run {self.run.run_id} is no JSON") from error

    def table(self, name: str) -> pd.DataFrame:
        """A table of predictions or results; :class:`Unsayable` where it is damaged, or does not fit the other."""
        found = self._tables[name]
        if isinstance(found, pd.DataFrame):
            return found
        raise Unsayable(found)

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame | str]:
        found: dict[str, pd.DataFrame | str] = {}
        called = f"run {self.run.run_id}"
        for name in ("predictions.csv", "results.csv"):
            try:
                found[name] = read_table(self.bytes_of(name), f"{called}: artifact {name}", name)
            except (UserError, Unsayable) as error:
                found[name] = str(error)
        predictions, results = found.values()
        if isinstance(predictions, pd.DataFrame) and isinstance(results, pd.DataFrame):
            try:
                check_same_folds(predictions, results, called)
            except UserError as error:
                found = dict.fromkeys(found, str(error))
        return found

    def sources(self, *names: str) -> Sources:
        """Artifacts that something is said from."""
        return tuple(Source(self.run.run_id, name, hashlib.sha256(self.bytes_of(name)).hexdigest()) for name in names)
