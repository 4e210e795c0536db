"""Lessons 3 to 5: their pictures and tables say what is so."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb

from common import cli, data, evaluation, lesson, search, training
from common.config import SGD, AdamW, Augmentation, Categorical, Float, TrainingConfig, find_spaces, load_config
from common.lesson.folds import PART_COLOURS
from common.lesson.searches import tree_lines
from common.lesson.spots import Spots
from common.seeds import Stream


@pytest.fixture(scope="module")
def table():
    groups, files = np.array([f"g{i // 2}" for i in range(24)]), tuple(f"{i:02}" for i in range(24))
    labels = np.repeat([1, 0], [14, 10])
    return data.ImageTable("t", cli.PROJECT / "none", files, labels, ("cat", "dog"), groups, files)


def test_the_fold_diagram_shows_each_image_in_the_part_that_the_splits_say(table):
    splits = data.make_splits(table, Stream(0), root_folds=3, nested_folds=2)
    image = lesson.fold_diagram(splits, table).axes[0].images[0]
    drawn = image.cmap(image.norm(image.get_array()))[..., :3]
    order = sorted(range(24), key=lambda i: (table.labels[i], table.groups[i], i))
    for row, fold in zip(drawn, [fold for root in range(3) for fold in data.folds_of(splits, root)], strict=True):
        parts = [next(name for name in PART_COLOURS if i in getattr(fold, name)) for i in order]
        np.testing.assert_allclose(row, [to_rgb(PART_COLOURS[part]) for part in parts], atol=0.01)


def test_the_fold_diagram_has_a_row_for_each_fold_that_is_run_and_no_more(table):
    splits = data.make_splits(table, Stream(0), root_folds=4, nested_folds=3)
    axes = lesson.fold_diagram(splits, table, root_splits=2, inner_splits=2).axes[0]
    assert axes.images[0].get_array().shape == (2 * 2, len(table))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["root 0", "root 1"]
    tested = (axes.images[0].get_array() == list(PART_COLOURS).index("test")).any(axis=0)
    assert tested.sum() == sum(len(fold["test_indices"]) for fold in splits["root_splits"][:2]) < len(table)


@pytest.mark.parametrize("seeds", [[], [0, 4]])
def test_scores_by_fold_shows_each_network_and_the_mean_of_each_outer_fold(seeds):
    rows = [(root, inner, 0.7 + 0.1 * root + 0.02 * inner) for root in (0, 1) for inner in (0, 1)]
    results = pd.DataFrame(rows, columns=["root_split", "inner_split", "test_roc_auc"])
    if seeds:
        results = pd.concat([results.assign(seed=seed) for seed in seeds])
    axes = lesson.scores_by_fold(results).axes[0]
    *networks, means, overall = axes.lines
    assert sorted(y for line in networks for y in line.get_ydata()) == sorted(results["test_roc_auc"])
    assert [line.get_label() for line in networks] == ([f"a network, seed {s}" for s in seeds] or ["a network"])
    np.testing.assert_allclose(means.get_xydata(), [(0, 0.71), (1, 0.81)])
    assert overall.get_label() == "mean 0.76" and axes.get_ylabel() == "test ROC AUC"


def test_simulated_intervals_hold_the_truth_as_often_as_lesson_3_says():
    def coverage(scores, n_train, n_test):
        found = (evaluation.corrected_resampled_interval(row, n_train, n_test) for row in scores)
        return np.mean([low <= scores.mean() <= high for _, low, high in found])

    scores = lesson.simulated_scores(Stream(1), data_sets=300)
    assert coverage(scores, 1e12, 1) < 0.8
    assert 0.88 < coverage(scores, 160, 40) < 0.98
    folds = lesson.simulated_scores(Stream(1), data_sets=50, splits=5, random=False)
    assert folds.shape == (50, 5) and ((folds > 0) & (folds < 1)).all()


def test_a_space_tree_puts_a_choice_above_what_only_it_asks_for():
    optimizer = Categorical([AdamW(), SGD(momentum=Float(0.5, 0.99))])
    config = TrainingConfig(optimizer=optimizer, augmentation=Augmentation(rotation=Float(0, 20, name="turn")))
    lines = tree_lines("TrainingConfig", find_spaces(config))
    assert lines == [
        (0, "TrainingConfig", ""),
        (1, "optimizer", "one of AdamW, SGD"),
        (2, "SGD", ""),
        (3, "momentum", "Float(0.5, 0.99)"),
        (1, "turn", "Float(0, 20, name='turn')"),
    ]
    assert {label for _, label, _ in lines} <= {text.get_text() for text in lesson.space_tree(config).axes[0].texts}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Four trials of two folds, of which the third is pruned."""
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    made = search.create_study("a root 0", n_folds=2)
    scores = [[0.7, 0.9], [0.95, 0.95], [0.2], [0.6, 0.8]]

    def run_trial(trial, x):
        found = scores[trial.number]
        for fold, score in enumerate(found):
            trial.report(score, fold)
        return SimpleNamespace(), found

    search.optimize(made, lambda trial: trial.suggest_float("x", 0, 1), run_trial, 4, Stream(0))
    return search.load_study("a root 0")


def test_a_finished_study_is_read_as_a_table_and_drawn(study):
    table = search.trials_table(study)
    assert table["state"].tolist() == ["complete", "complete", "pruned", "complete"]
    assert table["value"].round(3).fillna(0).tolist() == [0.8, 0.95, 0, 0.7]
    assert table["fold 0"].tolist() == [0.7, 0.95, 0.2, 0.6] and np.isnan(table["fold 1"][2])
    assert table["x"].between(0, 1).all()
    axes = lesson.history_plot(table, n_startup_trials=1).axes[0]
    lines = {line.get_label().split(":")[0]: line.get_xydata().tolist() for line in axes.lines}
    assert lines["pruned"] == [[2, 0.2]] and "mean" not in axes.get_ylabel()  # a pruned trial has no mean of all folds
    np.testing.assert_allclose([y for _, y in lines["best complete trial so far"]], [0.8, 0.95, 0.95, 0.95])
    assert [x for x, _ in lines["left of it"]] == [0.5, 0.5]  # one trial at random
    shown = lesson.trials_shown(table).data.replace(' style="text-align:left"', "")
    assert "<td>0.95</td>" in shown and "<td>0.20</td>" in shown and "<td></td>" in shown and "nan" not in shown
    assert sum(search.importance(study).values()) == pytest.approx(1)
    with pytest.raises(cli.UserError, match="b root 0: there is none"):
        search.load_study("b root 0")


def test_importance_tells_what_mattered_and_is_zero_while_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    study = search.create_study("c", n_folds=1)

    def suggest(trial):
        trial.suggest_float("idle", 0, 1)
        return 1 - trial.suggest_float("x", 0, 1)

    def run_trial(trial, score):
        trial.report(score, 0)
        return [None], [score]

    search.optimize(study, suggest, run_trial, 1, Stream(0))
    assert search.importance(study) == {"idle": 0, "x": 0}
    search.optimize(study, suggest, run_trial, 15, Stream(1))
    found = search.importance(study)
    assert found["x"] > 2 * found["idle"]
    shown = lesson.importance_plot(found).axes[0].get_yticklabels()
    assert [label.get_text() for label in shown] == ["idle", "x"]


def test_a_compact_table_has_names_that_wrap_and_gaps_and_texts_at_the_left():
    table = pd.DataFrame({"optimizer.SGD.momentum": [0.91234, np.nan], "n_dev": [3, 4], "a_claim": ["a <b> c", None]})
    before = table.copy()
    shown = lesson.compact_table(table).data
    assert (
        '<td style="text-align:left">a &lt;b&gt; c</td>' in shown
        and '<th style="text-align:left">a claim</th>' in shown
    )
    assert table.equals(before) and "None" not in shown and "\0" not in shown
    assert "<th>optimizer SGD momentum</th>" in shown and "<th>n dev</th>" in shown
    assert "<td>0.912</td>" in shown and "<td></td>" in shown and "<td>3</td>" in shown and "NaN" not in shown


def test_features_of_a_backbone_are_those_that_training_uses():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 3, 32, 32), np.uint8)
    table = data.ImageTable("t", cli.PROJECT, tuple("abcd"), np.arange(4) % 2, ("cat", "dog"), None, ("",) * 4)
    table = replace(table, pixels=pixels, cached=False)
    network = training.new_model(TrainingConfig(), table, training.set_up("cpu", "fp32"), Stream(1))
    assert (lesson.backbone_features(table) == training.frozen_features(network, table)).all()


def test_the_plot_of_the_best_of_n_has_what_was_measured_and_what_both_formulas_say():
    rows = [("tpe", n, 0.9 + n / 1e3, 0.88, n / 1e3, n / 500, n / 700) for n in (1, 2, 5)]
    table = pd.DataFrame(rows, columns=["method", "n", "dev", "test", "optimism", "independence", "shared"])
    table = table.assign(low=table["optimism"] - 0.001, high=table["optimism"] + 0.001)
    scores, gains = lesson.best_of_n_plot(pd.concat([table, table.assign(method="random")])).axes
    drawn = {line.get_label().split(":")[-1].strip(): line for line in (*scores.lines, *gains.lines)}
    for label, column in {
        "best dev score": "dev",
        "test score of that trial": "test",
        "measured, 95 % interval": "optimism",
        "independent trials": "independence",
        "equal trials, shared images": "shared",
    }.items():
        np.testing.assert_allclose(drawn[label].get_xydata(), table[["n", column]])
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (scores, gains))


def test_a_clinic_has_two_sites_with_patients_of_both_classes_and_few_lesions(tmp_path):
    sites = {"here": (1.0, 0.0), "there": (0.5, 60.0)}
    same = [lesson.make_clinic(tmp_path / name, sites, n_patients=32, n_slices=1, size=16) for name in "ab"]
    info, groups = (pd.read_csv(same[0] / name) for name in ("info.csv", "groups.csv"))
    assert info["type"].value_counts().to_dict() == {"healthy": 16, "lesion": 4}
    assert pd.crosstab(info["type"], info["site"]).to_numpy().tolist() == [[8, 8], [2, 2]]
    assert info["files"].tolist() == groups["files"].tolist() and groups["group"].nunique() == 20
    contents = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} for folder in same]
    assert contents[0] == contents[1] and len(contents[0]) == 22
    table = data.load_images(str(same[0]), 16)
    plain = lesson.make_clinic(tmp_path / "plain", {"here": (1.0, 0.0)}, n_patients=32, n_slices=1, size=16)
    of_there = (info.set_index("files")["site"][list(table.files)] == "there").to_numpy()
    before = data.load_images(str(plain), 16).pixels.astype(float)
    assert np.array_equal(table.pixels[~of_there], before[~of_there])
    assert np.array_equal(table.pixels[of_there], np.floor(0.5 * before[of_there] + 60))


def test_a_spot_stands_out_where_the_network_looks_and_nowhere_else():
    images = torch.zeros(3, 1, 32, 32)
    images[1, 0, 15:18, 15:18] = images[2, 0, :3, :3] = 1
    network = Spots((1, 32, 32), sigma=1.5, radius=0.8)
    torch.nn.init.ones_(network.line.weight)
    nothing, middle, corner = network(images).flatten().tolist()
    assert middle > nothing + 1 and corner == pytest.approx(nothing, abs=1e-4)
    assert Spots((1, 32, 32), n_classes=3)(images).shape == (3, 3)


def cells_of(step):
    return json.loads((cli.PROJECT / f"step_{step}" / "lesson.ipynb").read_text())["cells"]


@pytest.mark.parametrize("step", [4, 5])
def test_the_search_of_a_lesson_leaves_its_random_start(step):
    said = "".join("".join(out.get("text", "")) for cell in cells_of(step) for out in cell.get("outputs", []))
    assert "random, then" in said and "by TPE" in said and "random search (TPE" not in said


@pytest.mark.parametrize("step", [4, 5])
def test_each_prediction_of_a_lesson_is_compared_and_explanations_are_folded(step):
    code = "\n".join("".join(cell["source"]) for cell in cells_of(step) if cell["cell_type"] == "code")
    text = "\n".join("".join(cell["source"]) for cell in cells_of(step) if cell["cell_type"] == "markdown")
    assert code.count("lesson.predict(guess)") == code.count("lesson.compare(guess,") == text.count("**Predict.**") >= 6
    assert text.count("<details><summary>") == text.count("</details>") >= 15 + text.count("**Explain.**")
    assert "<summary>" not in text.replace("<details><summary>", "") and "</summary>\n\n" in text


@pytest.mark.parametrize(
    ("step", "claim"),
    [
        (1, "took two lines"),
        (3, "because the inner folds train on other images"),
        (4, "a simulation tells"),
        (4, "found something"),
        (4, "goes into other trials"),
        (5, "nothing left to ask"),
        (5, "That is all"),
    ],
)
def test_a_lesson_no_longer_says_what_is_not_so(step, claim):
    assert claim not in "".join(line for cell in cells_of(step) for line in cell["source"])


def test_each_optimizer_of_the_config_has_a_range_of_learning_rates_of_its_own():
    spaces = find_spaces(load_config(cli.PROJECT / "step_5" / "configs" / "optimizers.py", TrainingConfig))
    adam, sgd = (spaces[f"optimizer.{name}.learning_rate"] for name in ("AdamW", "SGD"))
    assert "learning_rate" not in spaces and sgd.high == 10 * adam.high and sgd.low == 10 * adam.low
