"""The decision curve: what a model is worth, whatever the probability from which on somebody is treated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.evaluation.bootstrap import band_of, resampled
from common.evaluation.tested import tested_folds
from common.evaluation.weighted import net_benefit
from common.plots.figures import GREY, INK, Plot, name_axes
from common.plots.of_predictions import described, drawing, test_part

_SKY = "#56B4E9"


def decision_plot(predictions: pd.DataFrame, classes: Sequence[str]) -> Plot:
    """Net benefit of treating whom the model gives at least the threshold probability, of treating all, and nobody.

    It is in true positives per image: those found, less the false ones at the odds of the threshold. Mean over the
    models of a root split and then over root splits, with a band of pointwise 95 % intervals by a bootstrap of patients
    (of images, where they have no groups). Two classes only.

    References
    ----------
    Vickers & Elkin (2006), Decision curve analysis: a novel method for evaluating prediction models, Medical Decision
    Making 26(6):565-574.
    """
    test = test_part(predictions)
    thresholds = np.arange(1, 100) / 100
    folds = tested_folds(test)
    asked = [fold._replace(thresholds=np.tile(thresholds, (len(fold.thresholds), 1))) for fold in folds]
    values = resampled({"net benefit": (net_benefit, asked)})["net benefit"]
    share = np.mean([fold.labels.mean() for fold in folds])
    all_treated = share - (1 - share) * thresholds / (1 - thresholds)

    figure, axes = drawing(f"Decision curve, {described(test)}")
    assert isinstance(axes, Axes)
    name_axes(axes, f"threshold probability of {classes[1]}", "net benefit (true positives per prediction)")
    band = band_of(values, folds, [0, 1])
    if not np.isnan(band).any():
        axes.fill_between(thresholds, *band, color=_SKY, alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(thresholds, all_treated, color=GREY, linewidth=1.4, linestyle="--", label=f"all taken for {classes[1]}")
    axes.axhline(0, color=GREY, linewidth=1.4, linestyle=":", label=f"all taken for {classes[0]}")
    model = "model" if sum(len(fold.thresholds) for fold in folds) == 1 else "mean of the models"
    axes.plot(thresholds, values[0], color=INK, linewidth=2.2, label=model)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.25 * share, 1.1 * share))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
