"""Plots of more than two classes: a ROC curve and a histogram for each, and a confusion matrix of any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from sklearn.metrics import roc_auc_score

from common.evaluation.metrics import confusion
from common.evaluation.predictions import probabilities_of
from common.plots.figures import GREY, INK, Plot, name_axes
from common.plots.of_predictions import CLASS_COLOURS, described, drawing, per_model, sensitivity, test_part

_DASHES = ("-", "--", "-.", ":")
_LONGEST = 20  # characters of a class name


def multiclass_roc_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """ROC of each class against all others, and the mean of these curves, whose AUC is the macro one-vs-rest AUC.

    Curves and AUCs are averaged over the models of a root split and then over root splits. After ten classes the
    colours come again with another dash.
    """
    test, rate = test_part(predictions), np.linspace(0, 1, 501)

    def each_class(model: pd.DataFrame) -> np.ndarray:
        truth = model["label"].to_numpy()[:, None] == range(len(classes))
        pairs = list(zip(truth.T, probabilities_of(model).T, strict=True))
        return np.concatenate([[roc_auc_score(*pair) for pair in pairs], *(sensitivity(*pair, rate) for pair in pairs)])

    mean = per_model(test, each_class).groupby("root_split").mean().mean().to_numpy()
    aucs, curves = mean[: len(classes)], mean[len(classes) :].reshape(len(classes), len(rate))

    legend_rows = -(-(len(classes) + 2) // 2)
    figure, axes = drawing(f"ROC, {described(test)}", height=4.5 + 0.21 * legend_rows)
    name_axes(axes, "false positive rate: others taken for the class", "true positive rate: the class found")
    x = np.append(0, rate)
    for label, (name, curve, auc) in enumerate(zip(classes, curves, aucs, strict=True)):
        style = {"color": _colour(label), "linestyle": _DASHES[label // len(CLASS_COLOURS) % len(_DASHES)]}
        axes.plot(x, np.append(0, curve), **style, linewidth=1.6, label=f"{_short(name)} (AUC {auc:.3f})")
    mean_curve = np.append(0, curves.mean(axis=0))
    axes.plot(x, mean_curve, color=INK, linewidth=2.2, label=f"mean of the classes (AUC {aucs.mean():.3f})")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance (AUC 0.5)")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def multiclass_density_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Histograms, a row per true class, of the probability that its images were given for it, and their medians."""
    test = test_part(predictions)
    given = np.take_along_axis(probabilities_of(test), test["label"].to_numpy()[:, None], axis=1)[:, 0]
    of_class = [given[test["label"] == label] for label in range(len(classes))]
    edges = np.linspace(0, 1, 21 if len(test) >= 50 * len(classes) else 11)
    shares = [np.histogram(own, edges)[0] / max(1, len(own)) for own in of_class]
    scale = 0.85 / np.max(shares)

    title = f"Probability of the true class, {described(test)}"
    figure, axes = drawing(title, height=max(4.5, 1.5 + 0.36 * len(classes)))
    name_axes(axes, "predicted probability of the true class", "true class (height: share of its predictions)")
    axes.grid(visible=False, axis="y")
    for label, (own, share) in enumerate(zip(of_class, shares, strict=True)):
        floor = len(classes) - 1 - label
        axes.stairs(floor + scale * share, edges, baseline=floor, fill=True, color=_colour(label), alpha=0.35)
        axes.stairs(floor + scale * share, edges, baseline=floor, color=_colour(label), linewidth=1.4)
        key = None if label else "median"
        axes.plot([np.median(own)] * 2, [floor, floor + 0.85], color=INK, linewidth=1.8, label=key)
    chance = f"1 / {len(classes)}: all classes equally likely"
    axes.axvline(1 / len(classes), color=GREY, linestyle=":", linewidth=1.3, zorder=0, label=chance)
    axes.set_yticks(range(len(classes)), [_short(name) for name in reversed(classes)])
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.1, len(classes)))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def multiclass_confusion_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """True against predicted class, counts summed over all models, as percentages of the true class.

    Up to five classes the counts stand below; after twenty there is room for colours only.
    """
    test, n, names = test_part(predictions), len(classes), [_short(name) for name in classes]
    counts = confusion(test["label"], test["prediction"], n)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    longest = max(map(len, names))
    upright = n * longest > 55  # names side by side would touch
    height = min(9, max(4.5, 1.6 + 0.35 * n)) + 0.07 * longest * upright
    figure, axes = drawing(f"Confusion matrix, {described(test)}", height=height)
    opacity = 0.55 if n <= 20 else 1
    pixels = [[to_rgba(_colour(row), opacity * share) for share in of_row] for row, of_row in enumerate(shares)]
    axes.imshow(pixels, aspect="auto")
    cell = {"ha": "center", "va": "center", "color": INK}
    for (row, column), share in np.ndenumerate(shares):
        if n <= 5:
            axes.text(column, row - 0.1, f"{share:.1%}".replace("%", " %"), fontsize=14, **cell)
            axes.text(column, row + 0.18, f"{counts[row, column]} of {counts[row].sum()}", fontsize=9, **cell)
        elif n <= 20 and share:
            percent = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            axes.text(column, row, percent, fontsize=9 if n <= 12 else 7, **cell)
    size = 10 if n <= 20 else 6
    axes.set_xticks(range(n), names, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(range(n), names, fontsize=size)
    meaning = "" if n <= 5 else f" ({'numbers: %' if n <= 20 else 'colour: share'} of its predictions)"
    axes.set(xlabel="predicted class", ylabel=f"true class{meaning}")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _colour(label: int) -> str:
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
