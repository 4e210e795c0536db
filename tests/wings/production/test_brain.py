"""The brain-image search: a CNN built by Optuna in nested cross-validation, summed up in plots and registered."""

import json

import pandas as pd
import pytest
from mlflow import MlflowClient

from common.data.made.phantoms import make_phantoms
from common.production.estimate import estimate_of
from common.tracking.upkeep import store_uri

FLAGS = ("--fast", "--image-size", 32, "--root-splits", 1, "--inner-splits", 1, "--n-trials", 2, "--json", "--fresh")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Slices of 24 patients."""
    folder = tmp_path_factory.mktemp("heads") / "heads"
    make_phantoms(folder, n_patients=24, n_slices=2, size=32)
    return folder


@pytest.fixture(scope="module")
def trained(heads, project, run_script):
    """The step's script on them, which registers a model; its stdout, and its last line."""
    assert run_script("step_3/make_dataset_splits.py", "--data", heads).returncode == 0
    config = project / "step_5" / "configs" / "brain_cnn.py"
    done = run_script("step_5/train.py", config, *FLAGS, "--data", heads, "--n-jobs", 1)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def client(project):
    return MlflowClient(store_uri(project / "mlflow.db"))


def test_slices_of_a_patient_are_on_one_side_of_every_split(trained, client, tmp_path):
    table = pd.read_csv(client.download_artifacts(trained[1]["run_id"], "predictions.csv", tmp_path))
    table["patient"] = table["file"].str.extract(r"(patient_\d+)", expand=False)
    for _, rows in table.groupby(["root_split", "inner_split"]):
        sides = rows.groupby("patient")["part"].nunique()
        assert sides.max() == 1 and set(rows["part"]) == {"dev", "test"}


def test_its_analysis_has_the_plots_of_its_search_and_a_page_with_them(trained, client, run_script):
    run_id = trained[1]["run_id"]
    assert run_script("step_5/analyze_predictions.py", "--run-id", run_id).returncode == 0
    of_run = f"tags.analysis = 'predictions' and tags.`mlflow.parentRunId` = '{run_id}'"
    (analysis,) = client.search_runs([client.get_run(run_id).info.experiment_id], of_run)
    names = [file.path for file in client.list_artifacts(analysis.info.run_id, "search")]
    assert {"search/index.html", "search/line.png", "search/duration.png", "search/count.png"} <= set(names)
    assert {"search/category_model.norm.png", "search/category_optimizer.png"} & set(names)


def test_what_it_registers_is_in_production_with_the_nested_estimate(trained, client, heads, run_script, tmp_path):
    stdout, end = trained  # its --register is the config's own
    assert "registered: version 1 of brain_cnn, in production" in stdout
    version = client.get_model_version_by_alias("brain_cnn", "production")
    estimate = estimate_of(pd.read_csv(client.download_artifacts(end["run_id"], "predictions.csv", tmp_path)))
    assert version.tags["stage"] == "Production" and version.run_id == end["run_id"]
    assert {name: version.tags[name] for name in estimate} == {name: repr(value) for name, value in estimate.items()}
    assert estimate["test_groups"] < estimate["test_images"]
    done = run_script("common/production/predict.py", "--model", "brain_cnn", heads)
    rows = done.stdout.splitlines()
    columns = "file,prediction,probability_healthy,probability_lesion,threshold,positive_class,model_version"
    assert rows[0] == columns and len(rows) == 49
