"""Scores of subgroups side by side: a dot and its interval for each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from common.evaluation.subgroups import Subgroup
from common.plots.figures import INK, Plot, name_axes, printable
from common.plots.of_predictions import drawing


def subgroup_plot(subgroups: Sequence[Subgroup], column: str) -> Plot:
    """ROC AUC with its 95 % interval of each subgroup, from above; of those that are too small the name alone."""
    n = len(subgroups)
    figure, axes = drawing(f"Test ROC AUC by {printable(column)}", height=1.8 + 0.32 * n)
    assert isinstance(axes, Axes)
    name_axes(axes, "test ROC AUC, 95 % interval", printable(column))
    axes.grid(visible=False, axis="y")
    lowest = 0.5
    for row, subgroup in zip(range(n - 1, -1, -1), subgroups, strict=True):
        if (interval := subgroup.scores.get("roc_auc")) is None:
            axes.annotate("too few", (0.01, row), xycoords=("axes fraction", "data"), va="center", color=INK)
            continue
        if interval.limits:
            axes.plot(interval.limits, [row, row], color=INK, linewidth=1.6)
        axes.plot(interval.value, row, "o", color=INK, markersize=6)
        lowest = min([lowest, interval.value, *(interval.limits or [])])
    names = [f"{printable(one.value, 24)} (n = {one.n_images})" for one in reversed(subgroups)]
    axes.set_yticks(range(n), names)
    axes.set(xlim=(max(0, lowest - 0.02), 1.02), ylim=(-0.6, n - 0.4))
    return figure
