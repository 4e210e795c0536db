"""The room `common/evaluation`: scores, thresholds, intervals, plots and the report of a run."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, matthews_corrcoef, roc_auc_score

from common import plots
from common.evaluation import metrics, report, statistics

CLASSES = ["cat", "dog"]


def a_run(root_splits=2, inner_splits=2, n_test=60, noise=1.0):
    """Predictions and results as a run leaves them, from scores with a known overlap of the classes."""
    predictions, results = [], []
    for root_split, inner_split in np.ndindex(root_splits, inner_splits):
        random = np.random.default_rng([root_split, inner_split])
        fold = {"root_split": root_split, "inner_split": inner_split}
        parts = {}
        for part, n in {"dev": 40, "test": n_test}.items():
            label = np.arange(n) % 2
            probability = 1 / (1 + np.exp(-4 * (label - 0.5) - noise * random.normal(size=n)))
            file = [f"{part}_{root_split}_{i}.jpg" for i in range(n)]
            parts[part] = pd.DataFrame(
                {**fold, "part": part, "file": file, "label": label, "probability": probability}, index=range(n)
            )
        threshold = metrics.youden_threshold(parts["dev"]["label"], parts["dev"]["probability"])
        scores = {
            part: metrics.score_predictions(table["label"], table["probability"], threshold)
            for part, table in parts.items()
        }
        table = pd.concat(parts.values())
        predictions.append(
            table.assign(threshold=threshold, prediction=(table["probability"] >= threshold).astype(int))
        )
        sizes = {"n_train": 100, "n_dev": 40, "n_test": n_test, "threshold": threshold}
        test = {f"test_{name}": score for name, score in scores["test"].items()}
        results.append({**fold, **sizes, "dev_roc_auc": scores["dev"]["roc_auc"], **test})
    return pd.concat(predictions, ignore_index=True), pd.DataFrame(results)


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        ([0, 0, 1, 1], [0.125, 0.25, 0.5, 0.875], 0.375),  # the middle of the gap that parts the classes
        ([0, 1, 0, 1], [0.125, 0.25, 0.5, 0.875], 0.6875),  # J is the same at 0.1875, further from 0.5
        ([0, 1, 0, 1], [0.125, 0.375, 0.625, 0.875], 0.25),  # 0.25 and 0.75 are as close: the lower one
        ([0, 1], [0.7, 0.7], 0.35),
        ([0, 1], [1.0, 1.0], 0.5),
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
        ([1, 1], [0.2, 0.9], "both 0 and 1, found \\[1\\]"),
        ([], [], "both 0 and 1"),
        ([0, 1], [0.2, np.nan], "NaN"),
        ([0, 1], [0.2, 1.5], r"\[0, 1\]"),
        ([0, 1, 1], [0.2, 0.9], "one shape"),
        ([0, 1], [[0.8, 0.2], [0.1, 0.9]], "one shape"),
        ([0, 1, 1], np.eye(3), r"all 3 classes, found none of \[2\] in 3 images"),
        ([], np.empty((0, 3)), r"none of \[0, 1, 2\] in 0 images"),
        ([0, 1, 2, 3], np.eye(3)[[0, 1, 2, 2]], r"0 to 2, found \[3\]"),
        (np.arange(10) % 8, np.eye(10), r"all 10 classes, found none of \[8, 9\]"),
        ([0, 1, 2], np.eye(3) * 0.75, "sum to 1, found 0.75"),
        ([0, 1, 2], np.where(np.eye(3), 1, np.nan), "NaN"),
        ([0, 1, 2], np.eye(3)[:2], r"one shape .* found \(3,\) and \(2, 3\)"),
    ],
)
def test_scores_of_broken_predictions_raise(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metrics.youden_threshold(labels, probabilities)
    with pytest.raises(ValueError, match=message):
        metrics.score_predictions(labels, probabilities, 0.5)


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
    assert metrics.confusion(labels, [0, 1, 1, 0, 2], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert np.isnan(metrics.youden_threshold(labels, probabilities))


@pytest.mark.parametrize("n_classes", [3, 10])
def test_scores_of_many_classes_are_scikit_learns(n_classes):
    random = np.random.default_rng(n_classes)
    labels = np.arange(30 * n_classes) % n_classes
    probabilities = random.dirichlet(np.ones(n_classes), len(labels)) * 0.9 + 0.1 * np.eye(n_classes)[labels]
    predictions = probabilities.argmax(axis=1)
    expected = {
        "roc_auc": roc_auc_score(labels, probabilities, multi_class="ovr", average="macro", labels=range(n_classes)),
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
        "mcc": matthews_corrcoef(labels, predictions),
        "brier": brier_score_loss(labels, probabilities, labels=range(n_classes), scale_by_half=False),
    }
    assert metrics.score_predictions(labels, probabilities, 0.5) == pytest.approx(expected, abs=1e-12)
    assert 0.55 < expected["roc_auc"] < 0.99


@pytest.mark.parametrize("n_classes", [3, 10])
def test_scores_of_many_classes_at_their_ends(n_classes):
    labels, certain = np.arange(2 * n_classes) % n_classes, np.eye(n_classes)
    score = metrics.score_predictions
    perfect = {"roc_auc": 1, "balanced_accuracy": 1, "mcc": 1, "brier": 0}
    assert score(labels, certain[labels], np.nan) == pytest.approx(perfect)
    wrong = score(labels, certain[(labels + 1) % n_classes], np.nan)
    assert (wrong["balanced_accuracy"], wrong["brier"]) == (0, 2) and -1 < wrong["mcc"] < 0
    alike = {"roc_auc": 0.5, "balanced_accuracy": 1 / n_classes, "mcc": 0, "brier": 1 - 1 / n_classes}
    assert score(labels, np.full((2 * n_classes, n_classes), 1 / n_classes), np.nan) == pytest.approx(alike)


def test_random_predictions_of_ten_classes_are_at_chance():
    random, labels = np.random.default_rng(0), np.arange(20_000) % 10
    scores = metrics.score_predictions(labels, random.dirichlet(np.ones(10), len(labels)), np.nan)
    assert scores["roc_auc"] == pytest.approx(0.5, abs=0.01)
    assert scores["balanced_accuracy"] == pytest.approx(0.1, abs=0.01)
    assert scores["mcc"] == pytest.approx(0, abs=0.01)


def test_interval_is_the_formula_done_by_hand():
    # s² = 0.01, (1/3 + 50/100) s² = 0.0083333, its root 0.0912871, times t(0.975, 2) = 4.3026527
    mean, low, high = statistics.corrected_resampled_interval([0.8, 0.9, 1.0], 100, 50, bounds=(-np.inf, np.inf))
    assert (mean, low, high) == pytest.approx((0.9, 0.507224, 1.292776), abs=1e-6)
    assert statistics.corrected_resampled_interval([0.8, 0.9, 1.0], 100, 50) == pytest.approx((0.9, 0.507224, 1), 1e-5)


def test_interval_covers_the_true_mean_where_the_plain_t_does_not():
    random, n_train, n_test, true = np.random.default_rng(0), 90, 10, 0.9
    shared = n_test / (n_train + n_test)  # correlation of two folds' scores, as the method supposes
    unbounded = (-np.inf, np.inf)
    corrected = plain = 0
    for _ in range(2000):
        own, common = random.normal(size=10), random.normal()
        scores = true + 0.02 * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
        _, low, high = statistics.corrected_resampled_interval(scores, n_train, n_test, bounds=unbounded)
        corrected += low <= true <= high
        _, low, high = statistics.corrected_resampled_interval(scores, n_train, 1e-9, bounds=unbounded)
        plain += low <= true <= high
    assert corrected / 2000 == pytest.approx(0.95, abs=0.015)
    assert plain / 2000 < 0.9


def test_interval_of_equal_scores_has_no_width_and_of_one_score_no_limits():
    assert statistics.corrected_resampled_interval([0.75] * 4, 100, 50) == (0.75, 0.75, 0.75)
    mean, low, high = statistics.corrected_resampled_interval([0.75], 100, 50)
    assert mean == 0.75
    assert np.isnan([low, high]).all()


def test_ttest_is_the_formula_done_by_hand():
    a, b = [0.9, 0.9, 0.9], [0.8, 0.7, 0.6]
    t = 0.2 / np.sqrt((1 / 3 + 0.5) * 0.01)
    p = 1 - t / np.sqrt(t**2 + 2)  # Student's t has this closed form for two degrees of freedom
    assert statistics.corrected_resampled_ttest(a, b, 100, 50) == pytest.approx((t, p))
    assert statistics.corrected_resampled_ttest(b, a, 100, 50) == pytest.approx((-t, p))
    assert statistics.corrected_resampled_ttest(a, a, 100, 50) == (0.0, 1.0)
    assert statistics.corrected_resampled_ttest([0.75, 0.5], [0.5, 0.25], 100, 50) == (np.inf, 0.0)


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
    sizes = {"n_train": 60, "n_dev": 40, "n_test": 50, "threshold": 0.5}
    return table.assign(**sizes, dev_roc_auc=0.9, test_balanced_accuracy=0.85, test_mcc=-0.7, test_brier=0.1)


def test_summary_weighs_outer_folds_the_same_and_counts_dev_as_learned_from():
    # means of outer folds 0.8, 0.9, 1.0 and n_test / (n_train + n_dev) = 1/2: the example done by hand above
    found = report.summary(results_of([[0.7, 0.9], [0.9], [1.0, 1.0, 1.0]]))
    assert found["test_roc_auc"] == pytest.approx(0.9)
    assert found["ci"] == pytest.approx([0.507224, 1], abs=1e-6)
    assert report.summary(results_of([[0.75, 0.25]])) == {"test_roc_auc": 0.5, "ci": None}


def test_results_table_shows_folds_choices_and_interval():
    chosen = {
        0: {"learning_rate": 0.00123456, "optimizer": "adamw", "n_layers": 2},
        1: {"learning_rate": 1e-5, "optimizer": "sgd", "momentum": 0.9},
    }
    assert report.results_table(results_of([[0.7, 0.9], [0.8, 0.84]]), chosen).splitlines() == [
        "root split  models  test ROC AUC  balanced accuracy     MCC",
        "         0       2         0.800              0.850  -0.700",
        "            learning_rate 0.00123  optimizer adamw  n_layers 2",
        "         1       2         0.820              0.850  -0.700",
        "            learning_rate 1e-05    optimizer sgd                momentum 0.9",
        "      mean                 0.810              0.850  -0.700",
        "",
        "test ROC AUC 0.810 (95 % interval 0.630 to 0.990, corrected resampled t)",
    ]
    assert report.results_table(results_of([[0.8]])).endswith("test ROC AUC 0.800 (no interval: one outer fold)")


def test_results_table_of_many_choices_fits_in_100_columns():
    names = ["learning_rate_backbone", "learning_rate_head", "weight_decay", "dropout", "batch_size", "augmentation"]
    lines = report.results_table(results_of([[0.8], [0.9]]), {0: dict.fromkeys(names, 1.23456e-05)}).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(any(f"{name} 1.23e-05" in line for line in lines) for name in names)


def legend_texts(figure):
    legends = [*figure.legends, *[axes.get_legend() for axes in figure.axes if axes.get_legend()]]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def plot(predictions, results):
    return {
        "roc": plots.roc_plot(predictions, CLASSES),
        "density": plots.density_plot(predictions, CLASSES),
        "calibration": plots.calibration_plot(predictions, CLASSES),
        "confusion": plots.confusion_plot(predictions, CLASSES),
        "folds": plots.fold_plot(results),
    }


@pytest.mark.parametrize(
    "run",
    [
        {"root_splits": 1, "inner_splits": 1},
        {"root_splits": 1, "inner_splits": 3},
        {"root_splits": 3, "inner_splits": 2},
        {"root_splits": 1, "inner_splits": 1, "n_test": 4},
        {"noise": 0.0},  # perfect, and one value per class
    ],
    ids=str,
)
def test_every_plot_has_title_labels_and_legend(run):
    figures = plot(*a_run(**run))
    assert list(figures) == ["roc", "density", "calibration", "confusion", "folds"]
    for stem, figure in figures.items():
        assert figure.get_suptitle()
        assert figure.axes[-1].get_xlabel()
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert legend_texts(figure) or stem == "confusion"
        assert figure.png().startswith(b"\x89PNG")


def test_plots_state_the_numbers_of_the_table():
    predictions, results = a_run(root_splits=3)
    figures = plot(predictions, results)
    by_fold = results.groupby("root_split").mean()
    low, high = report.summary(results)["ci"]
    assert f"mean (AUC {by_fold['test_roc_auc'].mean():.3f})" in legend_texts(figures["roc"])
    assert f"found, 95 % interval (Brier {by_fold['test_brier'].mean():.3f})" in legend_texts(figures["calibration"])
    assert f"95 % interval {low:.3f} to {high:.3f}" in legend_texts(figures["folds"])
    test = predictions[predictions["part"] == "test"]
    cats_right = ((test["label"] == 0) & (test["prediction"] == 0)).sum()
    cells = [text.get_text() for text in figures["confusion"].axes[0].texts]
    assert f"{cats_right} of 180 predictions" in cells
    assert f"{cats_right / 180:.1%}".replace("%", " %") in cells


def test_roc_curve_encloses_the_auc_it_states():
    predictions, results = a_run(root_splits=1, inner_splits=1, noise=3.0)
    figure = plots.roc_plot(predictions, CLASSES)
    x, y = next(line.get_data() for line in figure.axes[0].lines if line.get_label().startswith("model"))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(results["test_roc_auc"].item(), abs=0.005)


def test_plots_show_the_test_part_alone():
    predictions, _ = a_run()
    dev = predictions["part"] == "dev"
    altered = predictions.assign(probability=predictions["probability"].where(~dev, 0.5))
    for draw in (plots.roc_plot, plots.density_plot, plots.calibration_plot, plots.confusion_plot):
        assert draw(altered, CLASSES).png() == draw(predictions, CLASSES).png()
        with pytest.raises(ValueError, match='part "test"'):
            draw(predictions[dev], CLASSES)


def test_calibration_interval_counts_a_photo_once():
    predictions, _ = a_run(root_splits=1, inner_splits=1)
    again = pd.concat([predictions.assign(inner_split=inner) for inner in range(4)])

    def widths(table):
        bars = plots.calibration_plot(table, CLASSES).axes[0].collections[0]
        return [np.ptp(segment[:, 1]) for segment in bars.get_segments()]

    assert widths(again) == pytest.approx(widths(predictions))


def test_saved_plots_are_the_same_bytes_each_time(tmp_path):
    first = plots.save_plots(plot(*a_run()), tmp_path / "new" / "first")
    second = plots.save_plots(plot(*a_run()), tmp_path / "second")
    assert [path.name for path in first] == [
        f"{stem}.png" for stem in ("roc", "density", "calibration", "confusion", "folds")
    ]
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == sorted(path.name for path in first)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_plots_show_themselves_in_notebooks():
    figure = plots.confusion_plot(a_run()[0], CLASSES)
    png, shown = figure._repr_png_()
    assert png == figure.png()
    assert shown == {"width": 600, "height": 450}
