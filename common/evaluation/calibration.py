"""Calibration of predicted probabilities of class 1: slope, intercept, and expected calibration error."""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import log_expit, logit

EPSILON = 1e-6
"""Probabilities are kept this far away from 0 and 1 before their logit is taken."""


def calibration_slope(labels, probabilities, threshold, weights) -> np.ndarray:
    """Slope of the logistic regression of the labels on the logit of the probabilities; 1 where they are calibrated.

    Below 1 the probabilities are too extreme, above 1 too moderate. Arguments as in :mod:`common.evaluation.weighted`.

    Returns
    -------
    ndarray of float64, shape (B,)
        NaN where the classes are perfectly separated, or all probabilities are the same: then there is no slope.

    References
    ----------
    Cox (1958), Two further applications of a model for binary regression, Biometrika 45(3-4):562-565.
    """
    x = _logits(probabilities)
    of_class = [x[labels == label] for label in (0, 1)]
    is_separated = of_class[0].max() <= of_class[1].min() or of_class[1].max() <= of_class[0].min()
    if is_separated or np.ptp(x) == 0:
        return np.full(len(weights), np.nan)
    return _regression(labels, np.zeros_like(x), np.column_stack([x, np.ones_like(x)]), weights)[:, 0]


def calibration_intercept(labels, probabilities, threshold, weights) -> np.ndarray:
    """Calibration in the large, shape (B,): the intercept where the slope is 1; 0 where the probabilities are.

    Above 0 class 1 is more frequent than predicted. Arguments as in :mod:`common.evaluation.weighted`.
    """
    x = _logits(probabilities)
    return _regression(labels, x, np.ones((len(x), 1)), weights)[:, 0]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: mean distance of observed share and mean probability, over bins of equal mass.

    There are as many bins as :func:`calibration_bins` says; equal probabilities are in one bin.

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning, AAAI.
    """
    return float(np.abs(_sums_of_bins(labels - probabilities, probabilities)).sum() / len(labels))


def error_by_chance(probabilities: np.ndarray) -> float:
    """About the calibration error that calibrated predictions of independent images would have by chance."""
    variances = _sums_of_bins(probabilities * (1 - probabilities), probabilities)
    return float(np.sqrt(2 / np.pi * variances).sum() / len(probabilities))


def calibration_bins(n: int) -> int:
    """Ten bins, or as many as have ten images each."""
    return min(10, max(1, n // 10))


def _sums_of_bins(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    n, n_bins = len(probabilities), calibration_bins(len(probabilities))
    bins = ((stats.rankdata(probabilities) - 0.5) * n_bins / n).astype(int)
    return np.bincount(bins, values, n_bins)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities, EPSILON, 1 - EPSILON))


def _regression(labels: np.ndarray, offset: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients (B, columns) of logistic regressions, by Newton's method; those of weights 1 are where it begins."""
    start = _newton(labels, offset, columns, np.ones((1, len(labels))), np.zeros((1, columns.shape[1])))
    return _newton(labels, offset, columns, weights, np.repeat(start, len(weights), axis=0))


def _newton(
    labels: np.ndarray, offset: np.ndarray, columns: np.ndarray, weights: np.ndarray, found: np.ndarray
) -> np.ndarray:
    signs = np.where(labels == 1, 1.0, -1.0)
    products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)

    def fit(coefficients: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logs = log_expit(signs * (offset + coefficients @ columns.T))
        return np.exp(logs), (of * logs).sum(axis=1)

    given, likelihood = fit(found, weights)
    for _ in range(100):
        gradient = (weights * (1 - given)) @ (signs[:, None] * columns)
        curvature = (weights * given * (1 - given)) @ products
        step = np.linalg.solve(curvature.reshape(len(weights), *[columns.shape[1]] * 2), gradient[:, :, None])[:, :, 0]
        after, higher = fit(found + step, weights)
        while (worse := higher < likelihood - 1e-9 * np.abs(likelihood)).any():
            step[worse] /= 2
            after[worse], higher[worse] = fit(found[worse] + step[worse], weights[worse])
        found, given, likelihood = found + step, after, higher
        if np.abs(step).max() < 1e-5:  # then the next one would be about its square
            break
    return found
