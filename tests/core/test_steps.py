"""The five steps, run as a user runs them: they end with a table, and repeat to the last digit."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient

from conftest import PROJECT

KEYS = ["step", "run_id", "seconds", "fits", "test_roc_auc", "ci", "resumed"]
PLOTS = {1: 5, 2: 5, 3: 6, 4: 6, 5: 6}
DRIVER = """
import contextlib, json, sys
from importlib import import_module
import common.plots.visualizer

common.plots.visualizer.MOST = 1  # test_brain.py has a run with all plots of its search, which take as long as all else
for line in sys.stdin:
    module, argv = json.loads(line)
    with contextlib.redirect_stdout(sys.stderr):
        outcome = import_module(module).main(argv)
    print(json.dumps(outcome if isinstance(outcome, dict) else None), flush=True)
"""


@pytest.fixture(scope="module")
def main(project, tmp_path_factory):
    """Calls `main` of a script, such as ``step_3.train``, in one process for all tests; returns what it returns."""
    log = tmp_path_factory.mktemp("main") / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

        def call(module, *argv):
            process.stdin.write(json.dumps([module, [str(word) for word in argv]]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, log.read_text()[-3000:]
            return json.loads(answer)

        yield call
        process.stdin.close()
        process.wait()


@pytest.fixture(scope="module")
def client(project):
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def artifact(client, run_id, name, tmp_path):
    folder = tmp_path / run_id
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run_id, name, str(folder))).read_bytes()


def analysis_of(client, outcome):
    """The one analysis run below a run, and its plots."""
    experiment = client.get_experiment_by_name(f"step_{outcome['step']}").experiment_id
    of_run = f"tags.`mlflow.parentRunId` = '{outcome['run_id']}' and tags.analysis = 'predictions'"
    (analysis,) = client.search_runs([experiment], of_run)
    return analysis.data.metrics, client.list_artifacts(analysis.info.run_id, "plots")


AT_ONCE_OR_SLOW = [4, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 3, 5))]
COLUMNS = (
    "root_split,inner_split,n_train,n_dev,n_test,threshold,dev_roc_auc,"
    "test_roc_auc,test_balanced_accuracy,test_mcc,test_brier,dev_mcc,test_sensitivity,test_specificity,test_pr_auc,"
    "test_calibration_slope,test_calibration_intercept,test_ece,root_splits,optimism"
)


@pytest.mark.parametrize("step", [1, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 3, 4, 5))])
def test_each_step_trains_and_analyses(step, run_script, client, few_pets):
    data = ["--data", few_pets] if step == 1 else []  # `drawn` takes half a minute to make
    done = run_script(f"step_{step}/train.py", "--fast", "--json", *data)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert list(outcome) == KEYS
    assert (outcome["step"], outcome["run_id"] is None) == (step, step == 1)
    low, high = outcome["ci"]
    assert 0 <= low <= outcome["test_roc_auc"] <= high <= 1
    assert (0 if step == 1 else 0.4) < outcome["test_roc_auc"] <= 1  # step 1 is unseeded
    assert "test ROC AUC" in done.stdout and f"step_{step}/analyze_predictions.py" in done.stdout

    before = None if step == 1 else client.get_run(outcome["run_id"]).to_dictionary()
    done = run_script(f"step_{step}/analyze_predictions.py")
    assert done.returncode == 0, done.stderr
    pictures = [line for line in done.stdout.splitlines() if line.endswith(".png")]
    assert len([path for path in pictures if "/search/" not in path]) == PLOTS[step]
    assert (step >= 4) == ("/search/line.png" in done.stdout) == ("/search/index.html" in done.stdout)
    assert all(Path(path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in pictures)
    if step > 1:
        assert client.get_run(outcome["run_id"]).to_dictionary() == before
        scores, plots = analysis_of(client, outcome)
        assert len(plots) == PLOTS[step]
        assert {"test_roc_auc", "test_sensitivity", "test_sensitivity_low", "test_f1", "test_ece"} <= set(scores)
        assert all(f"{scores[name]:.3f}" in done.stdout for name in scores)


@pytest.fixture(scope="module")
def photos(pets_dir, tmp_path_factory):
    """A third of the real photos, with the two that are no JPEG files."""
    folder = tmp_path_factory.mktemp("photos") / "pets"
    (folder / "images").mkdir(parents=True)
    names = sorted(path.name for path in (pets_dir / "images").iterdir())
    for name in {*names[::3], "Abyssinian_34.jpg", "Abyssinian_5.jpg"}:
        (folder / "images" / name).symlink_to((pets_dir / "images" / name).resolve())
    return folder


@pytest.mark.parametrize("step", AT_ONCE_OR_SLOW)
def test_each_step_trains_on_real_photos(step, main, client, project, photos):
    known = ["--independent", "--waive", "near-copies", "shots of one scene"] if step >= 3 else []
    known += ["--root-splits", 1, "--inner-splits", 1, "--n-trials", 1, "--n-jobs", 1] if step == 4 else []
    outcome = main(f"step_{step}.train", "--data", photos, "--fast", *known)
    assert list(outcome) == KEYS
    assert 0.4 < outcome["test_roc_auc"] <= 1
    main(f"step_{step}.analyze_predictions")
    scores, plots = analysis_of(client, outcome)
    assert len(plots) == PLOTS[step] and {"test_roc_auc", "test_sensitivity_low", "test_ece"} <= set(scores)


def without_cache(project):
    """Forget what was computed of images."""
    for path in (project / "cache").glob("*-*.npy"):
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_results_repeat_to_the_last_digit_and_change_with_the_seed(step, main, client, project, few_pets, tmp_path):
    """However many processes there are, and whether a cache is warm, cold or off."""
    n_jobs = [[], [], []] if step == 2 else [["--n-jobs", n] for n in (2, 1, 2)]
    one_fit = [] if step == 2 else ["--root-splits", 1, "--inner-splits", 1, "--n-jobs", 1]
    calls = [["--seed", 3, *n_jobs[0]], ["--seed", 3, "--no-cache", *n_jobs[1]]]
    if step == 4:  # test_step_contract.py looks at the rest, and at searches
        calls = [[*argv, "--n-trials", 1, "--inner-splits", 1] for argv in calls]
    else:
        calls += [["--seed", 3, *n_jobs[2]], ["--seed", 4, *one_fit]]
    without_cache(project)
    runs = [main(f"step_{step}.train", "--fast", "--data", few_pets, *argv) for argv in calls]
    results = [artifact(client, run["run_id"], "results.csv", tmp_path) for run in runs]
    assert results[:3] == results[:1] * len(results[:3])
    assert all(other.splitlines()[1] != results[0].splitlines()[1] for other in results[3:])
    table = pd.read_csv(tmp_path / runs[0]["run_id"] / "results.csv")
    assert ",".join(table.columns) == COLUMNS
    assert len(table) == {2: 1, 4: 2}.get(step, 4)


def test_the_best_config_gives_the_results_of_the_winning_trial_in_one_process_or_two_with_a_cache_or_without(
    main, client, project, few_pets, tmp_path
):
    config = tmp_path / "config.py"
    text = (PROJECT / "step_5" / "config.py").read_text()
    sizes = "    warmup_epochs=1,\n    image_size=Categorical([32, 48]),"  # a trial's network is tested at its size
    text = text.replace("import Float,", "import Categorical, Float,")
    text = text.replace("    epochs=10,  # a value is fixed", f"    n_startup_trials=1,\n    epochs=1,\n{sizes}")
    config.write_text(text)
    without_cache(project)
    searched = main("step_5.train", config, "--data", few_pets, "--root-splits", 1, "--n-trials", 2, "--n-jobs", 2)
    assert client.get_run(searched["run_id"]).data.params["n_startup_trials"] == "1"
    study = optuna.load_study(study_name=f"{searched['run_id']} root 0", storage=f"sqlite:///{project / 'optuna.db'}")
    assert study.user_attrs == {"n_startup_trials": 1, "lag": 1}
    table = pd.read_csv(io.BytesIO(artifact(client, searched["run_id"], "results.csv", tmp_path)))
    assert ",".join(table.columns) == COLUMNS
    assert table["dev_roc_auc"].tolist() == list(study.best_trial.intermediate_values.values())
    assert study.best_trial.params["image_size"] == 48  # not the first of the two
    experiment = client.get_experiment_by_name("step_5").experiment_id
    of_root = f"tags.`mlflow.parentRunId` = '{searched['run_id']}' and tags.run_level = 'root_split'"
    (root,) = client.search_runs([experiment], of_root)
    best = tmp_path / "best_config.py"
    best.write_bytes(artifact(client, root.info.run_id, "best_config.py", tmp_path))
    assert b"Float(" not in best.read_bytes()
    repeated = main("step_5.train", best, "--data", few_pets, "--root-splits", 1, "--n-jobs", 1, "--no-cache")
    assert repeated["fits"] == 2
    first, again = (artifact(client, run["run_id"], "results.csv", tmp_path) for run in (searched, repeated))
    assert first == again


WATCHING = """
import multiprocessing, os, sys
from pathlib import Path
import torch
from torch import nn

class Watching(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))

    def forward(self, images):
        if multiprocessing.parent_process() and self.training and torch.is_grad_enabled():  # it learns
            Path(__file__).with_name(f"{os.getpid()}.modules").write_text(" ".join(sys.modules))
        return super().forward(images)
"""
WATCHED = """
from watching import Watching
from common.config import Float, TrainingConfig

config = TrainingConfig(model=Watching, warmup_epochs=0, epochs=1, image_size=32, learning_rate=Float(1e-4, 1e-3))
"""


def test_a_fit_opens_no_database_and_has_imported_neither_mlflow_nor_optuna_nor_pytorchs_compiler(
    main, client, few_pets, project
):
    (project / "watching.py").write_text(WATCHING)
    (project / "watched.py").write_text(WATCHED)
    flags = ("--data", few_pets, "--root-splits", 1, "--n-trials", 2, "--n-jobs", 2, "--lag", 2)
    done = main("step_5.train", project / "watched.py", *flags)
    seen = [set(path.read_text().split()) for path in project.glob("*.modules")]
    assert len(seen) == 2 and all("torch" in modules for modules in seen)
    assert not {"mlflow", "optuna", "sqlalchemy", "sqlite3", "torch._dynamo"} & set().union(*seen)
    assert client.get_run(done["run_id"]).info.status == "FINISHED"


def test_the_flaws_of_step_1_are_there(main, project, few_pets):
    """Unseeded, one split, outputs overwritten, nothing recorded: what the later steps mend."""
    database, outputs = project / "mlflow.db", project / "step_1" / "outputs"
    before = database.stat().st_mtime_ns if database.exists() else None
    predicted = []
    for _ in range(2):
        last = main("step_1.train", "--fast", "--data", few_pets)
        predicted.append((outputs / "predictions.csv").read_bytes())
    assert predicted[0] != predicted[1]
    assert last["run_id"] is None
    assert before == (database.stat().st_mtime_ns if database.exists() else None)
    assert sorted(path.name for path in outputs.glob("*.csv")) == ["predictions.csv", "results.csv"]
    assert pd.read_csv(outputs / "results.csv").test_roc_auc.tolist() == [last["test_roc_auc"]]


def test_a_config_file_may_be_imported_without_the_step(project):
    spec = importlib.util.spec_from_file_location("config", project / "step_5" / "config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert type(module.config).__name__ == "TrainingConfig"
