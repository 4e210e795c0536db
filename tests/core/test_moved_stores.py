"""A project folder that was renamed, moved or copied: its tracking store points to the artifacts where they are now."""

import copy
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from common.cli import UserError
from common.tracking.upkeep import PLACES, look_after, store_uri

RENAMES = {
    "_ for -": ("repro-ai", "repro_ai"),
    "%": ("50%", "100 % done"),
    "signs": ("a#b;c=d", 'a new place/it\'s "q" & [r] * '),
    "composed and decomposed": ("\u00e9t\u00e9", "e\u0301te\u0301"),
    "into a folder of its name": ("p", "p/p"),
    "out of a folder of its name": ("p/p", "p"),
    "to mlruns": ("p", "mlruns"),
    "into a folder mlruns": ("p", "mlruns/p"),
    "up, out of what is its mlruns now": ("q/mlruns/p", "q"),
    "down, into what was its mlruns": ("q", "q/mlruns/p"),
    "mlruns in mlruns": ("mlruns/mlruns", "mlruns/mlruns/mlruns"),
}
IN_SHORT = ("_ for -", "signs", "into a folder of its name", "up, out of what is its mlruns now")


class Project:
    """A folder with a store as the steps make it, and what was in it when it was made."""

    def __init__(self, folder: Path):
        self.folder = folder
        look_after(folder / "mlflow.db")
        self.texts = {}
        for experiment in ("step_4", "50% _ of/mlruns/it?#%41"):
            self.add(experiment, (folder / "mlruns" / experiment).as_uri())
        self.add("Default")  # has a plain path
        client, renamed = self.client(), self.add("old name", (folder / "mlruns" / "old name").as_uri())
        client.rename_experiment(renamed, "new name")
        self._register(client)

    def copy(self, top: Path, name: str) -> "Project":
        """A copy of it, looked after."""
        copied = copy.copy(self)
        copied.texts, copied.top = dict(self.texts), top
        copied.folder = Path(shutil.copytree(self.folder, top / "x" / name))
        look_after(copied.folder / "mlflow.db")
        assert copied.places_elsewhere() == []
        return copied

    def client(self) -> MlflowClient:
        mlflow.set_tracking_uri(store_uri(self.folder / "mlflow.db"))  # parts of the client look there
        return MlflowClient()

    def add(self, experiment: str, location: str | None = None) -> str:
        """A run with an artifact, of an experiment that is made when there is none."""
        client = self.client()
        known = client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else client.create_experiment(experiment, artifact_location=location)
        run_id = client.create_run(number).info.run_id
        self.texts[run_id] = f"results of {run_id}"
        client.log_text(run_id, self.texts[run_id], "tables/results.txt")
        return number

    def _register(self, client: MlflowClient) -> None:
        """A real model, as MLflow 3 stores it, and one at a plain path in a run."""
        (self.folder / "answer.txt").write_text("42")
        run = client.create_run(client.get_experiment_by_name("step_4").experiment_id)
        files = {"loader_module": "test_moved_stores", "data_path": str(self.folder / "answer.txt")}
        run_id = run.info.run_id
        logged = Model.log(None, mlflow.pyfunc, name="answers", run_id=run_id, pip_requirements=[], **files)
        client.create_registered_model("answers")
        client.create_model_version("answers", logged.model_uri, run_id, model_id=logged.model_id)
        self.plain = f"mlruns/step_4/{run_id}/artifacts/model"
        client.create_model_version("answers", f"{self.folder}/{self.plain}", run_id)

    def move(self, name: str) -> None:
        folder = self.top / "x" / name
        aside = self.top / "aside"
        self.folder.rename(aside)
        shutil.rmtree(self.top / "x")
        folder.parent.mkdir(parents=True)
        self.folder = aside.rename(folder)

    def places(self) -> list[str]:
        """Every address of an artifact in the database."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as connection:
            columns = [(table, column) for table in PLACES for column in PLACES[table]]
            return [row[0] for table, column in columns for row in connection.execute(f"SELECT {column} FROM {table}")]

    def places_elsewhere(self) -> list[str]:
        here = (f"{self.folder}/mlruns/", f"{self.folder.as_uri()}/mlruns/", "models:/")
        return [place for place in self.places() if not place.startswith(here)]

    def check(self, scratch: Path) -> None:
        """Everything is listed and read, from this folder; new artifacts go there too."""
        client = self.client()
        for run_id, text in self.texts.items():
            assert [file.path for file in client.list_artifacts(run_id, "tables")] == ["tables/results.txt"]
            scratch.mkdir(exist_ok=True)
            assert Path(client.download_artifacts(run_id, "tables/results.txt", str(scratch))).read_text() == text
        assert mlflow.pyfunc.load_model("models:/answers/1").predict(pd.DataFrame({"x": [1]})) == ["42"]
        assert client.get_model_version("answers", 2).source == f"{self.folder}/{self.plain}"
        assert self.places_elsewhere() == []
        for experiment in client.search_experiments():
            client.log_text(client.create_run(experiment.experiment_id).info.run_id, "new", "new.txt")
        assert len(list((self.folder / "mlruns").rglob("new.txt"))) == len(client.search_experiments())


class Answer:
    def __init__(self, text: str):
        self.text = text

    def predict(self, table: pd.DataFrame, params: object = None) -> list[str]:
        return [self.text] * len(table)


def _load_pyfunc(path: str) -> Answer:
    return Answer(Path(path).read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project that is copied: it takes seconds to make."""
    return Project(tmp_path_factory.mktemp("made"))


@pytest.fixture(autouse=True)
def no_address_stays():
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.hostile("a moved store's artifacts are found")
@pytest.mark.parametrize(
    "rename", [pytest.param(name, marks=[pytest.mark.slow] * (name not in IN_SHORT)) for name in RENAMES]
)
def test_all_artifacts_and_models_open_after_a_rename(rename, made, tmp_path):
    before, after = RENAMES[rename]
    project = made.copy(tmp_path, before)
    project.move(after)
    look_after(project.folder / "mlflow.db")
    project.check(tmp_path / "scratch")


@pytest.mark.hostile("a moved store's artifacts are found")
@pytest.mark.parametrize("name", ["a%41", "a?b=c"])
def test_a_folder_whose_name_mlflow_takes_for_another_is_refused(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"a(%41|\?b=c): the project's folder has '(%41|\?)' in its path"):
        look_after(tmp_path / name / "mlflow.db")
    assert list(tmp_path.rglob("*")) == [tmp_path / name]


@pytest.mark.hostile("a moved store's artifacts are found", cases=3)
@pytest.mark.parametrize("mended", [True, False])
def test_all_artifacts_and_models_open_after_two_moves_and_a_copy(mended, made, tmp_path):
    project = made.copy(tmp_path, "first")
    project.move("mlruns/second")
    if mended:
        look_after(project.folder / "mlflow.db")
    else:  # plain MLflow was used there
        project.add("by hand", str(project.folder / "mlruns" / "7"))
    project.move("third_")
    look_after(project.folder / "mlflow.db")
    original = project.folder
    project.folder = Path(shutil.copytree(original, tmp_path / "third-"))
    for text in original.rglob("results.txt"):
        text.write_text("of the other folder, which is still there")
    look_after(project.folder / "mlflow.db")
    project.check(tmp_path / "scratch")


@pytest.mark.hostile("a moved store's artifacts are found", cases=5)
def test_addresses_that_were_never_of_this_store_stay_as_they_are(made, tmp_path):
    elsewhere = tmp_path / "a large disk" / "mlruns" / "step_4"
    others = [elsewhere.as_uri(), "s3://bucket/mlruns/0", "mlflow-artifacts:/mlruns/9", "/gone/mlruns/step_9"]
    project = made.copy(tmp_path, "before")
    for location in others:
        project.client().create_experiment(f"at {location}", artifact_location=location)
    project.add(f"at {others[0]}")
    project.client().create_model_version("answers", others[1])
    project.move("after")
    look_after(project.folder / "mlflow.db")
    locations = {found.artifact_location for found in project.client().search_experiments()}
    assert set(others) <= locations
    assert project.client().get_model_version("answers", 3).source == others[1]
    run_id = list(project.texts)[-1]
    assert [file.path for file in project.client().list_artifacts(run_id)] == ["tables"]


@pytest.mark.hostile("a moved store's artifacts are found")
def test_a_database_that_was_copied_alone_still_finds_artifacts_and_has_new_ones_beside_it(made, tmp_path):
    project = made.copy(tmp_path, "before")
    (tmp_path / "alone").mkdir()
    project.folder = Path(shutil.copy(project.folder / "mlflow.db", tmp_path / "alone")).parent
    look_after(project.folder / "mlflow.db")
    for run_id in project.texts:
        assert project.client().list_artifacts(run_id)
    project.add("step_4")
    assert len(list((project.folder / "mlruns" / "step_4").rglob("results.txt"))) == 1


@pytest.mark.parametrize("trouble", ["locked", "not writable"])
def test_a_moved_store_that_cannot_be_written_says_so_and_is_whole_later(trouble, made, tmp_path, monkeypatch):
    project = made.copy(tmp_path, "before")
    project.move("after")
    before = project.places()
    real, database = sqlite3.connect, project.folder / "mlflow.db"
    if trouble == "not writable":  # as on a medium that is read-only
        monkeypatch.setattr(sqlite3, "connect", lambda path, **_: real(f"file:{path}?mode=ro", uri=True))
        told = "paths of artifacts are to be mended, but it cannot be written"
    else:
        monkeypatch.setattr(sqlite3, "connect", lambda path, **_: real(path, timeout=0.1))
        told = "database is locked"
    with closing(real(database)) as other:
        if trouble == "locked":
            other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=rf"after/mlflow\.db: {told}"):
            look_after(database)
    monkeypatch.undo()
    assert project.places() == before
    look_after(database)
    project.check(tmp_path / "scratch")


@pytest.mark.hostile("a moved store's artifacts are found")
def test_several_that_open_a_moved_store_at_once_mend_it_together(made, tmp_path):
    project = made.copy(tmp_path, "before")
    project.move("after/mlruns")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(look_after, [project.folder / "mlflow.db"] * 8))
    project.check(tmp_path / "scratch")
