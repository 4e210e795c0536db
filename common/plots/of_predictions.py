"""What the plots share: the figure, its colours and axes, and what is drawn of a predictions table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from common.plots.figures import Plot

CLASS_COLOURS = (
    *("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#117733", "#332288", "#661100"),
)
"""A colour per class that colour-blind readers tell apart: six of Okabe & Ito (2008), then four of Tol (2012)."""

MODEL = ["root_split", "inner_split"]
"""Columns that say which model a prediction is of."""


def drawing(title: str, *grid: int, height: float = 4.5, **options: object) -> tuple[Plot, Axes | np.ndarray]:
    """A figure 6 inches wide with a title, and its axes in a grid."""
    figure = Plot(figsize=(6, height), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11.5)
    return figure, figure.subplots(*grid, **options)


def test_part(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test sets; ValueError where there are none."""
    test = predictions[predictions["part"] == "test"]
    if test.empty:
        raise ValueError('predictions must have rows with part "test", found none')
    return test


def described(test: pd.DataFrame) -> str:
    """How many images, or samples of arrays, and models the predictions are of."""
    models = test.groupby(MODEL).ngroups
    is_row = test["file"].astype(str).str.isdigit().all()  # see common.data.arrays
    what = "samples" if is_row else "images"
    return f"{test['file'].nunique()} test {what}, {models} model{'s' if models > 1 else ''}"


def per_model(test: pd.DataFrame, measure: Callable[[pd.DataFrame], Sequence[float]]) -> pd.DataFrame:
    """A row for each model, with the numbers that `measure` finds in its predictions."""
    rows = {key: np.asarray(measure(model)) for key, model in test.groupby(MODEL)}
    return pd.DataFrame(rows).T.rename_axis(MODEL)


def sensitivity(labels: np.ndarray, probabilities: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """The true positive rate of an ROC curve at given false positive rates, labels being 0 and 1."""
    false_positive_rate, found, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return np.interp(rate, false_positive_rate, found)
