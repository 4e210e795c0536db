"""Where runs are kept: the project's own MLflow database, or a tracking server."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient

from common.cli import PROJECT, UserError

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def open_store(experiment: str) -> tuple[MlflowClient, str, str]:
    """A connection to the tracking store, its address, and the id of an experiment, made if there is none.

    The store is ``mlflow.db`` with ``mlruns/`` of the project folder, or the server that ``MLFLOW_TRACKING_URI`` names.

    Raises
    ------
    UserError
        When the server or the folder cannot be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{PROJECT / 'mlflow.db'}?timeout=60"
    try:
        (PROJECT / "cache").mkdir(exist_ok=True)
        with FileLock(PROJECT / "cache" / "mlflow.lock"):
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found is None:
                created = client.create_experiment(experiment, artifact_location=_artifacts(uri, experiment))
                return client, uri, created
    except Exception as error:  # each store has errors of its own
        raise UserError(f"tracking at {uri} cannot be used: {reason_of(error)}") from error
    return client, uri, found.experiment_id


def _artifacts(uri: str, experiment: str) -> str | None:
    """``mlruns/<experiment>`` beside an SQLite database; a server has a place of its own."""
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///").split("?")[0]).resolve()
    return (database.parent / "mlruns" / experiment).as_uri()


def reason_of(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
