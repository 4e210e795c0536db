"""Keeps the project's own tracking store usable: made whole, migrated with a backup, pointing to where it lies now.

``python -m common.tracking.upkeep [FOLDER]`` does it for ``mlflow.db`` of the project folder, or of another one. With
``--ui ADDRESS`` it says where MLflow's UI, at this address, shows the runs of the experiment with the newest run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import cache
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from common import cli
from common.cli import UserError
from common.state import state_folder, whole
from common.tracking.pages import runs_page, show_runs

PLACES = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Columns of MLflow's database that hold absolute paths of artifacts."""


def store_uri(database: Path) -> str:
    """MLflow's address of a database file."""
    return f"sqlite:///{database}?timeout=60"


def look_after(database: Path) -> None:
    """Make the database if there is none, migrate one of an older MLflow, and mend its paths after a move.

    Raises
    ------
    UserError
        When it is damaged, of a newer MLflow, or in a folder as :func:`common.cli.check_project` refuses.
    """
    cli.check_project(database.parent)
    if not database.exists():
        _make(database)
    version = _mend_places(database)
    revisions = _revisions()
    if version == revisions.get_current_head():
        return
    if version not in {known.revision for known in revisions.walk_revisions()}:
        raise UserError(f"{database}: of a newer MLflow than {mlflow.__version__} (schema {version}); install that one")
    _migrate(database, version)


@cache
def _revisions() -> ScriptDirectory:
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _make(database: Path) -> None:
    """Under another name first: a process that is killed on the way leaves no half-made tables."""
    with whole(database) as part:
        MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)


def _migrate(database: Path, version: str) -> None:
    backup = database.with_name(f"{database.name}.{version}.backup")
    with closing(sqlite3.connect(database)) as connection, closing(sqlite3.connect(backup)) as copy:
        connection.backup(copy)
    print(f"{database.name} is of an older MLflow: migrating it; the old one is {backup.name}")
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.copy(backup, database)
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
        raise UserError(f"{database}: cannot be migrated to MLflow {mlflow.__version__} ({reason}); it is as it was")


def _mend_places(database: Path) -> str:
    """Point the paths of artifacts to ``mlruns/`` beside the database, wherever it lay before; returns its version."""
    here = database.resolve().parent / "mlruns"
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            before = _lay_before(connection) if "experiments" in tables else None
            for table in tables & PLACES.keys():
                for column in PLACES[table]:
                    _mend(connection, table, column, before, here)
            return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except (sqlite3.DatabaseError, TypeError) as error:
        raise UserError(_why_unusable(database, error)) from error


def _why_unusable(database: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"{database}: paths of artifacts are to be mended, but it cannot be written ({error}); copy its folder"
    if code.startswith(("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR")):
        return f"{database}: {error}"
    return f"{database}: not a store of MLflow ({error}); move it away to start with an empty one"


def _lay_before(connection: sqlite3.Connection) -> Path | None:
    """The ``mlruns/`` of the time when the paths were right: how the oldest experiment's place ends is known."""
    rows = connection.execute("SELECT experiment_id, name, artifact_location FROM experiments ORDER BY experiment_id")
    for number, name, place in rows:
        for end in (f"/mlruns/{name}", f"/mlruns/{number}"):
            if (path := _path(place)) and path.endswith(end):
                return Path(path.removesuffix(end), "mlruns")
    return None


def _mend(connection: sqlite3.Connection, table: str, column: str, before: Path | None, here: Path) -> None:
    nested = before and here in before.parents
    right = () if nested else (f"{here}/", f"{here.as_uri()}/")  # of thousands of rows, mostly all
    for row, place in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
        if not str(place).startswith(right) and (new := _moved(place, before, here, shared=table == "experiments")):
            change = f"UPDATE {table} SET {column} = ? WHERE rowid = ? AND {column} = ?"
            connection.execute(change, [new.as_uri() if place.startswith("file:") else str(new), row, place])


def _moved(place: object, before: Path | None, here: Path, shared: bool) -> Path | None:
    """Where an artifact lies now, or None where the path is right, or never was one of this store.

    Names of runs and models are unique: what has that name in `here` is what is meant. Names of experiments are
    `shared` with other stores.
    """
    if (path := _path(place)) is None:
        return None
    roots = [folder for folder in Path(path).parents if folder.name == "mlruns"]
    known = next((root for root in roots if root in (before, here)), None)  # the deepest of them
    if known == here:
        return None
    is_there = os.path.exists(path)
    for root in [known] if known else reversed(roots):
        new = here / Path(path).relative_to(root)
        is_here = os.path.exists(new)
        if (shared or is_here or not is_there) if known else (is_here and not (shared and is_there)):
            return new
    return None


def _path(place: object) -> str | None:
    """Of MLflow's address of a local folder; None of another kind of address."""
    path = local_file_uri_to_path(place) if str(place).startswith("file:") else place
    return path if isinstance(path, str) and path.startswith("/") else None


def main(argv: list[str] | None = None) -> None:
    """Look after the store of a folder."""
    flags = cli.parser(__doc__)
    flags.add_argument(
        "folder", nargs="?", type=Path, default=state_folder(), help="with mlflow.db (default: the project)"
    )
    flags.add_argument("--ui", metavar="ADDRESS", help="of MLflow's UI on this folder")
    args = flags.parse_args(argv)
    database = args.folder.resolve() / "mlflow.db"
    if database.parent != state_folder() and not database.is_file():
        raise UserError(f"{database.parent}: no results (mlflow.db)")
    look_after(database)
    if args.ui:
        _say_where_runs_are(database, args.ui)


def _say_where_runs_are(database: Path, address: str) -> None:
    client = MlflowClient(store_uri(database))
    experiments = {experiment.experiment_id: experiment for experiment in client.search_experiments()}
    newest = client.search_runs(list(experiments), max_results=1, order_by=["attributes.start_time DESC"])
    for run in newest:
        experiment = experiments[run.info.experiment_id]
        with contextlib.suppress(MlflowException):  # somebody else's folder, that cannot be written
            show_runs(client, experiment)
        print(f"runs of {experiment.name}: {runs_page(address, experiment.experiment_id)}", flush=True)


if __name__ == "__main__":
    cli.run(main)
