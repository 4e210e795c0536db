"""MLflow runs: nested, written from any process, closed with the right status, and never changed once finished."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag

from common import progress
from common.cli import UserError, masked
from common.state import work_folder
from common.tracking.closing import closing
from common.tracking.identity import flatten
from common.tracking.outbox import outbox_of
from common.tracking.pages import runs_page
from common.tracking.seam import tell
from common.tracking.store import Connection

PARENT = "mlflow.parentRunId"


@dataclass
class Run:
    """One open MLflow run. It may be pickled: it holds addresses, and each process opens its own connection.

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
    _logged: set[tuple[str, int]] = field(default_factory=set, repr=False)
    _pending: list[Metric] = field(default_factory=list, repr=False)
    _is_top: bool = field(default=True, repr=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_client": None, "_pending": [], "_is_top": True}

    @property
    def client(self) -> Connection:
        """This process's own connection to the server or database."""
        if self.__dict__.get("_client") is None:
            self._client = Connection(self.uri)
        return self._client

    @contextlib.contextmanager
    def child(self, name: str, **tags: object) -> Iterator[Run]:
        """A run below this one, closed at the end: FINISHED, FAILED after an error, KILLED after an interruption."""
        tags = self.place | {key: str(value) for key, value in tags.items()}
        place = {key: value for key, value in tags.items() if key != "run_level"}
        if self.alone:
            run = replace(self, place=place, _pending=[])
            try:
                yield run
            finally:
                run.flush()
            return

        def create() -> Run:
            of_name = f"tags.`{PARENT}` = '{self.run_id}' and attributes.run_name = '{name}'"
            found = self.client.search_runs([self.experiment_id], of_name, max_results=1) if self.resumed else []
            if found:
                run = Run.again(self.uri, found[0], place)
            else:
                created = self.client.create_run(self.experiment_id, tags={PARENT: self.run_id, **tags}, run_name=name)
                run = Run(self.uri, self.experiment_id, created.info.run_id, place)
            run._is_top, run.brokers, run.verbose = False, self.brokers, self.verbose
            return run

        with closing(create, wait=self._is_top or tags.get("run_level") == "trial") as run:
            yield run

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

    def fold(self, fold) -> contextlib.AbstractContextManager[Run]:
        """A run for one :class:`common.data.Fold`."""
        tags = {"root_split": fold.root_split, "inner_split": fold.inner_split}
        return self.child(f"inner {fold.inner_split}", run_level="fold", **tags)

    def phase(self, name: str) -> contextlib.AbstractContextManager[Run]:
        """A run for one phase of a fit."""
        return self.child(name, run_level="phase", phase=name)

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
    def page(self) -> str:
        """Where MLflow's UI shows the runs of its experiment."""
        return runs_page(self.uri, self.experiment_id)

    @property
    def where(self) -> str:
        """Its place in words: ``root 0 trial 1 inner 0 fine-tuning``; nothing for the root run."""
        levels = {"root_split": "root", "trial": "trial", "inner_split": "inner", "phase": ""}
        return " ".join(f"{word} {self.place[tag]}".strip() for tag, word in levels.items() if tag in self.place)

    @property
    def log(self) -> Log:
        """A callable that records metrics: ``run.log({"dev_loss": 0.5}, step)``."""
        return Log(self)

    def flush(self) -> None:
        """Hand over what waits: it is on disk when this returns, and with the server soon after."""
        if self._pending:
            outbox_of(self.uri).metrics(self.run_id, self._pending)
            self._pending = []

    def params(self, values: object) -> None:
        """Record parameters from a dict or a dataclass; nested ones get dotted names."""
        flat = flatten(asdict(values) if is_dataclass(values) else values)
        self._write(params=[Param(name, masked(str(value))[:6000]) for name, value in flat.items()])

    def tags(self, **values: object) -> None:
        """Set tags."""
        self._write(tags=[RunTag(name, masked(str(value))) for name, value in values.items()])

    def _write(self, **entities: list) -> None:
        if not self.is_over:
            self.client.log_batch(self.run_id, **entities)

    def text(self, text: str | bytes, artifact: str) -> None:
        """Store a text as an artifact, such as ``provenance/packages.txt``; bytes are stored as they are."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(artifact).name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            self.file(path, str(Path(artifact).parent) if "/" in artifact else None)

    def table(self, table, artifact: str) -> None:
        """Store a pandas DataFrame as a CSV artifact, soon; floats as Python's repr, so they read back as they were."""
        text = table.to_csv(index=False, lineterminator="\n")
        self._soon(lambda: self.text(text, artifact))

    def file(self, path: Path, folder: str | None = None) -> None:
        """Store a file as an artifact."""
        if not self.is_over:
            self.client.log_artifact(self.run_id, str(path), folder)

    def model(self, network) -> None:
        """Store a :class:`common.model.Classifier` as ``model.safetensors``, soon; `load_classifier` reads it.

        Its weights must not change any more.
        """
        from common.model import save_classifier

        def save() -> None:
            with tempfile.TemporaryDirectory() as folder:
                save_classifier(network, Path(folder) / "model.safetensors")
                self.file(Path(folder) / "model.safetensors")
            tell(self, "model_saved", "model.safetensors", artifact="model.safetensors")

        self._soon(save)

    def _soon(self, send: Callable[[], None]) -> None:
        """Leave it to the thread that sends; the run is closed after that."""
        if not self.is_over:
            outbox_of(self.uri).call(send)

    def read_table(self, artifact: str):
        """A pandas DataFrame as :meth:`table` stored it.

        Raises
        ------
        UserError
            When the run has no such artifact.
        """
        import pandas as pd

        with self._fluent(), tempfile.TemporaryDirectory() as folder:
            try:
                path = self.client.download_artifacts(self.run_id, artifact, folder)
            except UserError as error:
                raise UserError(f"run {self.run_id}: its artifact {artifact} cannot be read ({error})") from error
            return pd.read_csv(path, dtype={"group": str})  # some are numbers

    @contextlib.contextmanager
    def _fluent(self) -> Iterator[None]:
        """Point mlflow's module-level functions at this run's server and experiment."""
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        environment = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_experiment(experiment_id=self.experiment_id)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)
            for name, value in environment.items():  # the functions above set these too
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@dataclass(frozen=True)
class Log:
    """Records metrics of a run. Those named ``batch_...`` wait for the next others (an epoch's end) to go with."""

    run: Run

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        run, now = self.run, int(time.time() * 1000)
        new = {name: float(value) for name, value in metrics.items() if (name, step) not in run._logged}
        if run.is_over:
            return
        run._logged |= {(name, step) for name in new if run.alone}  # what two levels log for one step is logged once
        if new and "phase" in run.place and not all(name.startswith("batch_") for name in new):
            tell(run, "epoch", str(step), epoch=step, **new)
            if run.verbose and step > 0:
                values = ", ".join(f"{name.replace('_', ' ', 1)} {value:.6f}" for name, value in new.items())
                progress.say(f"Epoch {step} ({run.where}): {values}")
        run._pending += [Metric(name, value, now, step) for name, value in new.items()]
        if not all(name.startswith("batch_") for name in metrics):
            run.flush()
