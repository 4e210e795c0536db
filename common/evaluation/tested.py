"""Test predictions as arrays: of each outer fold, the predictions of its models for the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.evaluation.predictions import probabilities_of


class OuterFold(NamedTuple):
    """What the models of one outer fold predicted for its n test images.

    Attributes
    ----------
    labels : ndarray of int, shape (n,)
        0 or 1; 0 to K - 1 for K > 2 classes.
    probabilities : ndarray of float64, shape (models, n) or (models, n, K)
        Of class 1, or of each class.
    units : ndarray of int, shape (n,)
        Images of one unit are not independent: those of one group, or copies of one image. A unit has the same number
        in all folds of a run.
    thresholds : ndarray of float64, shape (models,)
        Chosen on the dev sets; NaN for more than two classes.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    units: np.ndarray
    thresholds: np.ndarray


def tested_folds(predictions: pd.DataFrame) -> list[OuterFold]:
    """The outer folds of a predictions table, in their order; their images are in the order of their files.

    The units are those of the column ``group``; of images without a group, those of the column ``digest``; in a table
    that has neither, each file is one.
    """
    test = predictions[predictions["part"] == "test"]
    test = test.assign(unit=pd.factorize(units_of(test))[0])
    folds = []
    for _, fold in test.groupby("root_split"):
        models = [model.sort_values("file", kind="stable") for _, model in fold.groupby("inner_split")]
        first = models[0]
        folds.append(
            OuterFold(
                first["label"].to_numpy(),
                np.stack([probabilities_of(model) for model in models]),
                first["unit"].to_numpy(),
                np.array([model["threshold"].iloc[0] for model in models]),
            )
        )
    return folds


def units_of(test: pd.DataFrame) -> pd.Series:
    """The unit of each row of a predictions table: a text."""
    units = "file " + test["file"].astype(str)
    for column in ("digest", "group"):
        if column in test:
            values = test[column].fillna("").astype(str)
            units = units.where(values == "", column + " " + values)
    return units


def has_groups(predictions: pd.DataFrame) -> bool:
    """Whether the images of a predictions table have groups."""
    return "group" in predictions and bool(predictions["group"].fillna("").astype(str).ne("").any())


def units_called(predictions: pd.DataFrame) -> str:
    """What the units of a predictions table are, for people."""
    return "groups" if has_groups(predictions) else "images"


def units_of_class(folds: Sequence[OuterFold], label: int) -> int:
    """How many units the images of one class are of, in all folds together."""
    return len(set().union(*(fold.units[fold.labels == label].tolist() for fold in folds)))


def mean_of(folds: Sequence[OuterFold], measure: Callable[[np.ndarray, np.ndarray, float], float]) -> float:
    """Mean over the outer folds of the mean over their models of a measure of labels, probabilities and threshold."""
    scores = [
        np.mean([measure(fold.labels, *model) for model in zip(fold.probabilities, fold.thresholds, strict=True)])
        for fold in folds
    ]
    return float(np.mean(scores))
