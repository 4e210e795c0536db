"""What the study compares: step 4's network, searched or not, and two baselines tuned by the same search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from benchmarks.null_run import NullRun
from common import training
from common.config import TrainingConfig
from common.data import Fold, ImageTable
from common.seeds import Stream
from common.training import Compute
from step_4 import train as step_4

N_TRIALS, N_STARTUP = 50, 10
"""Trials of a search, and how many of them TPE draws at random before it begins."""
N_FEATURES = 128


class Asymmetry(nn.Module):
    """How each place differs from its mirror image: images (B, C, H, W) in [0, 1], where 0.5 is no difference.

    Heads are nearly symmetric and lesions are not, which a backbone that has seen animals does not look for.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The difference, smoothed over 5 x 5 pixels and amplified."""
        smooth = functional.avg_pool2d(functional.avg_pool2d(images, 3, 1, 1), 3, 1, 1)
        return ((smooth - smooth.flip(3)) * 4.5 + 0.5).clamp(0, 1)


class Head(nn.Module):
    """Step 4's head, on features (B, 128) that it normalises first."""

    def __init__(self, hidden_dim: int, dropout_rate: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(N_FEATURES, affine=False),
            nn.Dropout(dropout_rate),
            nn.Linear(N_FEATURES, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1)."""
        return self.layers(features)


def features_of(images: ImageTable) -> ImageTable:
    """A table of what the frozen backbone makes of images, or of the asymmetry of phantoms: float32, shape (n, 128)."""
    config = replace(step_4.CONFIG, transforms=(Asymmetry,) if images.name == "phantoms" else ())
    network = training.new_model(config, images, Compute("cpu", "fp32", 1), Stream(0))
    features = np.array(training.frozen_features(network, images))
    return replace(images, root=images.root / "features.npz", pixels=features)


def config_of(
    hidden_dim: int = 64, dropout_rate: float = 0.2, learning_rate: float = 1e-3, weight_decay: float = 1e-2
) -> TrainingConfig:
    """The settings of a training of the head: as it stands step 3's, at a learning rate at which a head learns."""
    head = partial(Head, hidden_dim=hidden_dim, dropout_rate=dropout_rate)
    return TrainingConfig(
        model=head,
        augmentation=None,
        warmup_epochs=0,
        epochs=6,
        batch_size=64,
        eval_every=2,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )


Predict = Callable[[ImageTable, np.ndarray], np.ndarray]
"""Gets a table and some of its rows; returns probabilities of class 1, float64, shape (n,)."""
Fit = Callable[[ImageTable, Fold, Compute, Stream, Any], Predict]


class Method(NamedTuple):
    """How settings are drawn, and what is fitted with them.

    Attributes
    ----------
    suggest : callable
        Gets a trial; returns settings.
    fit : callable
        Gets a table, a fold, what to compute on, the stream of the inner fold, and settings.
    n_startup : int
        Trials that are drawn at random before TPE begins.
    """

    suggest: Callable[[Any], Any]
    fit: Fit
    n_startup: int


def fit_network(table: ImageTable, fold: Fold, compute: Compute, stream: Stream, config: TrainingConfig) -> Predict:
    """Step 4's training, from `stream`."""
    network, _ = step_4.run_fold(table, fold, config, compute, stream, NullRun())
    return partial(training.test_model, network)


def fit_baseline(table: ImageTable, fold: Fold, compute: Compute, stream: Stream, model: ClassifierMixin) -> Predict:
    """A classifier of scikit-learn on the same features, standardised."""
    model = make_pipeline(StandardScaler(), model).fit(np.asarray(table.pixels)[fold.train], table.labels[fold.train])
    return lambda other, rows: model.predict_proba(np.asarray(other.pixels)[rows])[:, 1].astype(float)


def _suggest(trial) -> TrainingConfig:
    return config_of(
        trial.suggest_int("hidden_dim", 16, 256, log=True),
        trial.suggest_float("dropout_rate", 0.0, 0.6),
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
    )


def _suggest_logistic(trial) -> ClassifierMixin:
    return LogisticRegression(C=trial.suggest_float("C", 1e-5, 1e2, log=True), solver="newton-cholesky")


def _suggest_neighbours(trial) -> ClassifierMixin:
    return KNeighborsClassifier(
        trial.suggest_int("n_neighbors", 1, 100, log=True),
        weights=trial.suggest_categorical("weights", ["uniform", "distance"]),
        p=trial.suggest_categorical("p", [1, 2]),
    )


METHODS = {
    "fixed": Method(lambda trial: config_of(), fit_network, 1),
    "tpe": Method(_suggest, fit_network, N_STARTUP),
    "random": Method(_suggest, fit_network, N_TRIALS),
    "logistic": Method(_suggest_logistic, fit_baseline, N_STARTUP),
    "neighbours": Method(_suggest_neighbours, fit_baseline, N_STARTUP),
}
