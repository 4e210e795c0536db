"""Pictures and words about predictions of more than two classes."""

import numpy as np
import pytest
from test_evaluation import a_run

from common import plots
from common.evaluation import analysis_text, metrics, predictions
from step_4.analyze_predictions import plot

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
THREE = ("cat", "dog", "a_name_too_long_to_stand_below_a_column")
MANY = tuple(f"breed_{i}" for i in range(37))


def texts(figure):
    """All that a figure says."""
    legends = [*figure.legends, *[axes.get_legend() for axes in figure.axes if axes.get_legend()]]
    found = [figure.get_suptitle(), *[text.get_text() for legend in legends for text in legend.get_texts()]]
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), *[text.get_text() for text in axes.texts]]
        found += [tick.get_text() for tick in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    return found


@pytest.mark.parametrize(
    "run",
    [
        {"classes": THREE, "root_splits": 1, "inner_splits": 1, "n_test": 3, "strength": 100},
        {"classes": MANY, "root_splits": 1, "inner_splits": 1, "n_test": 74},
    ],
    ids=["three, one photo each", "thirty-seven"],
)
def test_every_plot_of_many_classes_has_a_title_and_named_axes_and_no_threshold(run):
    for stem, figure in plot(*a_run(**run)).items():
        assert figure.png().startswith(b"\x89PNG")
        assert figure.get_suptitle() and figure.axes[-1].get_xlabel() and all(a.get_ylabel() for a in figure.axes)
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
    assert "test ROC AUC, mean of the classes" in figures["folds"] and "decision" not in figures


def test_each_class_has_a_roc_curve_that_encloses_the_auc_it_states():
    found, results = a_run(THREE, root_splits=1, inner_splits=1, n_test=300)
    axes = plots.roc_plot(found, THREE).axes[0]
    test = found[found.part == "test"]
    areas = []
    for label, (line, name) in enumerate(zip(axes.lines, ["cat", "dog", "a_name_too_long_to_…"], strict=False)):
        areas.append(np.trapezoid(line.get_ydata(), line.get_xdata()))
        auc = metrics.score_predictions(test.label == label, predictions.probabilities_of(test)[:, label], 0.5)
        assert areas[-1] == pytest.approx(auc["roc_auc"], abs=0.005)
        assert line.get_label() == f"{name} (AUC {auc['roc_auc']:.3f})"
    mean = axes.lines[3]
    assert np.trapezoid(mean.get_ydata(), mean.get_xdata()) == pytest.approx(results.test_roc_auc.item(), abs=0.005)


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


def test_the_analysis_of_many_classes_names_its_scores_and_counts_each_confusion():
    found, results = a_run(TEN)
    text = analysis_text(found, results)
    brier = results.groupby("root_split")["test_brier"].mean().mean()
    assert "ROC AUC is the mean over the classes, each against all others (macro, one-vs-rest)" in text
    (line,) = (line for line in text.splitlines() if line.startswith("Brier score"))
    assert line.split()[2] == f"{brier:.3f}" and line.endswith("0 to 2: sum over the classes")
    assert "threshold" not in text and "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 100
    test = found[found.part == "test"]
    rows = {line.split()[1]: line.split()[2:] for line in text.splitlines()[-10:]}
    assert list(rows) == list(TEN)
    assert [[int(count) for count in row] for row in rows.values()] == metrics.confusion(
        test.label, test.prediction, 10
    ).tolist()
