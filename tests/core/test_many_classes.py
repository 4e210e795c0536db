"""Pictures and words about predictions of more than two classes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common import plots
from common.data.images import ImageTable
from common.data.splits import Fold
from common.evaluation import metrics, predictions, report
from common.plots.of_predictions import CLASS_COLOURS
from step_4.analyze_predictions import plot

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
THREE = ("cat", "dog", "a_name_too_long_to_stand_below_a_column")
DIGITS = tuple("0123456789")
MANY = tuple(f"breed_{i}" for i in range(37))


def a_run(classes, root_splits=2, inner_splits=2, n_test=None, strength=1.5):
    """Predictions and results of images of many classes, as a run leaves them."""
    n_test = n_test or 6 * len(classes)
    n = n_test * (root_splits + 1)
    labels = np.arange(n) % len(classes)
    table = ImageTable("t", Path(), tuple(f"{i:04d}.jpg" for i in range(n)), labels, tuple(classes), None, ("",) * n)
    folds, tables = [], []
    for root, inner in np.ndindex(root_splits, inner_splits):
        random = np.random.default_rng([root, inner])
        test = np.arange(n_test) + n_test * root
        dev, train = np.split(np.setdiff1d(np.arange(n), test), [n_test])
        folds.append(Fold(root, inner, train, dev, test))
        parts = []
        for rows in (dev, test):
            logits = random.normal(size=(len(rows), len(classes))) + strength * np.eye(len(classes))[labels[rows]]
            odds = np.exp(logits)
            parts.append(odds / odds.sum(axis=1, keepdims=True))
        threshold = metrics.youden_threshold(labels[dev], parts[0])
        tables.append(predictions.predictions_table(table, folds[-1], *parts, threshold))
    joined = predictions.join(tables)
    return joined, predictions.results_of(joined, folds)


def texts(figure):
    """All that a figure says."""
    legends = [*figure.legends, *[axes.get_legend() for axes in figure.axes if axes.get_legend()]]
    found = [figure.get_suptitle(), *[text.get_text() for legend in legends for text in legend.get_texts()]]
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), *[text.get_text() for text in axes.texts]]
        found += [tick.get_text() for tick in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    return found


RUNS = {
    "three": {"classes": THREE},
    "three, one photo each": {"classes": THREE, "root_splits": 1, "inner_splits": 1, "n_test": 3},
    "ten": {"classes": TEN},
    "ten, perfect": {"classes": DIGITS, "strength": 100},
    "thirty-seven": {"classes": MANY, "root_splits": 1, "inner_splits": 1},
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_nothing_in_a_plot_of_many_classes_leaves_the_page_or_overlaps(run):
    found, results = a_run(**run)
    for stem, figure in plot(found, results).items():
        assert figure.png().startswith(b"\x89PNG")
        assert figure.get_suptitle() and figure.axes[-1].get_xlabel() and all(a.get_ylabel() for a in figure.axes)
        page = figure.bbox.padded(1)
        boxes = [part.get_window_extent() for part in (*figure.legends, *figure.texts)]
        boxes += [axes.get_tightbbox() for axes in figure.axes]
        assert all(page.contains(*box.min) and page.contains(*box.max) for box in boxes), stem
        for axes in figure.axes:
            for ticks in (axes.get_xticklabels(), axes.get_yticklabels(), axes.texts):
                drawn = [text.get_window_extent() for text in ticks if text.get_text()]
                assert not any(a.overlaps(b) for a, b in pairwise(drawn)), stem
        assert not any("threshold" in text for text in texts(figure)), stem


def test_plots_of_many_classes_state_the_numbers_of_the_table():
    found, results = a_run(TEN)
    figures = {stem: texts(figure) for stem, figure in plot(found, results).items()}
    by_fold = results.groupby("root_split").mean().mean()
    assert f"mean of the classes (AUC {by_fold.test_roc_auc:.3f})" in figures["roc"]
    assert f"found, 95 % interval (Brier {by_fold.test_brier:.3f})" in figures["calibration"]
    test = found[found.part == "test"]
    cats = test[test["class"] == "cat"]
    assert f"{100 * (cats.prediction == 3).mean():.0f}" in figures["confusion"]
    assert {*TEN} <= {*figures["density"]} & {*figures["confusion"]}
    assert "test ROC AUC, mean of the classes" in figures["folds"]


def test_each_class_has_a_roc_curve_that_encloses_the_auc_it_states():
    found, results = a_run(THREE, root_splits=1, inner_splits=1, n_test=300)
    axes = plots.roc_plot(found, THREE).axes[0]
    test = found[found.part == "test"]
    areas = []
    for label, (line, name) in enumerate(zip(axes.lines, ["cat", "dog", "a_name_too_long_to_…"], strict=False)):
        areas.append(np.trapezoid(line.get_ydata(), line.get_xdata()))
        auc = metrics.score_predictions(test.label == label, predictions.probabilities_of(test)[:, label], 0.5)
        assert areas[-1] == pytest.approx(auc["roc_auc"], abs=0.005)
        assert line.get_label() == f"{name} (AUC {auc['roc_auc']:.3f})" and line.get_color() == CLASS_COLOURS[label]
    mean = axes.lines[3]
    assert np.trapezoid(mean.get_ydata(), mean.get_xdata()) == pytest.approx(results.test_roc_auc.item(), abs=0.005)
    assert len({*CLASS_COLOURS}) >= 10


def test_calibration_of_many_classes_is_of_the_predicted_class():
    found, _ = a_run(TEN)
    test = found[found.part == "test"]
    upper, lower = plots.calibration_plot(found, TEN).axes
    said, right = predictions.probabilities_of(test).max(axis=1), (test.label == test.prediction).to_numpy()
    tenths = np.minimum(9, (10 * said).astype(int))
    points = upper.containers[0].lines[0].get_xydata()
    expected = [(said[tenths == tenth].mean(), right[tenths == tenth].mean()) for tenth in np.unique(tenths)]
    assert points == pytest.approx(np.array(expected))
    assert sum(bar.get_height() for bar in lower.containers[0]) == (~right).sum()


def test_plots_of_many_classes_show_the_test_part_alone():
    found, _ = a_run(THREE)
    dev = found.part == "dev"
    altered = found.assign(**{column: found[column].where(~dev, 1 / 3) for column in found if "probability" in column})
    for draw in (plots.roc_plot, plots.density_plot, plots.calibration_plot, plots.confusion_plot):
        assert draw(altered, THREE).png() == draw(found, THREE).png()
        with pytest.raises(ValueError, match='part "test"'):
            draw(found[dev], THREE)


def test_the_analysis_of_many_classes_names_its_scores_and_counts_each_confusion():
    found, results = a_run(TEN)
    text = report.analysis_text(found, results)
    brier = results.groupby("root_split")["test_brier"].mean().mean()
    assert "ROC AUC is the mean over the classes, each against all others (macro, one-vs-rest)" in text
    assert f"Brier score {brier:.3f} (0 to 2: sum over the classes)" in text
    assert "threshold" not in text and "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 100
    test = found[found.part == "test"]
    rows = {line.split()[1]: line.split()[2:] for line in text.splitlines()[-10:]}
    assert list(rows) == list(TEN)
    assert [[int(count) for count in row] for row in rows.values()] == metrics.confusion(
        test.label, test.prediction, 10
    ).tolist()
