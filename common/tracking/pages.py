"""The page of MLflow's UI that shows the runs of an experiment: root runs, with their score, data and duration."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

HERE = "http://127.0.0.1:5000"
"""Where ``run_mlflow_ui.bash`` answers."""
VIEW = "runs"
"""The name under which an experiment keeps what the page shows."""
_STATE = {
    "searchFilter": "tags.run_level = 'root'",
    "orderByKey": "attributes.start_time",
    "orderByAsc": False,
    "selectedColumns": ["attributes.`Dataset`", "metrics.`test_roc_auc`"],
}
TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{VIEW}": json.dumps(_STATE),
}
"""Tags of an experiment. The first one is for MLflow before its switch between GenAI and model training, which each
browser keeps for itself and only an address overrides; the second one is the filter and columns of the page."""


def runs_page(uri: str, experiment_id: str) -> str:
    """The address of an experiment's runs, on a tracking server or, of a database, on ``run_mlflow_ui.bash``."""
    parts = urlsplit(uri if uri.startswith("http") else HERE)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")  # without a password
    return f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def show_runs(client, experiment) -> None:
    """Give an experiment of before the tags that it has now."""
    for name, value in TAGS.items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)
