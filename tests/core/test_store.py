"""The project's own tracking store: made whole, migrated with a backup, or refused; and which others are known."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import InitialBase, _get_alembic_config

from common.cli import UserError
from common.tracking import upkeep
from common.tracking.store import open_tracking, other_stores
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


def test_another_store_is_known_from_any_folder_and_the_own_one_is_no_other_however_it_is_named(
    home, tmp_path, monkeypatch
):
    (tmp_path / "other.db").touch()
    monkeypatch.chdir(tmp_path)
    for address in ("sqlite:///other.db", f"sqlite:///{home}/mlflow.db", "http://me:secret@localhost:1"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        open_tracking(waits=True)
    monkeypatch.chdir(home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert other_stores(open_tracking()) == [f"sqlite:///{tmp_path}/other.db", "http://me:***@localhost:1"]
    assert other_stores(f"sqlite:///{tmp_path}/other.db?timeout=9") == ["http://me:***@localhost:1"]
    (tmp_path / "other.db").unlink()
    assert other_stores(open_tracking()) == ["http://me:***@localhost:1"]
