"""Rows of MLflow's database for runs and logged models."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow.entities import LoggedModelStatus
from mlflow.store.tracking.dbmodels import models as rows
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path

from common.results.trees import KeptModel, KeptRun


def run_row(run: KeptRun, experiment_id: int, place: str) -> dict[str, Any]:
    """A run's row; its artifacts lie below the place of its experiment."""
    uri = append_to_uri_path(place, run.run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
    row: dict[str, Any] = {"run_uuid": run.run_id, "name": run.name, "user_id": run.user, "status": run.status}
    row |= {"start_time": run.start, "end_time": run.end, "experiment_id": experiment_id, "artifact_uri": uri}
    unknown: dict[str, Any] = dict.fromkeys(("source_name", "entry_point_name", "source_version"), "")
    return row | unknown | {"source_type": "UNKNOWN", "lifecycle_stage": "active", "deleted_time": None}


def metric_row(run_id: str, key: str, value: float | str, timestamp: int, step: int) -> dict[str, Any]:
    """A metric's row; the value of NaN is 0 there."""
    is_nan = value == "nan"
    row = {"run_uuid": run_id, "key": key, "timestamp": timestamp, "step": step, "is_nan": is_nan}
    return row | {"value": 0.0 if is_nan else value}


def latest_rows(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of rows of one run's metrics the last one of each name."""
    last: dict[str, dict[str, Any]] = {}
    for line in sorted(lines, key=lambda line: (line["step"], line["timestamp"], line["value"])):
        last[line["key"]] = line
    return list(last.values())


def model_rows(model: KeptModel, experiment_id: int, place: str) -> Iterator[Any]:
    """A logged model's row, and those of its tags, parameters and metrics."""
    of = {"model_id": model.model_id, "experiment_id": experiment_id}
    folders = (SqlAlchemyStore.MODELS_FOLDER_NAME, model.model_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
    times = {"creation_timestamp_ms": model.created, "last_updated_timestamp_ms": model.updated}
    status = LoggedModelStatus(model.status).to_int()
    about = {"name": model.name, "model_type": model.kind, "status": status, "source_run_id": model.run_id}
    yield rows.SqlLoggedModel(
        **of, **about, **times, artifact_location=append_to_uri_path(place, *folders), lifecycle_stage="active"
    )
    for key, value in model.tags.items():
        yield rows.SqlLoggedModelTag(**of, tag_key=key, tag_value=value)
    for key, value in model.params.items():
        yield rows.SqlLoggedModelParam(**of, param_key=key, param_value=value)
    for key, number, timestamp, step, run_id in model.metrics:
        names = {"metric_name": key, "metric_value": number, "metric_timestamp_ms": timestamp, "metric_step": step}
        yield rows.SqlLoggedModelMetric(**of, **names, run_id=run_id)


def output_rows(run: KeptRun) -> Iterator[Any]:
    """The rows that say which models a run logged."""
    for model_id, step in run.outputs:
        source = {"source_type": "RUN_OUTPUT", "source_id": run.run_id}
        target = {"destination_type": "MODEL_OUTPUT", "destination_id": model_id, "step": step}
        yield rows.SqlInput(input_uuid=uuid.uuid4().hex, **source, **target)
