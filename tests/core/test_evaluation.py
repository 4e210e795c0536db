"""The room `common/evaluation`: scores, thresholds, intervals, plots and the report of a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common import plots
from common.data.folding import Fold
from common.data.images import ImageTable
from common.evaluation import metrics, predictions, results_text, statistics, weighted
from step_4.analyze_predictions import plot

CLASSES = ("cat", "dog")


def some_models(classes=CLASSES, root_splits=2, inner_splits=2, n_test=60, strength=1.5):
    """Folds and the predictions of their models, whose classes overlap less the stronger they are."""
    n = n_test * (root_splits + 1)
    labels, files = np.arange(n) % len(classes), tuple(f"{i:04d}.jpg" for i in range(n))
    table = ImageTable("t", Path(), files, labels, tuple(classes), None, files)
    folds, tables = [], []
    for root, inner in np.ndindex(root_splits, inner_splits):
        random, test = np.random.default_rng([root, inner]), np.arange(n_test) + n_test * root
        dev, train = np.split(np.setdiff1d(np.arange(n), test), [n_test])
        parts = []
        for rows in (dev, test):
            logits = random.normal(size=(len(rows), len(classes))) + strength * np.eye(len(classes))[labels[rows]]
            odds = np.exp(logits)
            found = odds / odds.sum(axis=1, keepdims=True)
            parts.append(found if len(classes) > 2 else found[:, 1])
        threshold = metrics.youden_threshold(labels[dev], parts[0])
        folds.append(Fold(root, inner, train, dev, test))
        tables.append(predictions.predictions_table(table, folds[-1], *parts, threshold))
    return folds, predictions.join(tables)


def a_run(*arguments, **options):
    """Predictions and results as a run leaves them."""
    folds, found = some_models(*arguments, **options)
    return found, predictions.results_of(found, folds)


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        ([0, 0, 1, 1], [0.125, 0.25, 0.5, 0.875], 0.375),  # the middle of the gap that parts the classes
        ([0, 1, 0, 1], [0.125, 0.25, 0.5, 0.875], 0.6875),  # J is the same at 0.1875, further from 0.5
        ([0, 1, 0, 1], [0.125, 0.375, 0.625, 0.875], 0.25),  # 0.25 and 0.75 are as close: the lower one
        ([0, 1], [0.7, 0.7], 0.35),
        ([1, 0], [0.0, 1.0], 0.0),  # worse than chance: nothing beats calling all of them class 1
        ([0, 1], [0.5, np.nextafter(0.5, 1)], np.nextafter(0.5, 1)),
    ],
)
def test_youden_threshold_of_known_cases(labels, probabilities, threshold):
    assert metrics.youden_threshold(labels, probabilities) == threshold


def test_no_threshold_has_a_higher_j_than_youdens():
    for seed in range(50):
        random = np.random.default_rng(seed)
        labels = np.append([0, 1], random.integers(0, 2, 30))
        probabilities = random.integers(0, 11, 32) / 10  # many ties
        positive, negative = probabilities[labels == 1], probabilities[labels == 0]
        threshold = metrics.youden_threshold(labels, probabilities)
        assert 0 <= threshold <= 1
        found, *others = (
            np.mean(positive >= t) + np.mean(negative < t) - 1 for t in [threshold, *np.linspace(0, 1, 101)]
        )
        assert found >= max(others) - 1e-12


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([1, 1], [0.2, 0.9], r"both 0 and 1, found \[1\]"),
        ([0, 1], [0.2, np.nan], "NaN"),
        ([0, 1], [0.2, 1.5], r"\[0, 1\]"),
        ([0, 1, 1], [0.2, 0.9], "one shape"),
        ([0, 1, 1], np.eye(3), r"all 3 classes, found none of \[2\] in 3 images"),
        ([0, 1, 2, 3], np.eye(3)[[0, 1, 2, 2]], r"0 to 2, found \[3\]"),
        ([0, 1, 2], np.eye(3) * 0.75, "sum to 1, found 0.75"),
        ([0, 1, 2], np.eye(3)[:2], r"one shape .* found \(3,\) and \(2, 3\)"),
    ],
)
def test_scores_of_broken_predictions_raise(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metrics.youden_threshold(labels, probabilities)
    with pytest.raises(ValueError, match=message):
        metrics.score_predictions(labels, probabilities, 0.5)


def more_scores(labels, probabilities, threshold):
    names = ("accuracy", "precision", "f1", "log_loss", "pr_auc")
    arrays, alike = (np.array(labels), np.array(probabilities)), np.ones((1, len(labels)))
    return {name: getattr(weighted, f"{name}_of")(*arrays, threshold, alike)[0] for name in names}


def test_scores_of_a_known_example():
    scores = metrics.score_predictions([0, 0, 0, 1, 1], [0.1, 0.2, 0.8, 0.5, 0.9], 0.5)
    assert scores == pytest.approx(
        {
            "roc_auc": 5 / 6,  # 5 of the 6 pairs are in order
            "balanced_accuracy": (2 / 3 + 1) / 2,
            "mcc": (2 * 2 - 1 * 0) / np.sqrt(3 * 2 * 3 * 2),
            "brier": (0.01 + 0.04 + 0.64 + 0.25 + 0.01) / 5,
        }
    )
    assert all(type(score) is float for score in scores.values())
    more = more_scores([0, 0, 0, 1, 1], [0.1, 0.2, 0.8, 0.5, 0.9], 0.5)
    rest = {"log_loss": -np.log([0.9, 0.8, 0.2, 0.5, 0.9]).mean(), "pr_auc": (1 + 2 / 3) / 2}
    assert more == pytest.approx({"accuracy": 4 / 5, "precision": 2 / 3, "f1": 4 / 5, **rest})
    assert metrics.confusion([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]).tolist() == [[2, 1], [0, 2]]
    assert metrics.confusion([1, 1], [1, 1]).tolist() == [[0, 0], [0, 2]]


def test_scores_of_three_classes_are_those_done_by_hand():
    probabilities = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.75, 0.0], [0.5, 0.0, 0.5], [0.0, 0.25, 0.75]]
    labels = [0, 0, 1, 2, 2]  # predicted are 0, 1, 1, 0 (the first of two alike), 2
    scores = metrics.score_predictions(labels, probabilities, float("nan"))
    assert scores == pytest.approx(
        {
            # pairs in order, ties half: 0 against others (0.5 + 1 + 1) + (0 + 0.5 + 1); 1 and 2 are perfect
            "roc_auc": (4 / 6 + 1 + 1) / 3,
            "balanced_accuracy": (1 / 2 + 1 + 1 / 2) / 3,
            # right 3 of 5; true counts 2, 1, 2 and predicted counts 2, 2, 1
            "mcc": (3 * 5 - (2 * 2 + 1 * 2 + 2 * 1)) / np.sqrt((25 - 9) * (25 - 9)),
            "brier": (0.375 + 0.875 + 0.125 + 0.5 + 0.125) / 5,
        }
    )
    assert all(type(score) is float for score in scores.values())
    more = more_scores(labels, probabilities, float("nan"))
    rest = {"log_loss": -np.log([0.5, 0.25, 0.75, 0.5, 0.75]).mean(), "pr_auc": (0.5 + 1 + 1) / 3}
    of_classes = {"precision": (1 / 2 + 1 / 2 + 1) / 3, "f1": (1 / 2 + 4 / 3) / 3}
    assert more == pytest.approx({"accuracy": 3 / 5, **of_classes, **rest})
    assert metrics.confusion(labels, [0, 1, 1, 0, 2], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert np.isnan(metrics.youden_threshold(labels, probabilities))


def test_scores_of_many_classes_at_their_ends():
    labels, certain, score = np.arange(6) % 3, np.eye(3), metrics.score_predictions
    perfect = {"roc_auc": 1, "balanced_accuracy": 1, "mcc": 1, "brier": 0}
    assert score(labels, certain[labels], np.nan) == pytest.approx(perfect)
    wrong = score(labels, certain[(labels + 1) % 3], np.nan)
    assert (wrong["balanced_accuracy"], wrong["brier"]) == (0, 2) and -1 < wrong["mcc"] < 0
    alike = {"roc_auc": 0.5, "balanced_accuracy": 1 / 3, "mcc": 0, "brier": 2 / 3}
    assert score(labels, np.full((6, 3), 1 / 3), np.nan) == pytest.approx(alike)


def test_interval_is_the_formula_done_by_hand():
    # s² = 0.01, (1/3 + 50/100) s² = 0.0083333, its root 0.0912871, times t(0.975, 2) = 4.3026527
    mean, low, high = statistics.corrected_resampled_interval([0.8, 0.9, 1.0], 100, 50, bounds=(-np.inf, np.inf))
    assert (mean, low, high) == pytest.approx((0.9, 0.507224, 1.292776), abs=1e-6)
    assert statistics.corrected_resampled_interval([0.8, 0.9, 1.0], 100, 50) == pytest.approx((0.9, 0.507224, 1), 1e-5)


def test_neither_one_score_nor_equal_ones_give_an_interval():
    for scores in ([0.75] * 4, [0.75]):
        mean, low, high = statistics.corrected_resampled_interval(scores, 100, 50)
        assert mean == 0.75
        assert np.isnan([low, high]).all()


def test_ttest_is_the_formula_done_by_hand():
    a, b = [0.9, 0.9, 0.9], [0.8, 0.7, 0.6]
    t = 0.2 / np.sqrt((1 / 3 + 0.5) * 0.01)
    p = 1 - t / np.sqrt(t**2 + 2)  # Student's t has this closed form for two degrees of freedom
    assert statistics.corrected_resampled_ttest(a, b, 100, 50) == pytest.approx((t, p))
    assert statistics.corrected_resampled_ttest(b, a, 100, 50) == pytest.approx((-t, p))
    assert np.isnan(statistics.corrected_resampled_ttest(a, a, 100, 50)).all()
    assert np.isnan(statistics.corrected_resampled_ttest([0.75, 0.5], [0.5, 0.25], 100, 50)).all()


def test_statistics_of_broken_scores_raise():
    interval, ttest = statistics.corrected_resampled_interval, statistics.corrected_resampled_ttest
    for broken in ([], [0.9, np.nan], [[0.9, 0.8]], [0.9, 1.1]):
        with pytest.raises(ValueError, match="scores must"):
            interval(broken, 100, 50)
    with pytest.raises(ValueError, match="n_train and n_test must be positive"):
        interval([0.9, 0.8], 0, 50)
    with pytest.raises(ValueError, match="confidence"):
        interval([0.9, 0.8], 100, 50, confidence=95)
    with pytest.raises(ValueError, match="found 2 and 3"):
        ttest([0.9, 0.8], [0.9, 0.8, 0.7], 100, 50)


def results_of(test_roc_auc):
    """Results whose test ROC AUC are given per root split and inner split."""
    rows = [(root, inner, auc) for root, aucs in enumerate(test_roc_auc) for inner, auc in enumerate(aucs)]
    table = pd.DataFrame(rows, columns=["root_split", "inner_split", "test_roc_auc"])
    sizes = {"n_train": 60, "n_dev": 40, "n_test": 50, "threshold": 0.5, "root_splits": 10, "optimism": 0.9}
    return table.assign(**sizes, dev_roc_auc=0.9, test_balanced_accuracy=0.85, test_mcc=-0.7, test_brier=0.1)


def test_the_procedures_interval_weighs_outer_folds_the_same_and_counts_dev_as_learned_from():
    # means of outer folds 0.7 to 0.9, s² = 0.01 · 10 / 16, n_test / (n_train + n_dev) = 1/2, t(0.975, 4) = 2.7764451
    half_width = 2.7764451 * np.sqrt((1 / 5 + 1 / 2) * 0.00625)
    low, high = results_text.retrained(results_of([[0.6, 0.8], [0.75], [0.8, 0.8, 0.8], [0.85], [0.9]]))
    assert (low, high) == pytest.approx((0.8 - half_width, 0.8 + half_width))
    assert results_text.retrained(results_of([[0.7], [0.8], [0.9], [0.75]])) is None
    assert results_text.retrained(results_of([[0.9]] * 5)) is None


def test_results_table_shows_folds_choices_and_what_the_data_support():
    chosen = {
        0: {"learning_rate": 0.00123456, "optimizer": "adamw", "n_layers": 2},
        1: {"learning_rate": 1e-5, "optimizer": "sgd", "momentum": 0.9},
    }
    found, results = a_run()
    found["group"] = found["file"].str[:3]
    results = results.assign(root_splits=10)
    (auc, (low, high)), by_fold = results_text.summary(found, results).values(), results.groupby("root_split").mean()
    table = [
        [name, *(f"{row[score]:.3f}" for score in ("test_roc_auc", "test_balanced_accuracy", "test_mcc", "optimism"))]
        for name, row in [("0", by_fold.loc[0]), ("1", by_fold.loc[1]), ("mean", by_fold.mean())]
    ]
    table[0].insert(1, "2")
    table[1].insert(1, "2")
    lines = results_text.results_table(found, results, chosen).splitlines()
    assert lines[0] == "root split  models  test ROC AUC  balanced accuracy     MCC  dev - test ROC AUC"
    assert [line.split() for line in lines[1::2][:2]] + [lines[5].split()] == table
    assert lines[2:5:2] == [
        "            learning_rate 0.00123  optimizer adamw  n_layers 2",
        "            learning_rate 1e-05    optimizer sgd                momentum 0.9",
    ]
    assert lines[6:] == [
        "",
        f"test ROC AUC {auc:.3f} (approximate 95 % interval {low:.3f} to {high:.3f}: these models, new groups; DeLong)",
        "2 of 10 outer folds run: 120 of 180 images tested; --root-splits 10 tests them all",
    ]


def test_perfect_folds_give_a_bound_and_one_patient_of_a_class_no_interval():
    found, results = a_run(strength=100, n_test=20)
    assert results_text.summary(found, results) == {"test_roc_auc": 1, "ci": pytest.approx([0.025 ** (1 / 20), 1])}
    assert "0.832 to 1.000: these models, new images; bound: no error)" in results_text.results_table(found, results)
    found["group"] = found["class"]
    assert results_text.summary(found, results)["ci"] is None
    assert "no interval: an outer fold has one group or image of a class" in results_text.results_table(found, results)


def test_results_table_of_many_choices_fits_in_100_columns():
    names = [f"a_setting_of_a_long_name_{i}" for i in range(6)]
    lines = results_text.results_table(*a_run(), {0: dict.fromkeys(names, 1.23456e-05)}).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(any(f"{name} 1.23e-05" in line for line in lines) for name in names)


def legend_texts(figure):
    legends = [*figure.legends, *[axes.get_legend() for axes in figure.axes if axes.get_legend()]]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


@pytest.mark.parametrize(
    "run",
    [
        {"n_test": 12},
        {"root_splits": 1, "inner_splits": 1, "n_test": 4},
        {"root_splits": 1, "inner_splits": 3, "strength": 100},  # perfect, and one value per class
    ],
    ids=str,
)
def test_every_plot_has_a_title_and_named_axes_and_shows_itself_in_notebooks(run):
    for figure in plot(*a_run(**run)).values():
        assert figure.get_suptitle()
        assert figure.axes[-1].get_xlabel() and all(axes.get_ylabel() for axes in figure.axes)
        assert figure._repr_png_()[0].startswith(b"\x89PNG")
        boxes = [legend.get_window_extent() for legend in figure.legends]
        assert all(min(box.x0, figure.bbox.x1 - box.x1) >= 0 for box in boxes), "a legend is cut off"


def test_plots_state_the_numbers_of_the_table():
    found, results = a_run(root_splits=3)
    figures = plot(found, results)
    by_fold = results.groupby("root_split").mean()
    low, high = results_text.summary(found, results)["ci"]
    assert f"mean (AUC {by_fold['test_roc_auc'].mean():.3f})" in legend_texts(figures["roc"])
    assert f"found, 95 % interval (Brier {by_fold['test_brier'].mean():.3f})" in legend_texts(figures["calibration"])
    slope, intercept = by_fold[["test_calibration_slope", "test_calibration_intercept"]].mean()
    said = f"slope {slope:.2f} (perfect: 1), intercept {intercept:.2f} (perfect: 0)"
    assert said in legend_texts(figures["calibration"])
    assert f"95 % interval\n{low:.3f} to {high:.3f}: these models" in legend_texts(figures["folds"])
    cats = found[(found["part"] == "test") & (found["label"] == 0)]
    counted = f"{(cats['prediction'] == 0).sum()} of 180 predictions"
    assert counted in [text.get_text() for text in figures["confusion"].axes[0].texts]


def test_roc_curve_encloses_the_auc_it_states():
    found, results = a_run(root_splits=1, inner_splits=1, strength=0.5)
    lines = plots.roc_plot(found, CLASSES).axes[0].lines
    x, y = next(line.get_data() for line in lines if line.get_label().startswith("model"))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(results["test_roc_auc"].item(), abs=0.005)


@pytest.mark.parametrize(
    "classes",
    [pytest.param(CLASSES, id="two", marks=pytest.mark.slow), pytest.param(("cat", "dog", "horse"), id="three")],
)
def test_plots_show_the_test_part_alone(classes):
    found, _ = a_run(classes)
    dev = found["part"] == "dev"
    altered = found.assign(**{column: found[column].where(~dev, 0.3) for column in found if "probability" in column})
    for draw in (plots.roc_plot, plots.density_plot, plots.calibration_plot, plots.confusion_plot):
        assert draw(altered, classes).png() == draw(found, classes).png()
        with pytest.raises(ValueError, match='part "test"'):
            draw(found[dev], classes)


def test_calibration_interval_counts_a_photo_once():
    found, _ = a_run(root_splits=1, inner_splits=1)
    again = pd.concat([found.assign(inner_split=inner) for inner in range(4)])

    def widths(table):
        bars = plots.calibration_plot(table, CLASSES).axes[0].collections[0]
        return [np.ptp(segment[:, 1]) for segment in bars.get_segments()]

    assert widths(again) == pytest.approx(widths(found))


def test_saved_plots_are_the_same_bytes_each_time(tmp_path):
    first = plots.save_plots(plot(*a_run()), tmp_path / "new" / "first")
    second = plots.save_plots(plot(*a_run()), tmp_path / "second")
    assert {"roc.png", "density.png", "calibration.png", "confusion.png", "folds.png"} <= {p.name for p in first}
    assert sorted((tmp_path / "second").iterdir()) == sorted(second)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
