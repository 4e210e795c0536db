"""The project's own tracking store: made whole, migrated with a backup, or refused."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import InitialBase, _get_alembic_config

from common.cli import UserError
from common.tracking import upkeep
from common.tracking.upkeep import look_after, store_uri

OLDER = "6f8d9c3b2a1e"


@pytest.mark.slow
def test_a_store_of_an_older_mlflow_is_migrated_and_the_old_one_is_kept(tmp_path, capsys):
    database = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    engine.dispose()
    look_after(database)
    assert f"the old one is mlflow.db.{OLDER}.backup" in capsys.readouterr().out
    assert MlflowClient(store_uri(database)).search_experiments() is not None
    with closing(sqlite3.connect(tmp_path / f"mlflow.db.{OLDER}.backup")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(OLDER,)]


def test_a_store_of_a_newer_mlflow_is_refused_and_left_as_it_was(tmp_path):
    database = tmp_path / "mlflow.db"
    for _ in range(2):  # makes it, and finds it made
        look_after(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = database.read_bytes()
    with pytest.raises(UserError, match=r"mlflow\.db: of a newer MLflow than .*ffffffffffff"):
        look_after(database)
    assert database.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_damaged_store_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(UserError, match=r"mlflow\.db: not a "):
        look_after(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == content


def test_making_a_store_that_is_interrupted_leaves_none(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(upkeep, "MlflowClient", interrupted)
        look_after(tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()
