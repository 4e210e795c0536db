"""Plots of a run's test predictions and results: figures without global state, for files, threads and notebooks.

In every plot `predictions` is the predictions table, of which the rows with part "test" are drawn, and `classes` are
the names of class 0, class 1, and so on. A model is one (root_split, inner_split). What more than two classes need to
be drawn differently is in :mod:`common.plots.many_classes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import roc_auc_score

from common.evaluation.delong import auc_interval
from common.evaluation.metrics import confusion
from common.evaluation.results_text import has_many_classes
from common.evaluation.tested import tested_folds
from common.plots import many_classes
from common.plots.figures import GREY, INK, PALE, Plot, name_axes
from common.plots.of_predictions import CLASS_COLOURS, MODEL, described, drawing, per_model, sensitivity, test_part
from common.state import whole_file

_YELLOW, _SKY = "#F0E442", "#56B4E9"


def roc_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """ROC: the mean over root splits, a thin line per root split, and the points that the thresholds choose.

    Curves are averaged vertically, over the models of a root split and then over root splits; the AUC shown is the
    mean of the AUCs. With one root split the thin lines are its models. More than two classes have a line each, against
    all others, and the mean of these lines.
    """
    if len(classes) > 2:
        return many_classes.multiclass_roc_plot(predictions, classes)
    test = test_part(predictions)
    rate = np.linspace(0, 1, 501)
    tables = [
        per_model(test, lambda model: sensitivity(model["label"], model["probability"], rate)),
        per_model(test, _operating_point),
        per_model(test, lambda model: [roc_auc_score(model["label"], model["probability"])]),
    ]
    each = "model"
    if test["root_split"].nunique() > 1:
        each = "root split"
        tables = [table.groupby("root_split").mean() for table in tables]
    curves, points, (aucs,) = tables[0], tables[1], tables[2].to_numpy().T

    figure, axes = drawing(f"ROC, {described(test)}")
    name_axes(
        axes, f"false positive rate: {classes[0]} taken for {classes[1]}", f"true positive rate: {classes[1]} found"
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance (AUC 0.5)")
    x, lines, name = np.append(0, rate), np.insert(curves.to_numpy(), 0, 0, axis=1), "model"
    if len(lines) > 1:
        name, spread = "mean", f"each {each} (AUC {aucs.min():.3f} to {aucs.max():.3f})"
        axes.plot(x, lines.T, color=GREY, linewidth=0.8, alpha=0.6, label=[spread, *[None] * (len(lines) - 1)])
    axes.plot(x, lines.mean(axis=0), color=INK, linewidth=2.2, label=f"{name} (AUC {aucs.mean():.3f})")
    axes.plot(*points.to_numpy().T, "o", color=_YELLOW, markeredgecolor=INK, label="at the threshold chosen on dev")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="lower right", frameon=False)
    return figure


def density_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Histogram of the predicted probability of class 1 in each class, and the median and range of the thresholds.

    With more than two classes it is of the probability that was given to the true class, and there is no threshold.
    """
    if len(classes) > 2:
        return many_classes.multiclass_density_plot(predictions, classes)
    test = test_part(predictions)
    figure, axes = drawing(f"Predicted probability by class, {described(test)}")
    name_axes(axes, f"predicted probability of {classes[1]}", "share of the class")
    edges = np.linspace(0, 1, 21 if len(test) >= 100 else 11)
    for label, name in enumerate(classes):
        counts, _ = np.histogram(test.loc[test["label"] == label, "probability"], edges)
        share = 100 * counts / max(1, counts.sum())
        axes.stairs(share, edges, fill=True, color=CLASS_COLOURS[label], alpha=0.35)
        axes.stairs(share, edges, color=CLASS_COLOURS[label], linewidth=1.8, label=name)
    thresholds = test.groupby(MODEL)["threshold"].first()
    title = f"threshold {thresholds.median():.2f}"
    if len(thresholds) > 1:
        title = f"median threshold {thresholds.median():.2f} ({thresholds.min():.2f} to {thresholds.max():.2f})"
        axes.axvspan(thresholds.min(), thresholds.max(), color=PALE, alpha=0.5, linewidth=0, zorder=0)
    axes.axvline(thresholds.median(), color=INK, linestyle="--", linewidth=1.3, label=title)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.set_xlim(-0.01, 1.01)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def confusion_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """True against predicted class: shares of the true class, and counts summed over all models."""
    if len(classes) > 2:
        return many_classes.multiclass_confusion_plot(predictions, classes)
    test = test_part(predictions)
    counts = confusion(test["label"], test["prediction"])
    totals = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    figure, axes = drawing(f"Confusion matrix, {described(test)}")
    shares = counts / np.maximum(1, totals)
    axes.imshow(
        [[to_rgba(CLASS_COLOURS[row], 0.7 * share) for share in shares[row]] for row in range(len(shares))],
        aspect="auto",
    )
    for (row, column), share in np.ndenumerate(shares):
        what = f"{counts[row, column]} of {totals[row, column]} predictions"
        axes.text(
            column, row - 0.06, f"{share:.1%}".replace("%", " %"), ha="center", va="center", color=INK, fontsize=20
        )
        axes.text(column, row + 0.16, what, ha="center", va="center", color=INK)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def fold_plot(predictions: pd.DataFrame, results: pd.DataFrame) -> Plot:
    """Test ROC AUC of every model by root split, the mean of each root split, and their mean with its 95 % interval.

    `results` has the columns of ``results.csv``.
    """
    found = auc_interval(tested_folds(predictions))
    mean, interval = found.value, found.limits or [found.value] * 2
    folds = results.groupby("root_split")["test_roc_auc"]
    figure, axes = drawing("Test ROC AUC by root split" + (", no interval" if found.missing else ""))
    measure = "test ROC AUC, mean of the classes" if has_many_classes(results) else "test ROC AUC"
    name_axes(axes, "root split (outer fold)", measure)
    for position, (_, scores) in enumerate(folds):
        x = position + (np.linspace(-0.2, 0.2, len(scores)) if len(scores) > 1 else np.zeros(1))
        axes.plot(x, scores, "o", color=GREY, markersize=4.5, label="" if position else "model (inner fold)")
    if len(folds) > 1:
        x = range(len(folds))
        axes.plot(x, folds.mean(), "_", color=INK, markersize=22, markeredgewidth=2.2, label="mean of the root split")
    if not found.missing:
        rough = "approximate " if found.approximate else ""
        title = f"{rough}95 % interval\n{interval[0]:.3f} to {interval[1]:.3f}: these models"
        axes.axhspan(*interval, color=_SKY, alpha=0.25, linewidth=0, zorder=0, label=title)
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle="--", zorder=1, label=f"mean {mean:.3f}")
    low, high = min(interval[0], results["test_roc_auc"].min()), max(interval[1], results["test_roc_auc"].max())
    margin = max(0.02, 0.06 * (high - low))
    axes.set(xlim=(-0.6, len(folds) - 0.4), ylim=(low - margin, min(high + margin, 1 + margin / 3)))
    axes.set_xticks(range(len(folds)), [str(root_split) for root_split in folds.groups])
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def save_plots(figures: Mapping[str, Plot], folder: str | Path) -> list[Path]:
    """Write `<stem>.png` of each figure into the folder, made where missing; the same bytes for the same figures."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{stem}.png" for stem in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with whole_file(path) as file:
            file.write(figure.png())
    return paths


def _operating_point(model: pd.DataFrame) -> np.ndarray:
    counts = confusion(model["label"], model["prediction"])
    return counts[:, 1] / counts.sum(axis=1)
