"""Lessons 1 and 2: their tables of runs, code and pictures say what is so."""

import re
from dataclasses import replace
from itertools import combinations

import nbformat
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from common.cli import UserError
from common.data import ImageTable
from common.lesson import delta, history, learning_curves, runs_table, source
from common.lesson.reading import paired_lines
from common.state import PROJECT


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Root runs of seeds 0 and 1, a failed one of seed 1, and a phase below each, in a database of their own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("step_2")
    roots = []
    for seed, status in ((0, "FINISHED"), (1, "FINISHED"), (1, "FAILED")):
        tags = {"run_level": "root", "step": "step_2"}
        root = client.create_run(experiment, tags=tags, run_name=f"seed {seed}").info.run_id
        below = {"run_level": "phase", "mlflow.parentRunId": root}
        for name in ("warm-up", "fine-tuning"):
            phase = client.create_run(experiment, tags=below, run_name=name).info.run_id
            for epoch in range(3):
                client.log_metric(phase, "dev_roc_auc", 0.5 + epoch / 10, step=epoch)
                client.log_metric(phase, "dev_loss", 0.7 - epoch / 10, step=epoch)
            client.set_terminated(phase, status)
        client.log_param(root, "seed", seed)
        client.set_terminated(root, status)
        roots.append(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield roots


def test_a_table_of_runs_can_be_filtered_and_kept_to_some_roots_and_what_is_below_them(runs):
    assert len(runs_table(2)) == 9
    assert runs_table(2, "params.seed = '1'").index.tolist() == runs[1:]
    table = runs_table(2, run_ids=[runs[1]])
    assert table["name"].tolist() == ["seed 1", "warm-up", "fine-tuning"]
    assert table["parent"].tolist()[1:] == [runs[1]] * 2
    assert table["metrics.dev_roc_auc"].tolist()[1:] == [0.7, 0.7]


def test_learning_curves_follow_the_phases_of_a_run_and_mark_the_epoch_that_is_kept(runs):
    lines = learning_curves({"a run": history(2, runs[0])}).axes[1].lines
    curves = [line.get_xdata().tolist() for line in lines if line.get_marker() != "o" and len(line.get_xdata()) == 3]
    assert curves == [[0, 1, 2], [3, 4, 5]]
    rings = [line.get_xydata().tolist() for line in lines if line.get_marker() == "o"]
    assert rings == [[[2, pytest.approx(0.7)]], [[5, pytest.approx(0.7)]]]
    before, after = {"dev_loss": 0.7, "dev_roc_auc": 0.5}, {"train_loss": 0.6, "dev_loss": 0.65, "dev_roc_auc": 0.6}
    train, _ = learning_curves({"one epoch": [(before, 0), (after, 1)]}).axes[0].lines
    assert np.isnan(train.get_ydata()[0]) and train.get_ydata()[1] == 0.6 and train.get_marker() != "None"
    with pytest.raises(UserError, match="nothing was logged"):
        learning_curves({"none": []})


def test_the_keys_of_learning_curves_are_no_axis_labels():
    after = {"train_loss": 0.6, "dev_loss": 0.65, "dev_roc_auc": 0.6}
    losses, scores = learning_curves({"a fit": [(after, 0)]}).axes
    assert losses.get_ylabel() == "loss"
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["dev", "train"]
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["kept"]


BEFORE = """def train(table, fold):
    fit(table, fold)
    print("done")
"""
NOW = """def suggest(trial):
    return trial.number

def train(table, fold, run):
    with run:
        fit(table, fold)
"""


def test_a_function_stands_beside_its_former_self_and_a_line_beside_what_it_has_become():
    pairs = paired_lines(BEFORE, NOW)
    assert [left for left, _ in pairs if left is not None] == BEFORE.splitlines()
    assert [right for _, right in pairs if right is not None] == NOW.splitlines()
    assert ("def train(table, fold):", "def train(table, fold, run):") in pairs
    assert ("    fit(table, fold)", "        fit(table, fold)") in pairs
    assert (None, "def suggest(trial):") in pairs and (None, "    with run:") in pairs
    assert ('    print("done")', None) in pairs


def test_code_keeps_its_look_where_style_sheets_are_stripped(tmp_path):
    shown = delta(2).data
    cells = re.findall("<t[dh](.*?)>(.*?)</t[dh]>", shown)
    assert shown.startswith("<details><summary") and "what step 2 changes in train.py" in shown
    assert "<style" not in shown and len(cells) > 50 and all("style=" in attributes for attributes, _ in cells)
    (tmp_path / "config.py").write_text("config = 1  # a value\n")
    for code, part in ((paired_lines, "def"), (tmp_path / "config.py", "# a value")):
        shown = source(code).data
        assert "<style" not in shown and "white-space:pre" in shown and part in shown


def test_plots_are_the_same_bytes_each_time():
    from common.lesson import spread_plot

    scores = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]})
    assert spread_plot(scores, "score").png() == spread_plot(scores, "score").png()


def test_names_of_animals_are_legible_below_their_pictures():
    from common.lesson import sample_pictures

    groups = np.array([f"animal_{i:03}" for i in range(12)])
    pixels = np.zeros((12, 3, 64, 64), np.uint8)
    table = ImageTable("t", PROJECT, tuple("abcdefghijkl"), np.arange(12) % 2, ("cat", "dog"), groups, ("",) * 12)
    figure = sample_pictures(replace(table, pixels=pixels, cached=False))
    figure.canvas.draw()
    names = [text for axes in figure.axes for text in axes.texts]
    assert sorted(text.get_text() for text in names) == sorted(groups)
    boxes = [text.get_window_extent() for text in names]
    assert all(box.height > 8 for box in boxes) and not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def lesson_of(step):
    return nbformat.read(PROJECT / f"step_{step}" / "lesson.ipynb", as_version=4).cells


@pytest.mark.parametrize("step", (1, 2))
def test_what_is_compared_was_predicted_in_a_cell_before(step):
    asked = []
    for cell in lesson_of(step):
        if cell.cell_type == "code":
            compared = re.findall(r"lesson\.compare\((\w+)", cell.source)
            assert set(compared) <= set(asked), cell.source
            asked += re.findall(r"^(\w+) = None .*\nlesson\.predict\(\1\)$", cell.source, re.MULTILINE)
            assert bool(compared) + ("lesson.predict" in cell.source) < 2, "a result stands in a cell of its own"
    assert len(asked) >= 6
