"""Where runs are kept: the project's own MLflow database, or a tracking server."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.db.db_types import DATABASE_ENGINES
from requests.exceptions import ChunkedEncodingError
from sqlalchemy import make_url
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from common.cli import UserError, check_project, masked, reason_of
from common.locks import locked
from common.state import state_folder, whole_file, work_folder
from common.tracking import upkeep
from common.tracking.pages import TAGS, show_runs

SQLITE = "sqlite:///"

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class UnreachableError(UserError):
    """A tracking server has not answered for as long as MLflow's client tries: four minutes, unless told otherwise."""


class PatientClient:
    """An :class:`MlflowClient` that asks again when a server ended in the middle of its answer.

    MLflow's own tries, with their pauses, are for what has no answer at all.
    """

    TRIES = 5

    def __init__(self, uri: str):
        self._client = MlflowClient(uri)

    def __getattr__(self, name: str):
        call = getattr(self._client, name)

        def patient(*args, **kwargs):
            for _ in range(self.TRIES - 1):
                try:
                    return call(*args, **kwargs)
                except MlflowException as error:
                    if not isinstance(error.__context__, ChunkedEncodingError):
                        raise
            return call(*args, **kwargs)

        return patient


class Connection:
    """A :class:`PatientClient` whose errors are one line: what cannot be reached now may be there for the next try."""

    def __init__(self, uri: str):
        self.uri = uri
        self._client = PatientClient(uri)

    def __getattr__(self, name: str):
        call = getattr(self._client, name)

        def checked(*args, **kwargs):
            try:
                return call(*args, **kwargs)
            except (MlflowException, OSError) as error:
                raise one_line(self.uri, error) from None  # its message may hold the password

        return checked


def one_line(uri: str, error: Exception) -> UserError:
    """What went wrong with a tracking store, as people and :func:`common.cli.run` want it."""
    message = f"tracking at {uri}: {why(error)}"
    answered = isinstance(error, RestException) or not isinstance(error, MlflowException)
    if answered or not uri.startswith("http"):
        return UserError(message)
    return UnreachableError(f"{message}; the same command goes on when it is back")


def why(error: Exception) -> str:
    """The reason of an error, as :func:`common.cli.reason_of`; of a request, what came of its last try alone."""
    tried = getattr(error.__context__, "args", ())
    if tried and isinstance(tried[0], MaxRetryError) and tried[0].reason:
        error = tried[0].reason
    return re.sub(r"^HTTPS?Connection(Pool)?\(.*?\): ", "", reason_of(error))


@cache
def check_answers(uri: str) -> None:
    """Refuse the address of a server to which there is no connection when a process first looks: not after minutes.

    Of one that has answered before, MLflow's client waits for the answer.

    Raises
    ------
    UserError
    """
    try:
        requests.head(uri, timeout=10)
    except requests.RequestException as error:
        reason = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(reason, NewConnectionError | ConnectTimeoutError):
            told = "nothing answers there; check the address, and that the server runs"
            raise UserError(f"tracking at {uri} cannot be used: {told}") from None


def open_store(experiment: str, waits: bool = False) -> tuple[str, str]:
    """The address of the tracking store and the id of an experiment, made if there is none.

    The store is ``mlflow.db`` with ``mlruns/`` of the project folder, or the server or database that
    ``MLFLOW_TRACKING_URI`` names; see :func:`place_of_artifacts` for where a database has its artifacts.
    A server to which there is no connection is refused at once, unless one `waits` for it, as a run does.

    Raises
    ------
    UserError
        When the server or the folder cannot be used.
    """
    with _opened(waits) as uri:
        client = PatientClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return uri, client.create_experiment(experiment, place_of_artifacts(uri, experiment), TAGS)
            except MlflowException:  # it was made: by another machine, or before the answer was lost
                if (found := client.get_experiment_by_name(experiment)) is None:
                    raise
        show_runs(client, found)
    return uri, found.experiment_id


def open_tracking(waits: bool = False) -> str:
    """The address of the tracking store; see :func:`open_store`."""
    with _opened(waits) as uri:
        return uri


@contextlib.contextmanager
def _opened(waits: bool) -> Iterator[str]:
    check_project()
    database = state_folder() / "mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or upkeep.store_uri(database)
    if is_server(uri):
        try:
            check_answers(uri)
        except UserError:
            if not waits:
                raise
            print(f"tracking at {masked(uri)}: nothing answers there; it is tried for some minutes more", flush=True)
    try:
        with locked(work_folder("mlflow")):
            if uri == upkeep.store_uri(database):
                upkeep.look_after(database)
            yield uri
            if _whole(uri) != _whole(upkeep.store_uri(database)):
                _remember(_whole(uri))
    except UserError:
        raise
    except Exception as error:  # each store has errors of its own
        raise UserError(f"tracking at {uri} cannot be used: {why(error)}") from None


def other_stores(uri: str) -> list[str]:
    """The stores, beside this one and the project's own, that were used from this folder and are not gone."""
    present = {_whole(uri), _whole(upkeep.store_uri(state_folder() / "mlflow.db"))}
    return [known for known in _remembered() if _whole(known) not in present and not _is_gone(known)]


def _remember(uri: str) -> None:
    if uri not in (known := _remembered()):
        with whole_file(work_folder("mlflow") / "stores", "w") as file:
            file.write("\n".join([*(other for other in known if not _is_gone(other)), uri]))


def _remembered() -> list[str]:
    path = work_folder("mlflow") / "stores"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _is_gone(uri: str) -> bool:
    return uri.startswith(SQLITE) and not _file_of(uri).exists()


def _whole(uri: str) -> str:
    """An address without secrets, which means the same from every folder."""
    return f"{SQLITE}{_file_of(uri)}" if uri.startswith(SQLITE) else masked(uri)


def _file_of(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).split("?")[0]).resolve()


def is_server(uri: str) -> bool:
    """Whether an address is that of a server."""
    return uri.startswith(("http:", "https:"))


def is_database(uri: str) -> bool:
    """Whether an address is that of a database, which MLflow's client uses without a server."""
    return uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES


def place_of_artifacts(uri: str, experiment: str) -> str | None:
    """The folder, as an address, of an experiment that is made; None where a server has a place of its own.

    It is ``mlruns/<experiment>`` beside an SQLite database, and of another database, which says nothing of folders,
    ``mlruns/<database>/<experiment>`` of the state folder.
    """
    if not is_database(uri):
        return None
    if uri.startswith(SQLITE):
        return (_file_of(uri).parent / "mlruns" / experiment).as_uri()
    url = make_url(uri)
    parts = (url.get_backend_name(), url.host or url.query.get("host"), url.port, url.database)
    database = re.sub(r"[^\w.]+", "-", " ".join(str(part) for part in parts if part))
    return (state_folder() / "mlruns" / database / experiment).as_uri()
