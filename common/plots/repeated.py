"""The plot of repeats: one experiment's scores by outer fold and root seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.plots.figures import GREY, INK, Plot, name_axes
from common.plots.of_predictions import drawing

if TYPE_CHECKING:
    from common.evaluation.spread import Repeat, Spread

_BLUE = "#0072B2"


def repeats_plot(same: Sequence[Repeat], own: Sequence[Repeat], spread: Spread) -> Plot:
    """Test ROC AUC: on the left of each outer fold from each seed, on the right of each run.

    Parameters
    ----------
    same, own : sequence of Repeat
        Runs on the same splits, and on splits of their own.
    spread : Spread
        Of their test ROC AUC.
    """
    scores = np.array([one.scores["test_roc_auc"] for one in same])
    n_seeds, n_folds = scores.shape
    widths = [max(2, min(6, n_folds)), 2]
    title = f"Test ROC AUC from {n_seeds} root seeds"
    figure, (by_fold, by_run) = drawing(title, 1, 2, sharey=True, width_ratios=widths)  # type: ignore[misc]
    name_axes(by_fold, "outer fold", "test ROC AUC")
    name_axes(by_run, "run", "")
    for axes, sources in ((by_fold, ("folds", "seeds")), (by_run, ("seeds_of_mean", "splits"))):
        found = {source.removesuffix("_of_mean"): getattr(spread, source) for source in sources}
        said = [f"SD between {source} {sd:.3f}" for source, sd in found.items() if not math.isnan(sd)]
        axes.set_title("\n".join(said), fontsize=9, color=INK)
    aside = np.linspace(-0.22, 0.22, n_seeds)[:, None]
    by_fold.plot(np.arange(n_folds) + aside, scores, "o", color=GREY, markersize=4.5)
    by_fold.plot([], [], "o", color=GREY, markersize=4.5, label="one seed")
    level = {"color": INK, "linewidth": 1.6}
    by_fold.hlines(scores.mean(axis=0), np.arange(n_folds) - 0.3, np.arange(n_folds) + 0.3, **level, label="mean")
    by_fold.set_xticks(range(n_folds), same[0].scores.index)
    means = {"same\nsplits": scores.mean(axis=1)}
    if own:
        means["own\nsplits"] = np.array(
            [same[0].scores["test_roc_auc"].mean(), *(one.scores["test_roc_auc"].mean() for one in own)]
        )
    for place, values in enumerate(means.values()):
        by_run.plot(place + np.linspace(-0.22, 0.22, len(values)), values, "D", color=_BLUE, markersize=4.5)
        by_run.hlines(values.mean(), place - 0.3, place + 0.3, **level)
    by_run.plot([], [], "D", color=_BLUE, markersize=4.5, label="mean of a run's folds")
    by_run.set_xticks(range(len(means)), means)
    by_run.set_xlim(-0.6, len(means) - 0.4)
    figure.legend(loc="outside lower center", frameon=False, ncols=3)
    return figure
