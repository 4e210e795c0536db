"""Results whose folder was moved are opened in a real browser, with a new profile: the runs, and a run's plot."""

import os
import shutil

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait
from serving import mlflow_ui

from common.tracking.upkeep import look_after, store_uri
from conftest import PROJECT

PATIENCE = 120
WIDTH = 613
SHOWN = "return [...document.images].some(i => i.complete && i.naturalWidth == arguments[0])"


@pytest.fixture
def moved(tmp_path):
    """A project folder with one run that has a plot, moved since; and the UI's page of the run's artifacts."""
    before, after = tmp_path / "before", tmp_path / "a new place" / "of results"
    shutil.copytree(PROJECT / "common", before / "common", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_mlflow_ui.bash", "run_script.bash", "requirements.txt"):
        shutil.copy(PROJECT / name, before)
    look_after(before / "mlflow.db")
    client = MlflowClient(store_uri(before / "mlflow.db"))
    experiment = client.create_experiment("step_4", artifact_location=(before / "mlruns" / "step_4").as_uri())
    run_id = client.create_run(experiment, run_name="moved", tags={"run_level": "root"}).info.run_id
    client.log_metric(run_id, "test_roc_auc", 0.875)
    client.create_run(experiment, run_name="below it", tags={"run_level": "phase"})
    figure = Figure(figsize=(WIDTH / 100, 4.5), dpi=100)
    figure.subplots(subplot_kw={"title": "a plot of a run that was moved"}).plot([0, 0.1, 0.4, 1], [0, 0.7, 0.9, 1])
    client.log_figure(run_id, figure, "plots/roc_curve.png")
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
    after.parent.mkdir()
    before.rename(after)
    return after, f"#/experiments/{experiment}/runs/{run_id}/artifacts"


def text_of(browser):
    return browser.find_element(By.TAG_NAME, "body").text


@pytest.mark.slow
def test_the_runs_and_a_plot_are_seen_in_a_new_browser_after_the_folder_was_moved(moved, browser, tmp_path):
    folder, page = moved
    with mlflow_ui(folder, log=tmp_path / "ui.log") as address:
        said = next(line for line in (tmp_path / "ui.log").read_text().splitlines() if line.startswith("runs of"))
        browser.get(said.removeprefix("runs of step_4: "))
        WebDriverWait(browser, PATIENCE).until(lambda browser: "1 matching run" in text_of(browser))
        assert {"moved", "0.875"} <= set(text_of(browser).split()) and "below it" not in text_of(browser)
        browser.get(address + page)
        for name in ("plots", "roc_curve.png"):
            here = (By.XPATH, f"//*[normalize-space(text())='{name}']")
            WebDriverWait(browser, PATIENCE).until(expected_conditions.element_to_be_clickable(here)).click()
        WebDriverWait(browser, PATIENCE).until(lambda browser: browser.execute_script(SHOWN, WIDTH))
        browser.save_screenshot(tmp_path / "plot.png")
    if os.environ.get("KEEP_SCREENSHOTS"):
        outputs = PROJECT / "tests" / "outputs"
        outputs.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "plot.png", outputs / "moved_results.png")
