"""One plain run: one split, no search, so one run for each model, in the experiment of the day."""

import contextlib
import io
import json
import shutil
from datetime import datetime

import pandas as pd
import pytest
from mlflow import MlflowClient
from test_eeg import main as make_epochs

from step_5 import train

CONFIG = """
from common.config import TrainingConfig
from common.data.transforms import Scale
from common.eeg.eegnet import DenseEEG, EEGNet

data = {data!r}
experiment = "%Y-%m-%d"
config = TrainingConfig(transforms=(Scale(1e5),), augmentation=None, warmup_epochs=0, epochs=2, batch_size=16)
models = [DenseEEG, EEGNet]
"""
ONE = ("--root-splits", 1, "--inner-splits", 1, "--device", "cpu", "--n-jobs", 1, "--json")


@pytest.fixture(scope="module")
def day(empty_stores, tmp_path_factory):
    """Two models on one split, and what the script said."""
    state = tmp_path_factory.mktemp("state")
    shutil.copy(empty_stores / "mlflow.db", state)
    make_epochs([str(state / "eight.npz"), "--n-subjects", "8", "--n-trials", "6"])
    (state / "config.py").write_text(CONFIG.format(data=str(state / "eight.npz")))
    days, said = [datetime.now()], io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("REPROAI_STATE", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("OPTUNA_STORAGE", raising=False)
        train.main(list(map(str, [state / "config.py", *ONE, "--verbose"])))
    names = {f"{day:%Y-%m-%d}" for day in (*days, datetime.now())}
    client = MlflowClient(f"sqlite:///{state / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name in names]
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return said.getvalue().splitlines(), client, experiment, runs, state


def test_two_models_are_two_runs_of_the_days_experiment_in_the_view_of_training(day):
    _, client, experiment, runs, state = day
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert [run.info.run_name for run in runs] == ["eight config DenseEEG seed 0", "eight config EEGNet seed 0"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs)
    assert {path.name for path in (state / "models").iterdir()} == {f"model_summary_{r.info.run_id}.txt" for r in runs}
    for run in runs:
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"predictions.csv", "results.csv", "model.safetensors", "best_config.py", "config.py"} <= names


def test_the_two_models_are_compared_at_the_end(day):
    lines, _, _, runs, state = day
    assert [line.split()[0] for line in lines if line.endswith(runs[0].info.run_name)] == ["DenseEEG"]
    assert sum(line.startswith("  DenseEEG - EEGNet  ") for line in lines) == 1  # one outer fold: not the procedures
    assert "  1 outer fold: --root-splits 5 or more says how much the procedures vary" in lines
    ids = "-".join(run.info.run_id[:8] for run in runs)
    assert f"plot: {state}/outputs/compare-{ids}.png" in lines[-2:]


def test_each_epoch_is_in_its_run_once_and_on_the_console(day):
    lines, client, _, runs, _ = day
    printed = [line.split(", ") for line in lines if line.startswith("Epoch ")]
    assert [words[0].split(":")[0] for words in printed] == 2 * [
        f"Epoch {epoch} (root 0 trial 0 inner 0 fine-tuning)" for epoch in (1, 2)
    ]
    for run, epochs in zip(runs, (printed[:2], printed[2:]), strict=True):
        histories = {
            name: client.get_metric_history(run.info.run_id, name) for name in ("train_loss", "dev_loss", "dev_roc_auc")
        }
        assert [len(history) for history in histories.values()] == [2, 3, 3]
        for epoch, words in zip((1, 2), epochs, strict=True):
            (loss,) = [m.value for m in histories["train_loss"] if m.step == epoch]
            assert words[0].endswith(f"train loss {loss:.6f}")
        results = pd.read_csv(client.download_artifacts(run.info.run_id, "results.csv"))
        assert run.data.metrics["test_roc_auc"] == results["test_roc_auc"][0]
        assert run.data.metrics["mean_dev_roc_auc"] == results["dev_roc_auc"][0]
    assert json.loads(lines[-1])["step"] == 5
