"""Results stay in the project folder, wherever that lies and whatever an experiment is called."""

import shutil
from datetime import datetime

import pytest
from mlflow import MlflowClient

from common.cli import train_parser
from common.tracking.upkeep import store_uri

names = pytest.mark.hostile("an experiment's name leads nowhere but into mlruns/")
folders = pytest.mark.hostile(
    "a project folder whose path tools misread works, or is refused before anything is written"
)
ARGUMENTS = ["--fast", "--json", "--n-jobs", 1, "--root-splits", 1, "--inner-splits", 1, "--data"]


@names
@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "/tmp/x", "a\\b", "a\nb", "a\x1b[2Jb", "%D", "\udc80", "x" * 201],
)
def test_an_experiment_that_is_no_folder_name_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as ended:
        train_parser("", 5).parse_args(["--experiment", name])
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert error.startswith("error: argument --experiment: expected a folder's name: no slashes, ")


@names
@pytest.mark.parametrize("where", ["flag", "config"])
def test_such_a_name_is_refused_before_anything_is_written(where, project, run_script, tiny_pets, tmp_path):
    config = tmp_path / "config.py"
    config.write_text("from common.config import TrainingConfig\nconfig = TrainingConfig()\n")
    flag = ["--experiment", "../../outside"] if where == "flag" else []
    if where == "config":
        config.write_text(config.read_text() + "experiment = '../../outside'\n")
    before = sorted(project.parent.rglob("*"))
    done = run_script("step_5/train.py", config, *flag, *ARGUMENTS, tiny_pets, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.stderr
    named = "argument --experiment: " if where == "flag" else f"{config}: experiment: "
    assert done.stderr.startswith(f"error: {named}") and "'../../outside'" in done.stderr
    assert sorted(project.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    ["EEG %Y-%m-%d", "a?b #1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("%%25", "$HOME", "Größe: 1"))],
)
def test_other_names_are_folders_of_mlruns(name, tmp_path, monkeypatch, empty_stores):
    from common.tracking import store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    shutil.copy(empty_stores / "mlflow.db", tmp_path)
    expanded = datetime.now().strftime(train_parser("", 5).parse_args(["--experiment", name]).experiment)
    uri, experiment = store.open_store(expanded)
    client = MlflowClient(uri)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "kept", "provenance/a.txt")
    assert (tmp_path / "mlruns" / expanded / run / "artifacts" / "provenance" / "a.txt").read_text() == "kept"


@pytest.fixture
def copy_at(project, tmp_path):
    """Copies the code into a folder of this name."""

    def copy(name):
        folder = tmp_path / name
        for part in ("common", *(f"step_{i}" for i in range(1, 6))):
            shutil.copytree(project / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
        return folder

    return copy


@folders
@pytest.mark.parametrize("name", ["a?b", pytest.param("%3Fx", marks=pytest.mark.slow), "{a}"])
def test_a_folder_that_databases_cannot_lie_in_is_one_line_and_nothing_is_written(name, copy_at, run_script, tiny_pets):
    folder = copy_at(name)
    before = sorted(folder.parent.rglob("*"))
    script = "step_5/train.py" if "?" in name else "step_2/analyze_predictions.py"
    arguments = [*ARGUMENTS, tiny_pets] if "train" in script else []
    done = run_script(script, *arguments, folder=folder, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done.stderr
    assert done.stderr.startswith(f"error: {folder}: the project's folder has ")
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.slow
@folders
@pytest.mark.parametrize("name", ["a #1 50% c", "ü'\"&;$HOME[x]~\\@+="])
def test_in_other_folders_runs_models_and_studies_are_kept_and_found(name, copy_at, run_script, tiny_pets):
    folder = copy_at(name)
    done = run_script("step_4/train.py", *ARGUMENTS, tiny_pets, "--register", "pets", folder=folder)
    assert done.returncode == 0, done.stderr
    for script, *arguments in (
        ["step_4/analyze_predictions.py"],
        ["common/production/predict.py", "--model", "pets", tiny_pets],
    ):
        done = run_script(script, *arguments, folder=folder)
        assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.parent.iterdir() if "pets" not in path.name] == [name]
    assert {"mlflow.db", "optuna.db", "mlruns"} <= {path.name for path in folder.iterdir()}
    assert MlflowClient(store_uri(folder / "mlflow.db")).get_registered_model("pets").aliases["production"] == 1
