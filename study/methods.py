"""What the study compares: step 4's network, searched or not, and two baselines tuned by the same search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.null_run import NullRun
from common import training
from common.data import Fold, ImageTable
from common.seeds import Stream
from common.training import Compute
from step_4 import train as step_4

N_TRIALS, N_STARTUP = 50, 10
"""Trials of a search, and how many of them TPE draws at random before it begins."""
CONFIG = replace(step_4.CONFIG, image_size=32, batch_size=64, warmup_epochs=3, epochs=3)
"""Step 3's settings, on smaller images and with fewer epochs, so that thousands of fits take about an hour."""
SIDE = 8
"""Pixels per side of the thumbnails in which nearest neighbours are looked for."""

Predict = Callable[[ImageTable, np.ndarray], np.ndarray]
"""Gets a table and some of its rows; returns probabilities of class 1, float64, shape (n,)."""
Fit = Callable[[ImageTable, Fold, Compute, Stream, Any], Predict]


class Method(NamedTuple):
    """How settings are drawn, and what is fitted with them.

    Attributes
    ----------
    suggest : callable
        Gets a trial; returns its settings.
    fit : callable
        Gets a table, a fold, what to compute on, the stream of the inner fold, and settings.
    n_trials, n_startup : int
        At most so many trials, and how many of them are drawn at random.
    """

    suggest: Callable[[Any], Any]
    fit: Fit
    n_trials: int = N_TRIALS
    n_startup: int = N_STARTUP


def fit_network(table: ImageTable, fold: Fold, compute: Compute, stream: Stream, config) -> Predict:
    """Step 4's training, from `stream`."""
    network, _ = step_4.run_fold(table, fold, config, compute, stream, NullRun())
    return partial(training.test_model, network)


def fit_logistic(table: ImageTable, fold: Fold, compute: Compute, stream: Stream, strength: float) -> Predict:
    """Logistic regression on the features of the frozen backbone."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return _fitted(model, _frozen_features, table, fold)


def fit_neighbours(table: ImageTable, fold: Fold, compute: Compute, stream: Stream, settings: dict) -> Predict:
    """Nearest neighbours in thumbnails."""
    return _fitted(KNeighborsClassifier(**settings), _thumbnails, table, fold)


def _fitted(model: ClassifierMixin, features: Callable[[ImageTable], np.ndarray], table: ImageTable, fold: Fold):
    model.fit(features(table)[fold.train], table.labels[fold.train])
    return lambda other, rows: model.predict_proba(features(other)[rows])[:, 1]


@lru_cache(maxsize=8)
def _frozen_features(table: ImageTable) -> np.ndarray:
    network = training.new_model(CONFIG, table, Compute("cpu", "fp32", 1), Stream(0))
    return np.array(training.frozen_features(network, table), float)


@lru_cache(maxsize=8)
def _thumbnails(table: ImageTable) -> np.ndarray:
    """Means over squares of pixels, in [0, 1]: float64, shape (n, features)."""
    n, channels, height, width = table.pixels.shape
    squares = table.pixels.reshape(n, channels, SIDE, height // SIDE, SIDE, width // SIDE)
    return squares.mean((3, 5)).reshape(n, -1) / 255


def _suggest_strength(trial) -> float:
    return trial.suggest_float("C", 1e-5, 1e2, log=True)


def _suggest_neighbours(trial) -> dict:
    return {
        "n_neighbors": trial.suggest_int("n_neighbors", 1, 100, log=True),
        "p": trial.suggest_float("p", 1.0, 3.0),
        "weights": trial.suggest_categorical("weights", ["uniform", "distance"]),
    }


METHODS = {
    "fixed": Method(lambda trial: CONFIG, fit_network, 1, 1),
    "tpe": Method(partial(step_4.suggest, CONFIG), fit_network),
    "random": Method(partial(step_4.suggest, CONFIG), fit_network, n_startup=N_TRIALS),
    "logistic": Method(_suggest_strength, fit_logistic),
    "neighbours": Method(_suggest_neighbours, fit_neighbours),
}
