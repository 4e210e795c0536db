"""The runs of a tracking store, by its address."""

from __future__ import annotations

from mlflow.tracking._tracking_service.utils import _get_store

from common.results.in_database import DatabaseTrees
from common.results.on_server import ServerTrees
from common.results.trees import Trees
from common.tracking.store import open_tracking


def open_trees() -> Trees:
    """The runs of the project's own store, or of the one that ``MLFLOW_TRACKING_URI`` names."""
    return trees_at(open_tracking())


def trees_at(uri: str) -> Trees:
    """The runs of a database or of a server."""
    if uri.startswith("http"):
        return ServerTrees(uri)
    return DatabaseTrees(uri, _get_store(uri))
