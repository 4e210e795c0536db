"""MLflow runs: nested, written from any process, closed with the right status, and never changed once finished."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from common.cli import UserError
from common.tracking.interruptions import uninterrupted
from common.tracking.outbox import outbox_of, send_leftovers
from common.tracking.provenance import provenance
from common.tracking.store import open_store

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
        Tags that the runs below inherit: ``root_split``, ``trial``, ``inner_split``, ``phase``.
    """

    uri: str
    experiment_id: str
    run_id: str
    place: dict[str, str] = field(default_factory=dict)
    _pending: list[Metric] = field(default_factory=list, repr=False)
    _travelled: bool = field(default=False, repr=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_client": None, "_pending": [], "_travelled": True}

    @property
    def client(self) -> MlflowClient:
        """This process's own connection to the server or database."""
        if self.__dict__.get("_client") is None:
            self._client = MlflowClient(self.uri)
        return self._client

    @contextlib.contextmanager
    def child(self, name: str, **tags: object) -> Iterator[Run]:
        """A run below this one, closed at the end: FINISHED, FAILED after an error, KILLED after an interruption."""
        tags = self.place | {key: str(value) for key, value in tags.items()}
        place = {key: value for key, value in tags.items() if key != "run_level"}

        def create() -> Run:
            created = self.client.create_run(self.experiment_id, tags={PARENT: self.run_id, **tags}, run_name=name)
            return Run(self.uri, self.experiment_id, created.info.run_id, place)

        with _closing(create, wait=self._travelled) as run:
            yield run

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

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record metrics. Those named ``batch_...`` wait for the next others (an epoch's end) and go with them."""
        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        if not all(name.startswith("batch_") for name in metrics):
            self.flush()

    def flush(self) -> None:
        """Hand over what waits: it is on disk when this returns, and with the server soon after."""
        if self._pending:
            outbox_of(self.uri).metrics(self.run_id, self._pending)
            self._pending = []

    def params(self, values: object) -> None:
        """Record parameters from a dict or a dataclass; nested ones get dotted names."""
        flat = _flatten(asdict(values) if is_dataclass(values) else values)
        self.client.log_batch(self.run_id, params=[Param(name, str(value)[:6000]) for name, value in flat.items()])

    def tags(self, **values: object) -> None:
        """Set tags."""
        self.client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def text(self, text: str | bytes, artifact: str) -> None:
        """Store a text as an artifact, such as ``provenance/packages.txt``; bytes are stored as they are."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(artifact).name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            self.file(path, str(Path(artifact).parent) if "/" in artifact else None)

    def table(self, table, artifact: str) -> None:
        """Store a pandas DataFrame as a CSV artifact; floats as Python's repr, so they read back as they were."""
        self.text(table.to_csv(index=False, lineterminator="\n"), artifact)

    def file(self, path: Path, folder: str | None = None) -> None:
        """Store a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def model(self, network) -> None:
        """Store a :class:`common.model.Classifier` as ``model.safetensors``; `load_classifier` reads it."""
        from common.model import save_classifier

        with tempfile.TemporaryDirectory() as folder:
            save_classifier(network, Path(folder) / "model.safetensors")
            self.file(Path(folder) / "model.safetensors")

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
            except (MlflowException, OSError) as error:
                raise UserError(f"run {self.run_id}: its artifact {artifact} cannot be read ({error})") from error
            return pd.read_csv(path)

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


@contextlib.contextmanager
def start(experiment: str, table, config, compute, stream) -> Iterator[Run]:
    """A new root run of an experiment, with the settings and :func:`provenance` recorded.

    State lies in ``mlflow.db`` and ``mlruns/`` of the project folder, or on the server that ``MLFLOW_TRACKING_URI``
    names.

    Parameters
    ----------
    table : common.data.ImageTable
    config : common.training.TrainingConfig
    compute : common.training.Compute
    stream : common.seeds.Stream
        The root of all random streams.

    Raises
    ------
    UserError
        When the server or the folder cannot be used.
    """
    name = f"{table.name} {config.backbone} seed {stream.root_seed}"
    client, uri, experiment_id = open_store(experiment)

    def create() -> Run:
        created = client.create_run(experiment_id, tags={"run_level": "root"}, run_name=name)
        return Run(uri, experiment_id, created.info.run_id)

    send_leftovers(client)
    with _closing(create, wait=True) as run:
        params, artifacts = provenance(table, stream, compute)
        run.params(params)
        run.params(config)
        for artifact, content in artifacts.items():
            run.text(content, f"provenance/{artifact}")
        yield run


@contextlib.contextmanager
def _closing(create: Callable[[], Run], wait: bool) -> Iterator[Run]:
    """Create a run, and close it at the end with its status, whatever happens and whenever it is interrupted.

    With `wait` all that this process has to send has arrived then: so it is where the process's part of the tree ends.
    """
    run, status = None, RunStatus.FAILED
    try:
        with uninterrupted():
            run = create()
        yield run
        status = RunStatus.FINISHED
    except (KeyboardInterrupt, SystemExit):
        status = RunStatus.KILLED
        raise
    except Exception as error:
        if run is not None:
            run.tags(error=f"{type(error).__name__}: {error}"[:5000])
        raise
    finally:
        if run is not None:
            with uninterrupted():
                run.flush()
                outbox_of(run.uri).end(run.run_id, RunStatus.to_string(status))
                if wait:
                    outbox_of(run.uri).drain()


def _flatten(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
