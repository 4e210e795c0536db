"""Keeps the project's own tracking store usable: made whole, migrated with a backup, pointing to where it lies now.

``python -m common.tracking.upkeep`` does it for ``mlflow.db`` of the project folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from mlflow import MlflowClient

from common import cli
from common.cli import UserError

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
        When it is damaged, or of a newer MLflow.
    """
    if not database.exists():
        _make(database)
    version = _mend_places(database)
    revisions = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if version == revisions.get_current_head():
        return
    if version not in {known.revision for known in revisions.walk_revisions()}:
        raise UserError(f"{database}: of a newer MLflow than {mlflow.__version__} (schema {version}); install that one")
    _migrate(database, version)


def _make(database: Path) -> None:
    """Under another name first: a process that is killed on the way leaves no half-made tables."""
    part = database.with_name(f".{database.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        client = MlflowClient(f"sqlite:///{part}")
        client.search_experiments(max_results=1)
        os.replace(part, database)
    finally:
        part.unlink(missing_ok=True)


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
    """Point the paths of artifacts to ``mlruns/`` beside the database, wherever they were; returns its version."""
    here = str(database.resolve().parent / "mlruns")
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in tables & PLACES.keys():
                for column in PLACES[table]:
                    _mend(connection, table, column, here)
            return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except (sqlite3.DatabaseError, TypeError) as error:
        raise UserError(
            f"{database}: not a store of MLflow ({error}); move it away to start with an empty one"
        ) from error


def _mend(connection: sqlite3.Connection, table: str, column: str, here: str) -> None:
    elsewhere = f"{column} LIKE '%/mlruns/%' AND {column} NOT LIKE ? AND {column} NOT LIKE ?"
    known = [f"{here}/%", f"{Path(here).as_uri()}/%"]
    for (place,) in connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {elsewhere}", known).fetchall():
        if match := re.fullmatch(r"(file://)?/.*?/mlruns(/.*)", place):
            mended = f"{Path(here).as_uri() if match[1] else here}{match[2]}"
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [mended, place])


if __name__ == "__main__":
    cli.run(lambda: look_after(cli.PROJECT / "mlflow.db"))
