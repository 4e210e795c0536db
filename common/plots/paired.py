"""The plot of a comparison: how much runs differ, by outer fold and on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from common.plots.figures import GREY, INK, Plot, name_axes, printable
from common.plots.of_predictions import drawing

if TYPE_CHECKING:
    from common.evaluation.compare import Pair

_BLUE = "#0072B2"
_KINDS = {"models": ("these models", INK, 0.16), "procedures": ("the procedures, retrained", _BLUE, 0.32)}


def difference_plot(pairs: Sequence[Pair]) -> Plot:
    """For each pair of runs the difference in test ROC AUC: by outer fold, and the mean with its 95 % intervals."""
    n_folds = len(pairs[0].by_fold)
    of = "one outer fold" if n_folds == 1 else f"{n_folds} outer folds"
    figure, axes = drawing(f"Paired difference in test ROC AUC, {of}", height=min(40, 2.4 + 0.7 * len(pairs)))
    assert isinstance(axes, Axes)
    name_axes(axes, "difference in test ROC AUC, the first less the second", "runs")
    axes.axvline(0, color=GREY, linestyle=":")
    for row, pair in enumerate(pairs):
        y = row - 0.08 - np.linspace(0, 0.24, n_folds)
        axes.plot(pair.by_fold, y, "o", color=GREY, markersize=4.5, label=None if row else "outer fold")
    for kind, (title, colour, below) in _KINDS.items():
        label: str | None = f"mean, 95 % interval: {title}"
        for row, pair in enumerate(pairs):
            if (found := getattr(pair, kind)) is not None:
                error = [[found.value - found.low], [found.high - found.value]] if found.limits else None
                place = (found.value, row + below)
                axes.errorbar(*place, xerr=error, fmt="D", color=colour, markersize=4.5, capsize=3, label=label)
                label = None
    names = ["\n- ".join(printable(title, 24) for title in pair.titles) for pair in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    figure.legend(loc="outside lower center", frameon=False)
    return figure
