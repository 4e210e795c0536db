"""Plots of a run's test predictions and results: figures without global state, for files, threads and notebooks.

In every plot `predictions` is the predictions table, of which the rows with part "test" are drawn, and `classes` are
the names of class 0, class 1, and so on. A model is one (root_split, inner_split).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from common.evaluation.metrics import confusion
from common.evaluation.report import summary, write_atomically

CLASS_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""A colour per class that colour-blind readers tell apart (Okabe & Ito 2008)."""

_INK, _GREY, _PALE, _YELLOW, _SKY = "#222222", "#8a8a8a", "#d9d9d9", "#F0E442", "#56B4E9"
_MODEL = ["root_split", "inner_split"]


class Plot(Figure):
    """A figure that notebooks show by itself."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches() * 100
        return self.png(), {"width": int(width), "height": int(height)}

    def png(self) -> bytes:
        """The figure as a PNG file: the same bytes for the same figure."""
        content = io.BytesIO()
        self.savefig(content, format="png", metadata={"Software": None})
        return content.getvalue()


def roc_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """ROC: the mean over root splits, a thin line per root split, and the points that the thresholds choose.

    Curves are averaged vertically, over the models of a root split and then over root splits; the AUC shown is the
    mean of the AUCs. With one root split the thin lines are its models.
    """
    test = _test_part(predictions)
    rate = np.linspace(0, 1, 501)
    tables = [_per_model(test, lambda model: _sensitivity(model, rate)), _per_model(test, _operating_point)]
    tables.append(_per_model(test, lambda model: [roc_auc_score(model["label"], model["probability"])]))
    each = "model"
    if test["root_split"].nunique() > 1:
        each = "root split"
        tables = [table.groupby("root_split").mean() for table in tables]
    curves, points, (aucs,) = tables[0], tables[1], tables[2].to_numpy().T

    figure, axes = _drawing(f"ROC, {_described(test)}")
    _label(axes, f"false positive rate: {classes[0]} taken for {classes[1]}", f"true positive rate: {classes[1]} found")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="chance (AUC 0.5)")
    x, lines, name = np.append(0, rate), np.insert(curves.to_numpy(), 0, 0, axis=1), "model"
    if len(lines) > 1:
        name, spread = "mean", f"each {each} (AUC {aucs.min():.3f} to {aucs.max():.3f})"
        axes.plot(x, lines.T, color=_GREY, linewidth=0.8, alpha=0.6, label=[spread, *[None] * (len(lines) - 1)])
    axes.plot(x, lines.mean(axis=0), color=_INK, linewidth=2.2, label=f"{name} (AUC {aucs.mean():.3f})")
    axes.plot(*points.to_numpy().T, "o", color=_YELLOW, markeredgecolor=_INK, label="at the threshold chosen on dev")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="lower right", frameon=False)
    return figure


def density_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Histogram of the predicted probability of class 1 in each class, and the median and range of the thresholds."""
    test = _test_part(predictions)
    figure, axes = _drawing(f"Predicted probability by class, {_described(test)}")
    _label(axes, f"predicted probability of {classes[1]}", "share of the class")
    edges = np.linspace(0, 1, 21 if len(test) >= 100 else 11)
    for label, name in enumerate(classes):
        counts, _ = np.histogram(test.loc[test["label"] == label, "probability"], edges)
        share = 100 * counts / max(1, counts.sum())
        axes.stairs(share, edges, fill=True, color=CLASS_COLOURS[label], alpha=0.35)
        axes.stairs(share, edges, color=CLASS_COLOURS[label], linewidth=1.8, label=name)
    thresholds = test.groupby(_MODEL)["threshold"].first()
    title = f"threshold {thresholds.median():.2f}"
    if len(thresholds) > 1:
        title = f"median threshold {thresholds.median():.2f} ({thresholds.min():.2f} to {thresholds.max():.2f})"
        axes.axvspan(thresholds.min(), thresholds.max(), color=_PALE, alpha=0.5, linewidth=0, zorder=0)
    axes.axvline(thresholds.median(), color=_INK, linestyle="--", linewidth=1.3, label=title)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.set_xlim(-0.01, 1.01)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def calibration_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Share of class 1 in ten bins of the predicted probability, above the number of predictions in each bin.

    Points have the 95 % interval of Wilson (1927). Predictions of one photo by several models are not independent, so
    its sample size is the number of different photos in the bin. The Brier score is averaged as the AUC is.
    """
    test = _test_part(predictions)
    tenth = (test["probability"] * 10).astype(int).clip(upper=9)
    counts = pd.crosstab(tenth, test["label"])
    bins = test.groupby(tenth).agg(said=("probability", "mean"), share=("label", "mean"), photos=("file", "nunique"))
    low, high = _wilson(bins["share"], bins["photos"])
    brier = _per_model(test, lambda model: [brier_score_loss(model["label"], model["probability"])])[0]
    brier = brier.groupby("root_split").mean().mean()

    figure, (upper, lower) = _drawing(f"Calibration, {_described(test)}", 2, 1, sharex=True, height_ratios=[3, 1])
    _label(upper, "", "observed frequency")
    _label(lower, f"predicted probability of {classes[1]}", "predictions")
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="perfect calibration")
    error = [bins["share"] - low, high - bins["share"]]
    title = f"found, 95 % interval (Brier {brier:.3f})"
    upper.errorbar(bins["said"], bins["share"], error, fmt="o", color=_INK, markersize=5, capsize=2, label=title)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    for label, name in enumerate(classes):
        below = counts.iloc[:, :label].sum(axis=1)
        lower.bar(counts.index / 10 + 0.05, counts[label], 0.09, below, color=CLASS_COLOURS[label], label=name)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def confusion_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """True against predicted class: shares of the true class, and counts summed over all models."""
    test = _test_part(predictions)
    counts = confusion(test["label"], test["prediction"])
    totals = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    figure, axes = _drawing(f"Confusion matrix, {_described(test)}")
    shares = counts / np.maximum(1, totals)
    axes.imshow(
        [[to_rgba(CLASS_COLOURS[row], 0.7 * share) for share in shares[row]] for row in range(len(shares))],
        aspect="auto",
    )
    for (row, column), share in np.ndenumerate(shares):
        what = f"{counts[row, column]} of {totals[row, column]} predictions"
        axes.text(
            column, row - 0.06, f"{share:.1%}".replace("%", " %"), ha="center", va="center", color=_INK, fontsize=20
        )
        axes.text(column, row + 0.16, what, ha="center", va="center", color=_INK)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def fold_plot(results: pd.DataFrame) -> Plot:
    """Test ROC AUC of every model by root split, the mean of each root split, and their mean with its 95 % interval.

    `results` has the columns of ``results.csv``.
    """
    found = summary(results)
    mean, interval = found["test_roc_auc"], found["ci"] or [found["test_roc_auc"]] * 2
    folds = results.groupby("root_split")["test_roc_auc"]
    figure, axes = _drawing("Test ROC AUC by root split" + (", one split: no interval" if found["ci"] is None else ""))
    _label(axes, "root split (outer fold)", "test ROC AUC")
    for position, (_, scores) in enumerate(folds):
        x = position + (np.linspace(-0.2, 0.2, len(scores)) if len(scores) > 1 else np.zeros(1))
        axes.plot(x, scores, "o", color=_GREY, markersize=4.5, label="" if position else "model (inner fold)")
    if found["ci"] is not None:
        x = range(len(folds))
        axes.plot(x, folds.mean(), "_", color=_INK, markersize=22, markeredgewidth=2.2, label="mean of the root split")
        title = f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
        axes.axhspan(*interval, color=_SKY, alpha=0.25, linewidth=0, zorder=0, label=title)
    axes.axhline(mean, color=_INK, linewidth=1.2, linestyle="--", zorder=1, label=f"mean {mean:.3f}")
    low, high = min(interval[0], results["test_roc_auc"].min()), max(interval[1], results["test_roc_auc"].max())
    margin = max(0.02, 0.06 * (high - low))
    axes.set(xlim=(-0.6, len(folds) - 0.4), ylim=(low - margin, min(high + margin, 1 + margin / 3)))
    axes.set_xticks(range(len(folds)), [str(root_split) for root_split in folds.groups])
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def all_plots(predictions: pd.DataFrame, results: pd.DataFrame, classes: Sequence[str]) -> dict[str, Plot]:
    """Every plot of a run, by the stem of its file: `roc`, `density`, `calibration`, `confusion` and `folds`."""
    return {
        "roc": roc_plot(predictions, classes),
        "density": density_plot(predictions, classes),
        "calibration": calibration_plot(predictions, classes),
        "confusion": confusion_plot(predictions, classes),
        "folds": fold_plot(results),
    }


def save_plots(figures: Mapping[str, Plot], folder: str | Path) -> list[Path]:
    """Write `<stem>.png` of each figure into the folder, made where missing; the same bytes for the same figures."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{stem}.png" for stem in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        write_atomically(path, figure.png())
    return paths


def _drawing(title: str, *grid: int, **options: object) -> tuple[Plot, Axes | np.ndarray]:
    figure = Plot(figsize=(6, 4.5), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11.5)
    return figure, figure.subplots(*grid, **options)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, axisbelow=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_PALE, linewidth=0.6)


def _test_part(predictions: pd.DataFrame) -> pd.DataFrame:
    test = predictions[predictions["part"] == "test"]
    if test.empty:
        raise ValueError('predictions must have rows with part "test", found none')
    return test


def _described(test: pd.DataFrame) -> str:
    models = test.groupby(_MODEL).ngroups
    return f"{test['file'].nunique()} test photos, {models} model{'s' if models > 1 else ''}"


def _per_model(test: pd.DataFrame, measure: Callable[[pd.DataFrame], Sequence[float]]) -> pd.DataFrame:
    """A row for each model, with the numbers that `measure` finds in its predictions."""
    rows = {key: np.asarray(measure(model)) for key, model in test.groupby(_MODEL)}
    return pd.DataFrame(rows).T.rename_axis(_MODEL)


def _sensitivity(model: pd.DataFrame, rate: np.ndarray) -> np.ndarray:
    false_positive_rate, sensitivity, _ = roc_curve(model["label"], model["probability"], drop_intermediate=False)
    return np.interp(rate, false_positive_rate, sensitivity)


def _operating_point(model: pd.DataFrame) -> np.ndarray:
    counts = confusion(model["label"], model["prediction"])
    return counts[:, 1] / counts.sum(axis=1)


def _wilson(share: pd.Series, n: pd.Series, z: float = 1.959964) -> tuple[pd.Series, pd.Series]:
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half_width).clip(upper=share), (centre + half_width).clip(lower=share)
