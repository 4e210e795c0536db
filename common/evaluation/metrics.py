"""Scores of predictions on one set of images, of two classes or more, and the threshold chosen on the dev set.

Two classes have probabilities of class 1, shape (n,), and a threshold. K > 2 classes have probabilities of each class,
shape (n, K), with rows that sum to 1, and no threshold: the class with the highest probability is predicted.
"""

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

SCORES = {"roc_auc": "ROC AUC", "mcc": "MCC"}
"""What the scores that a search may maximise are called."""


def youden_threshold(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The threshold with the highest Youden's J = sensitivity + specificity - 1.

    An image is predicted as class 1 where ``probability >= threshold``. J is constant between two neighbouring
    probabilities, so each candidate is the midpoint of such a gap; 0 and 1 bound the outermost gaps. Among candidates
    with the same J the one closest to 0.5 is chosen, and the lower one of two that are equally close.

    Parameters
    ----------
    labels : array of shape (n,), int
        0 or 1, both present; 0 to K - 1, all present, for K > 2 classes.
    probabilities : array of shape (n,) or (n, K), float
        Probability of class 1, or of each of K > 2 classes, in [0, 1].

    Returns
    -------
    float
        In [0, 1]; NaN for more than two classes, which need no threshold.

    Raises
    ------
    ValueError
        If a class is missing, a probability is NaN or outside [0, 1], or those of K > 2 classes do not sum to 1.

    References
    ----------
    Youden (1950), Index for rating diagnostic tests, Cancer 3(1):32-35.
    """
    labels, probabilities = _checked(labels, probabilities)
    if probabilities.ndim == 2:
        return float("nan")
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


def threshold_that_keeps(label: int, share: float, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold at which at least `share` of class `label` is right, and as much of the other class as can be.

    Candidates lie in the middle between two neighbouring probabilities, and in [0, 1 + float's epsilon].

    Parameters
    ----------
    label : int
        1: the threshold has at least that sensitivity; 0: that specificity.
    share : float
        In (0, 1).
    labels, probabilities : ndarray, shape (n,)
        As for :func:`youden_threshold`, of two classes.
    """
    scores = np.unique(probabilities)
    middles = np.maximum((scores[:-1] + scores[1:]) / 2, np.nextafter(scores[:-1], 1))
    highest = (scores[-1] + 1) / 2 if scores[-1] < 1 else np.nextafter(1, 2)
    candidates = np.concatenate([[0.0], middles, [highest]])
    below = np.searchsorted(np.sort(probabilities[labels == label]), candidates) / (labels == label).sum()
    right = below if label == 0 else 1 - below
    kept = candidates[right >= share - 1e-12]
    return float(kept[0] if label == 0 else kept[-1])


def predicted_classes(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The class that probabilities of shape (n,) or (n, K) predict: int, shape (n,).

    With two classes it is 1 where ``probability >= threshold``; with more it is the most probable one, the first of
    equally probable ones, and the threshold has no say.
    """
    if probabilities.ndim == 2:
        return probabilities.argmax(axis=1)
    return (probabilities >= threshold).astype(int)


def score_predictions(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> dict[str, float]:
    """Scores of predictions on one set of images.

    Parameters
    ----------
    labels : array of shape (n,), int
        0 or 1, both present; 0 to K - 1, all present, for K > 2 classes.
    probabilities : array of shape (n,) or (n, K), float
        Probability of class 1, or of each of K > 2 classes, in [0, 1].
    threshold : float
        Class 1 is predicted where ``probability >= threshold``; not used for more than two classes.

    Returns
    -------
    dict
        roc_auc
            In [0, 1]. For K > 2 classes the mean over the classes of the AUC of each against all others (macro,
            one-vs-rest).
        balanced_accuracy
            In [0, 1]: the mean over the classes of the share that is found.
        mcc
            Matthews' correlation in [-1, 1], 0 where all predictions are of one class; Gorodkin's R_K for K > 2
            classes, where the lowest value lies between -1 and 0.
        brier
            Lower is better. For two classes mean((p - y)²), in [0, 1], of the probability p of class 1 and the label
            y. For K > 2 classes mean(sum_k (p_k - y_k)²), in [0, 2], where y_k is 1 for the true class and else 0:
            Brier's own definition, which for two classes would be twice the one above.

    Raises
    ------
    ValueError
        If a class is missing, a probability is NaN or outside [0, 1], or those of K > 2 classes do not sum to 1.

    References
    ----------
    Brier (1950), Verification of forecasts expressed in terms of probability, Monthly Weather Review 78(1):1-3.
    Gorodkin (2004), Comparing two K-category assignments by a K-category correlation coefficient, Computational
    Biology and Chemistry 28(5-6):367-374.
    """
    labels, probabilities = _checked(labels, probabilities)
    predictions = predicted_classes(probabilities, threshold)
    return {
        "roc_auc": float(roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predictions)),
        "mcc": float(matthews_corrcoef(labels, predictions)),
        "brier": float(brier_score_loss(labels, probabilities)),
    }


def confusion(labels: ArrayLike, predictions: ArrayLike, n_classes: int = 2) -> np.ndarray:
    """Counts of shape (n_classes, n_classes), int: a row per true class, a column per predicted class."""
    return confusion_matrix(labels, predictions, labels=range(n_classes))


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    n_classes = probabilities.shape[1] if probabilities.ndim == 2 else 2
    if probabilities.shape not in {labels.shape, (*labels.shape, max(3, n_classes))} or labels.ndim != 1:
        raise ValueError(
            "labels and probabilities must be of one shape (n,), or probabilities (n, K) for K > 2 classes, "
            f"found {labels.shape} and {probabilities.shape}"
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("probabilities must lie in [0, 1]: found NaN or a value outside")
    found, classes = np.unique(labels).tolist(), range(n_classes)
    if n_classes == 2 and found != [0, 1]:
        raise ValueError(f"labels must hold both 0 and 1, found {found} in {len(labels)} images")
    if wrong := sorted(set(found) - set(classes)):
        raise ValueError(f"labels of {n_classes} classes must be 0 to {n_classes - 1}, found {wrong}")
    if missing := sorted(set(classes) - set(found)):
        raise ValueError(f"labels must hold all {n_classes} classes, found none of {missing} in {len(labels)} images")
    if probabilities.ndim == 2 and not np.allclose(sums := probabilities.sum(axis=1), 1):
        raise ValueError(f"probabilities of an image must sum to 1, found {sums[np.abs(sums - 1).argmax()]:.6g}")
    return labels.astype(int), probabilities
