"""What is read of a run: its artifacts, as they were stored."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import cast

import mlflow

from common.cli import UserError
from common.data.csv_tables import check_same_folds, read_table
from common.tracking.store import Connection


class Readable:
    """A run of a tracking store, known by its address and its id.

    Attributes
    ----------
    uri : str
        Tracking server or database.
    experiment_id, run_id : str
    """

    uri: str
    experiment_id: str
    run_id: str

    @cached_property
    def client(self) -> Connection:
        """Its connection to the server or database."""
        return Connection(self.uri)

    def read_text(self, artifact: str) -> str:
        """A text as :meth:`text` stored it; empty where the run has no such artifact."""
        with self._fluent(), tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
            return Path(self.client.download_artifacts(self.run_id, artifact, folder)).read_text()
        return ""

    def read_table(self, artifact: str):
        """A pandas DataFrame as :meth:`table` stored it.

        Raises
        ------
        UserError
            When the run has no such artifact, or it is damaged, see :func:`common.data.csv_tables.read_table`.
        """
        with self._fluent(), tempfile.TemporaryDirectory() as folder:
            try:
                path = self.client.download_artifacts(self.run_id, artifact, folder)
            except UserError as error:
                raise UserError(f"run {self.run_id}: its artifact {artifact} cannot be read ({error})") from error
            return read_table(Path(path), f"run {self.run_id}: artifact {artifact}")

    def read_results(self):
        """The tables ``predictions.csv`` and ``results.csv``, as two DataFrames; errors as for :meth:`read_table`."""
        predictions, results = self.read_table("predictions.csv"), self.read_table("results.csv")
        check_same_folds(predictions, results, f"run {self.run_id}")
        return predictions, results

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
            mlflow.set_tracking_uri(cast(str, before))  # None: as if it had not been set
            for name, value in environment.items():  # the functions above set these too
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
