"""The runs of a tracking store, by its address."""

from __future__ import annotations

from mlflow.tracking._tracking_service.utils import _get_store

from common.cli import UserError
from common.results.in_database import DatabaseTrees
from common.results.on_server import ServerTrees
from common.results.trees import Trees
from common.tracking.store import check_answers, is_database, is_server, one_line, open_tracking


def open_trees() -> Trees:
    """The runs of the project's own store, or of the one that ``MLFLOW_TRACKING_URI`` names."""
    return trees_at(open_tracking())


def trees_at(uri: str) -> Trees:
    """The runs of a database or of a server.

    Raises
    ------
    UserError
        When it is neither, nothing answers there, or the database cannot be used.
    """
    if is_server(uri):
        check_answers(uri)
        return ServerTrees(uri)
    if not is_database(uri):
        raise UserError(f"{uri}: expected the address of a server or a database: http://… or postgresql://…")
    try:
        return DatabaseTrees(uri, _get_store(uri))
    except Exception as error:  # each database has errors of its own
        raise one_line(uri, error) from None
