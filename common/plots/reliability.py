"""The calibration plot: how often what was predicted with a probability came true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy import stats
from sklearn.metrics import brier_score_loss

from common.evaluation.calibration import calibration_intercept, calibration_slope
from common.evaluation.predictions import probabilities_of
from common.evaluation.tested import units_of
from common.plots.figures import GREY, INK, Plot, name_axes
from common.plots.of_predictions import CLASS_COLOURS, described, drawing, per_model, test_part

_RIGHT = "#56B4E9"


def calibration_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Share of class 1 in ten bins of the predicted probability, above the number of predictions in each bin.

    With more than two classes the bins are of the highest probability, and the share is that of right predictions:
    confidence calibration, which says nothing of the classes that were not predicted.

    Points have the 95 % interval of Wilson (1927), whose sample size is that of :func:`effective_size`. Of two classes
    the legend has the calibration slope and intercept, averaged as the AUC is, and so is the Brier score.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML.
    """
    test = test_part(predictions)
    title, x, y = f"Calibration, {described(test)}", f"predicted probability of {classes[1]}", "observed frequency"
    said, true, outcomes, colours = probabilities_of(test), test["label"], classes, CLASS_COLOURS
    if len(classes) > 2:
        title, x = f"Calibration, {described(test)}", "highest predicted probability"
        said, true = said.max(axis=1), (test["label"] == test["prediction"]).astype(int)
        y, outcomes, colours = "share that is right", ("wrong", "right"), (INK, _RIGHT)
    test = test.assign(said=said, true=true, unit=units_of(test))
    tenth = (test["said"] * 10).astype(int).clip(upper=9)
    counts = pd.crosstab(tenth, test["true"]).reindex(columns=[0, 1], fill_value=0)
    bins = test.groupby(tenth).agg(said=("said", "mean"), share=("true", "mean"))
    sizes = [effective_size(own["true"], own["file"], own["unit"]) for _, own in test.groupby(tenth)]
    low, high = wilson_interval(bins["share"].to_numpy(), np.array(sizes))

    figure, (upper, lower) = drawing(title, 2, 1, sharex=True, height_ratios=[3, 1])
    name_axes(upper, "", y)
    name_axes(lower, x, "predictions")
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    error = [bins["share"] - low, high - bins["share"]]
    found = f"found, 95 % interval (Brier {_brier(test, len(classes)):.3f})"
    upper.errorbar(bins["said"], bins["share"], error, fmt="o", color=INK, markersize=5, capsize=2, label=found)
    if len(classes) == 2:
        upper.plot([], [], " ", label=_slope_and_intercept(test))
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    for outcome, name in enumerate(outcomes):
        below = counts.iloc[:, :outcome].sum(axis=1)
        lower.bar(counts.index / 10 + 0.05, counts[outcome], 0.09, below, color=colours[outcome], label=name)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _brier(test: pd.DataFrame, n_classes: int) -> float:
    labels = range(n_classes)
    scores = per_model(test, lambda model: [brier_score_loss(model["label"], probabilities_of(model), labels=labels)])
    return scores[0].groupby("root_split").mean().mean()


def _slope_and_intercept(test: pd.DataFrame) -> str:
    measures = {"slope": calibration_slope, "intercept": calibration_intercept}

    def of_model(model: pd.DataFrame) -> list[float]:
        labels, probabilities = model["label"].to_numpy(), probabilities_of(model)
        return [measure(labels, probabilities, 0.5, np.ones((1, len(labels))))[0] for measure in measures.values()]

    found = per_model(test, of_model)
    means = found.groupby("root_split").mean().mean().where(found.notna().all())
    slope = "no slope: separated" if np.isnan(means[0]) else f"slope {means[0]:.2f} (perfect: 1)"
    return f"{slope}, intercept {means[1]:.2f} (perfect: 0)"


def effective_size(true: pd.Series, files: pd.Series, units: pd.Series) -> float:
    """How many independent images say as much of a share as these predictions do.

    It is the number of different files, divided by the design effect: how much larger the variance of the share is
    where units vary than where files do. It is at least 1, and one unit, or shares of 0 and 1, count as their units.
    With few units it is larger, as Student's quantile is to the normal one.

    Parameters
    ----------
    true : Series of int
        0 or 1 for each prediction.
    files, units : Series of str
        What it is a prediction of, and what this belongs to.

    References
    ----------
    Korn & Graubard (1998), Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data, Survey Methodology 24(2):193-201.
    """
    n_files, n_units = files.nunique(), units.nunique()
    if n_files == n_units:
        return n_files
    off = true - true.mean()
    if n_units == 1 or not off.any():
        return n_units
    by_unit, by_file = ((off.groupby(each.to_numpy()).sum() ** 2).mean() for each in (units, files))
    effect = by_unit * n_units**2 / (n_units - 1) / (by_file * n_files**2 / (n_files - 1))
    few = (stats.t.ppf(0.975, n_units - 1) / stats.norm.ppf(0.975)) ** 2
    return float(n_files / max(1, effect) / few)


def wilson_interval(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of Wilson (1927) for shares of n, which need be no whole number: lower and upper limits."""
    z = stats.norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.minimum(centre - half_width, share), np.maximum(centre + half_width, share)
