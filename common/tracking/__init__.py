"""What happened, kept in MLflow: runs, their metrics and artifacts, and where they come from."""

import os

import lazy_loader

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with its password, for every run

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
