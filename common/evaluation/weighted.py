"""Scores of one model where each image has a weight, for many sets of weights at once.

Each takes labels, shape (n,), probabilities, shape (n,) or (n, K), the threshold (of two classes), and positive
weights, shape (B, n), and gives B values. With all weights 1 they are the scores of :mod:`common.evaluation.metrics`.
"""

from __future__ import annotations

import numpy as np

from common.evaluation.metrics import predicted_classes

Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _counts(labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray) -> Counts:
    """Weight of each class that is found, is predicted, and is true: (B, K) each."""
    classes = np.arange(probabilities.shape[1] if probabilities.ndim == 2 else 2)
    predicted = predicted_classes(probabilities, threshold)[:, None] == classes
    true = labels[:, None] == classes
    return weights @ (true & predicted), weights @ predicted, weights @ true


def sensitivity_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Share of class 1 that is found."""
    found, _, true = _counts(labels, probabilities, threshold, weights)
    return found[:, 1] / true[:, 1]


def specificity_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Share of class 0 that is found."""
    found, _, true = _counts(labels, probabilities, threshold, weights)
    return found[:, 0] / true[:, 0]


def balanced_accuracy_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Mean over the classes of the share that is found."""
    found, _, true = _counts(labels, probabilities, threshold, weights)
    return (found / true).mean(axis=1)


def accuracy_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Share that is right."""
    found, _, true = _counts(labels, probabilities, threshold, weights)
    return found.sum(axis=1) / true.sum(axis=1)


def mcc_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Matthews' correlation, Gorodkin's R_K of K classes; 0 where all predictions are of one class."""
    found, predicted, true = _counts(labels, probabilities, threshold, weights)
    total = true.sum(axis=1)
    above = found.sum(axis=1) * total - (predicted * true).sum(axis=1)
    below = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return np.where(below > 1e-9 * total**4, above / np.sqrt(np.maximum(below, 1e-300)), 0.0)


def precision_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Share of what is predicted as class 1 that is of it, 0 where nothing is; of K classes the mean (macro)."""
    found, predicted, _ = _counts(labels, probabilities, threshold, weights)
    return _of_class(found / np.maximum(predicted, 1e-300))


def f1_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Harmonic mean of precision and sensitivity of class 1; of K classes the mean (macro)."""
    found, predicted, true = _counts(labels, probabilities, threshold, weights)
    return _of_class(2 * found / (predicted + true))


def _of_class(values: np.ndarray) -> np.ndarray:
    return values[:, 1] if values.shape[1] == 2 else values.mean(axis=1)


def pr_auc_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Average precision of class 1; of K classes the mean of those of each against all others."""
    if probabilities.ndim == 1:
        return _average_precision(labels == 1, probabilities, weights)
    each = [_average_precision(labels == label, own, weights) for label, own in enumerate(probabilities.T)]
    return np.mean(each, axis=0)


def _average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores are taken at once
    ordered = weights[:, order]
    predicted = np.cumsum(ordered, axis=1)[:, ends]
    found = np.cumsum(ordered * positive[order], axis=1)[:, ends]
    more = np.diff(found, axis=1, prepend=0)
    return (more * found / predicted).sum(axis=1) / found[:, -1]


def brier_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Mean squared error of the probabilities; of K classes summed over the classes."""
    if probabilities.ndim == 1:
        errors = (probabilities - labels) ** 2
    else:
        errors = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return weights @ errors / weights.sum(axis=1)


def log_loss_of(labels, probabilities, threshold, weights) -> np.ndarray:
    """Cross-entropy in nats; probabilities are kept a float's epsilon away from 0 and 1."""
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1 - probabilities, probabilities])
    smallest = np.finfo(float).eps
    of_true = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return weights @ -np.log(np.clip(of_true, smallest, 1 - smallest)) / weights.sum(axis=1)


def net_benefit(labels, probabilities, thresholds, weights) -> np.ndarray:
    """Net benefit of treating who has at least each of T threshold probabilities: (B, T).

    True positives per image less false positives per image at the odds of the threshold.

    References
    ----------
    Vickers & Elkin (2006), Decision curve analysis: a novel method for evaluating prediction models, Medical Decision
    Making 26(6):565-574.
    """
    odds = thresholds / (1 - thresholds)
    worth = np.where((labels == 1)[:, None], 1.0, -odds) * (probabilities[:, None] >= thresholds)
    return weights @ worth / weights.sum(axis=1, keepdims=True)
