"""A root run with all that is below it, and what a tracking store has to do with it: read it, add it, remove it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from common.tracking.runs import PARENT
from common.tracking.store import Connection

ROOT, ADDING, DELETING, MARKED = "root", "adding", "deleting", "marked"
"""Levels: a whole root run, as the tag ``run_level`` says, one that is on its way in, or out, and one that MLflow has
marked as deleted, in a database; only the first kind is shown."""
LEVELS = (ROOT, ADDING, DELETING, MARKED)
ORIGIN = "origin"
"""Tag of a run that came from another store under another id: that id."""
IDS = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
STRICT = ConfigDict(strict=True, extra="forbid")
"""Of what an archive holds: no field more, and none of another kind."""
Whole = Annotated[int, Field(ge=0, le=1 << 47)]
"""The highest as milliseconds: a time in the year 6429."""
Line = tuple[str, float, Whole, Whole]
"""A metric: name, value, milliseconds, step."""
RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
ModelStatus = Literal["UNSPECIFIED", "PENDING", "READY", "FAILED"]


@with_config(STRICT)
class KeptDataset(TypedDict):
    """A data set of a run, as MLflow keeps it."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: dict[str, str]


@with_config(STRICT)
@dataclass
class KeptRun:
    """One run as any store keeps it; times in milliseconds. `inputs` are data sets, `outputs` (model id, step)."""

    run_id: str
    name: str
    user: str
    status: RunStatus
    start: Whole
    end: Whole | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[Line]
    inputs: list[KeptDataset]
    outputs: list[tuple[str, Whole]]

    @property
    def parent(self) -> str | None:
        """The id of the run above it."""
        return self.tags.get(PARENT)


@with_config(STRICT)
@dataclass
class KeptModel:
    """A model that a run logged; metrics are (name, value, milliseconds, step, run id)."""

    model_id: str
    run_id: str
    name: str
    kind: str | None
    status: ModelStatus
    created: Whole
    updated: Whole
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, Whole, Whole, str]]


@dataclass
class Tree:
    """A root run, first in `runs`, those below it, each after the one above it, and their logged models."""

    experiment: str
    runs: list[KeptRun]
    models: list[KeptModel]

    @property
    def root(self) -> KeptRun:
        """The root run."""
        return self.runs[0]

    def renamed(self, new: dict[str, str]) -> Tree:
        """The same tree with other ids, wherever they stand in it; a run whose id changes keeps it as its origin."""
        again: Tree = _replaced(self, lambda text: with_ids(text, new))
        for run, before in zip(again.runs, self.runs, strict=True):
            if run.run_id != before.run_id:
                run.tags[ORIGIN] = before.tags.get(ORIGIN, before.run_id)
        return again


@dataclass
class RootRun:
    """What lists show of a root run: a few of its tags and parameters, its scores, and fits and verdicts below it."""

    run_id: str
    experiment: str
    status: str
    start: int
    end: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    fits: int = 0
    verdicts: list[str] = field(default_factory=list)


class Trees(ABC):
    """The runs of one tracking store."""

    def __init__(self, uri: str):
        self.uri = uri
        self.client = Connection(uri)

    @abstractmethod
    def roots(self, level: str = ROOT, all_params: bool = False) -> list[RootRun]:
        """Root runs, the newest first; unless it is asked for all, with those parameters that lists show."""

    @abstractmethod
    def tree(self, root_id: str) -> Tree:
        """A tree with its whole histories."""

    @abstractmethod
    def members(self) -> dict[str, str]:
        """The root run of each run and logged model there is, deleted ones too; empty for those of other projects."""

    @abstractmethod
    def below(self, root_id: str) -> tuple[list[str], list[str]]:
        """The ids of a tree's runs, the root first, and of their logged models; of runs that are marked deleted too."""

    @abstractmethod
    def free(self, ids: Iterable[str]) -> set[str]:
        """Those ids of runs or models that may be given; a server gives ids of its own."""

    @abstractmethod
    def add(self, tree: Tree, experiment_id: str) -> dict[str, str]:
        """Add a tree whose ids are free, or to a server; returns which other ids runs and models have got."""

    @abstractmethod
    def remove(self, run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
        """Remove the rows of runs and logged models, of those that are there, for good; a server marks them."""

    def artifacts(self, run_id: str) -> ArtifactRepository:
        """Where a run's artifacts are."""
        return get_artifact_repository(self.client.get_run(run_id).info.artifact_uri, self.uri)

    def model_files(self, model_id: str) -> ArtifactRepository:
        """Where a logged model's files are."""
        return get_artifact_repository(self.client.get_logged_model(model_id).artifact_location, self.uri)


def local_folder(files: ArtifactRepository) -> Path | None:
    """Where artifacts lie on this machine; None of those elsewhere."""
    uri = files.artifact_uri
    if uri.startswith("file:") or "://" not in uri:
        return Path(local_file_uri_to_path(uri))
    return None


def plain_dataset(found: Any) -> KeptDataset:
    """A data set of a run, from MLflow's."""
    one: Any = {name: getattr(found.dataset, name) for name in KeptDataset.__annotations__ if name != "tags"}
    return one | {"tags": {tag.key: tag.value for tag in found.tags}}


def datasets_of(run: KeptRun) -> list:
    """A run's data sets, as MLflow takes them."""
    return [
        DatasetInput(
            Dataset(**{name: value for name, value in given.items() if name != "tags"}),
            [InputTag(*item) for item in given["tags"].items()],
        )
        for given in cast(list[dict[str, Any]], run.inputs)
    ]


def kept_model(found: Any) -> KeptModel:
    """A logged model of MLflow's."""
    return KeptModel(
        *(found.model_id, found.source_run_id, found.name, found.model_type, found.status.value),
        *(found.creation_timestamp, found.last_updated_timestamp, dict(found.tags or {}), dict(found.params or {})),
        [(each.key, each.value, each.timestamp, each.step, each.run_id) for each in found.metrics or ()],
    )


def line_key(line: Sequence[Any]) -> tuple:
    """A metric's line, equal to those of the same numbers, NaN too."""
    name, value, timestamp, step = line
    return name, "nan" if math.isnan(value) else value, timestamp, step


def with_ids(text: str, new: dict[str, str]) -> str:
    """A text in which ids of runs and models are replaced by others."""
    return IDS.sub(lambda found: new.get(found[0], found[0]), text)


def in_order(runs: Sequence[KeptRun], root_id: str) -> list[KeptRun]:
    """The runs of a tree, each after the one above it, and by time."""
    ids = {run.run_id for run in runs}
    below: dict[str | None, list[KeptRun]] = {}
    for run in sorted(runs, key=lambda run: (run.start, run.run_id)):
        above = run.parent if run.parent in ids else root_id  # the run above it may have been deleted
        below.setdefault(above if run.run_id != root_id else None, []).append(run)
    ordered, todo = [], [*below.get(None, ())]
    while todo:
        ordered.append(run := todo.pop(0))
        todo += below.get(run.run_id, ())
    return ordered


def _replaced(value: Any, replace: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {name: _replaced(each, replace) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(each, replace) for each in value)
    if isinstance(value, Tree | KeptRun | KeptModel):
        return type(value)(**{each.name: _replaced(getattr(value, each.name), replace) for each in fields(value)})
    return value
