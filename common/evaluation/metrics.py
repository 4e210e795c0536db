"""Scores of binary predictions on one set of images, and the threshold chosen on the dev set."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    matthews_corrcoef,
    roc_auc_score,
)


def youden_threshold(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The threshold with the highest Youden's J = sensitivity + specificity - 1.

    An image is predicted as class 1 where ``probability >= threshold``. J is constant between two neighbouring
    probabilities, so each candidate is the midpoint of such a gap; 0 and 1 bound the outermost gaps. Among candidates
    with the same J the one closest to 0.5 is chosen, and the lower one of two that are equally close.

    Parameters
    ----------
    labels : array of shape (n,), int
        0 or 1, both present.
    probabilities : array of shape (n,), float
        Probability of class 1, in [0, 1].

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If a class is missing, or a probability is NaN or outside [0, 1].

    References
    ----------
    Youden (1950), Index for rating diagnostic tests, Cancer 3(1):32-35.
    """
    labels, probabilities = _checked(labels, probabilities)
    scores, group = np.unique(probabilities, return_inverse=True)
    positives, negatives = (np.bincount(group[labels == label], minlength=len(scores)) for label in (1, 0))
    missed, rejected = (np.append(0, np.cumsum(counts)) for counts in (positives, negatives))
    j = rejected * positives.sum() - missed * negatives.sum()  # times n_positives * n_negatives: ties are exact

    below, above = np.append(0.0, scores), np.append(scores, 1.0)
    midpoints = (below + above) / 2
    midpoints[1:] = np.where(midpoints > below, midpoints, above)[1:]  # neighbouring floats have none between
    if scores[-1] == 1.0:
        j, midpoints = j[:-1], midpoints[:-1]  # no threshold in [0, 1] is above it
    best = midpoints[j == j.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def score_predictions(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> dict[str, float]:
    """Scores of predictions on one set of images.

    Parameters
    ----------
    labels : array of shape (n,), int
        0 or 1, both present.
    probabilities : array of shape (n,), float
        Probability of class 1, in [0, 1].
    threshold : float
        Class 1 is predicted where ``probability >= threshold``.

    Returns
    -------
    dict
        ``roc_auc`` in [0, 1], ``balanced_accuracy`` in [0, 1], ``mcc`` (Matthews' correlation) in [-1, 1], 0 where
        all predictions are of one class, and ``brier`` in [0, 1], where lower is better.

    Raises
    ------
    ValueError
        If a class is missing, or a probability is NaN or outside [0, 1].
    """
    labels, probabilities = _checked(labels, probabilities)
    predictions = (probabilities >= threshold).astype(int)
    return {
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predictions)),
        "mcc": float(matthews_corrcoef(labels, predictions)),
        "brier": float(brier_score_loss(labels, probabilities)),
    }


def confusion(labels: ArrayLike, predictions: ArrayLike) -> np.ndarray:
    """Counts of shape (2, 2), int: a row per true class, a column per predicted class."""
    return confusion_matrix(labels, predictions, labels=[0, 1])


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if labels.ndim != 1 or labels.shape != probabilities.shape:
        raise ValueError(
            f"labels and probabilities must be of one shape (n,), found {labels.shape} and {probabilities.shape}"
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("probabilities must lie in [0, 1]: found NaN or a value outside")
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(f"labels must hold both 0 and 1, found {np.unique(labels).tolist()} in {len(labels)} images")
    return labels.astype(int), probabilities
