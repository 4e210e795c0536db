"""The calibration plot: how often what was predicted with a probability came true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import brier_score_loss

from common.evaluation.predictions import probabilities_of
from common.plots.figures import GREY, INK, Plot, name_axes
from common.plots.of_predictions import CLASS_COLOURS, described, drawing, per_model, test_part

_RIGHT = "#56B4E9"


def calibration_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Share of class 1 in ten bins of the predicted probability, above the number of predictions in each bin.

    With more than two classes the bins are of the highest probability, and the share is that of right predictions:
    confidence calibration, which says nothing of the classes that were not predicted.

    Points have the 95 % interval of Wilson (1927). Predictions of one photo by several models are not independent, so
    its sample size is the number of different photos in the bin. The Brier score is averaged as the AUC is.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML.
    """
    test = test_part(predictions)
    title, x, y = f"Calibration, {described(test)}", f"predicted probability of {classes[1]}", "observed frequency"
    said, true, outcomes, colours = probabilities_of(test), test["label"], classes, CLASS_COLOURS
    if len(classes) > 2:
        title, x = f"Calibration, {described(test, 'images')}", "highest predicted probability"
        said, true = said.max(axis=1), (test["label"] == test["prediction"]).astype(int)
        y, outcomes, colours = "share that is right", ("wrong", "right"), (INK, _RIGHT)
    test = test.assign(said=said, true=true)
    tenth = (test["said"] * 10).astype(int).clip(upper=9)
    counts = pd.crosstab(tenth, test["true"]).reindex(columns=[0, 1], fill_value=0)
    bins = test.groupby(tenth).agg(said=("said", "mean"), share=("true", "mean"), photos=("file", "nunique"))
    low, high = _wilson(bins["share"], bins["photos"])

    figure, (upper, lower) = drawing(title, 2, 1, sharex=True, height_ratios=[3, 1])
    name_axes(upper, "", y)
    name_axes(lower, x, "predictions")
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    error = [bins["share"] - low, high - bins["share"]]
    found = f"found, 95 % interval (Brier {_brier(test, len(classes)):.3f})"
    upper.errorbar(bins["said"], bins["share"], error, fmt="o", color=INK, markersize=5, capsize=2, label=found)
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


def _wilson(share: pd.Series, n: pd.Series, z: float = 1.959964) -> tuple[pd.Series, pd.Series]:
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half_width).clip(upper=share), (centre + half_width).clip(lower=share)
