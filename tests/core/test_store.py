"""The project's own tracking store: made whole, moved with its folder, migrated with a backup, or refused."""

import os
import shutil
import sqlite3
import subprocess
import sys
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


@pytest.fixture(scope="module")
def new_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    look_after(folder / "mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def results(tmp_path, new_store):
    """A project folder with one run that has an artifact."""
    folder = tmp_path / "before"
    folder.mkdir()
    shutil.copy(new_store, folder)
    client = MlflowClient(store_uri(folder / "mlflow.db"))
    experiment = client.create_experiment("step_4", artifact_location=(folder / "mlruns" / "step_4").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "the results", "results.txt")
    client.create_registered_model("pets")
    client.create_model_version("pets", f"{folder}/mlruns/step_4/{run_id}/artifacts/model", run_id)
    return folder, run_id


@pytest.mark.parametrize("move", ["renamed", "copied"])
def test_every_artifact_opens_after_the_folder_was_moved_from_any_working_directory(
    move, results, tmp_path, monkeypatch
):
    before, run_id = results
    after = tmp_path / "a new place" / "of results"
    after.parent.mkdir()
    (shutil.move if move == "renamed" else shutil.copytree)(before, after)
    look_after(after / "mlflow.db")
    monkeypatch.chdir("/")
    client = MlflowClient(store_uri(after / "mlflow.db"))
    assert [file.path for file in client.list_artifacts(run_id)] == ["results.txt"]
    if move == "copied":
        (before / "mlruns" / "step_4" / run_id / "artifacts" / "results.txt").write_text("of the other copy")
    with open(client.download_artifacts(run_id, "results.txt", str(tmp_path))) as file:
        assert file.read() == "the results"
    assert client.get_model_version("pets", 1).source == f"{after}/mlruns/step_4/{run_id}/artifacts/model"
    with closing(sqlite3.connect(after / "mlflow.db")) as connection:
        dump = "\n".join(connection.iterdump())
    assert str(before) not in dump
    plain = [sys.executable, "-m", "mlflow", "runs", "describe", "--run-id", run_id]  # plain MLflow still reads it
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{after / 'mlflow.db'}"}
    done = subprocess.run(plain, capture_output=True, text=True, env=environment)
    assert "mlruns/step_4" in done.stdout, done.stderr


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


def test_a_store_of_a_newer_mlflow_is_refused_and_left_as_it_was(new_store, tmp_path):
    database = tmp_path / "mlflow.db"
    shutil.copy(new_store, database)
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
