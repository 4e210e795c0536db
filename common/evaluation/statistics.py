"""What resampled scores say about a model: an interval and a paired test, corrected for shared training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEAST_FOLDS = 5
"""Outer folds from which on their scores say how much a procedure varies."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its limits.

    Attributes
    ----------
    value, low, high : float
        `low` and `high` are NaN where the data support none.
    missing : str
        Then why, in a few words.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    missing: str = ""

    @property
    def limits(self) -> list[float] | None:
        """``[low, high]``, or None."""
        return None if self.missing else [self.low, self.high]


def corrected_resampled_interval(
    scores: ArrayLike,
    n_train: float,
    n_test: float,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float, float]:
    """Mean of the scores and its interval by the corrected resampled t.

    The learning sets of the folds overlap, so the scores are correlated and ``s² / J`` is too small a variance for
    their mean. It is replaced by ``(1 / J + n_test / n_train) * s²``, with J - 1 degrees of freedom.

    Parameters
    ----------
    scores : array of shape (J,), float
        One per outer fold, within `bounds`. Inner models share a test set: average over them first.
    n_train, n_test : float
        Images per outer fold that the models learned from, and that they were tested on.
    confidence : float
        In (0, 1).
    bounds : (float, float)
        Smallest and largest value of the score; (-1, 1) for Matthews' correlation. The limits are clipped to them,
        which leaves the coverage as it is, since the true mean cannot lie outside.

    Returns
    -------
    mean, low, high : float
        `low` and `high` are NaN for a single score, and for equal ones, which say nothing of how much they vary.

    Raises
    ------
    ValueError
        If there is no score, one is not finite or is out of bounds, or a size or the confidence is out of range.

    References
    ----------
    Nadeau & Bengio (2003), Inference for the generalization error, Machine Learning 52:239-281.
    """
    scores = _checked(scores, "scores")
    if scores.min() < bounds[0] or scores.max() > bounds[1]:
        raise ValueError(f"scores must lie in {bounds}, found {scores.min()} to {scores.max()}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}")
    mean, error = _mean_and_error(scores, n_train, n_test)
    if len(scores) < 2 or error == 0:
        return mean, float("nan"), float("nan")
    half_width = float(stats.t.ppf((1 + confidence) / 2, len(scores) - 1)) * error
    return mean, max(bounds[0], mean - half_width), min(bounds[1], mean + half_width)


def corrected_resampled_ttest(
    scores_a: ArrayLike, scores_b: ArrayLike, n_train: float, n_test: float
) -> tuple[float, float]:
    """Paired two-sided test whether two models differ, by the corrected resampled t.

    Parameters
    ----------
    scores_a, scores_b : array of shape (J,), float
        One per outer fold, of the same folds in the same order.
    n_train, n_test : float
        Images per outer fold that the models learned from, and that they were tested on.

    Returns
    -------
    t, p : float
        `t` is positive where `scores_a` are higher. NaN for a single pair, and where all pairs differ by the same.

    Raises
    ------
    ValueError
        If the lengths differ, there is no score, one is not finite, or a size is not positive.

    References
    ----------
    Nadeau & Bengio (2003), Inference for the generalization error, Machine Learning 52:239-281.
    """
    scores_a, scores_b = _checked(scores_a, "scores_a"), _checked(scores_b, "scores_b")
    if len(scores_a) != len(scores_b):
        raise ValueError(f"scores must be paired by outer fold, found {len(scores_a)} and {len(scores_b)}")
    difference, error = _mean_and_error(scores_a - scores_b, n_train, n_test)
    if len(scores_a) < 2 or error == 0:
        return float("nan"), float("nan")
    t = difference / error
    return t, float(2 * stats.t.sf(abs(t), len(scores_a) - 1))


def _checked(scores: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite numbers, one per outer fold, found {scores.tolist()}")
    return scores


def _mean_and_error(scores: np.ndarray, n_train: float, n_test: float) -> tuple[float, float]:
    if not (n_train > 0 and n_test > 0):
        raise ValueError(f"n_train and n_test must be positive, found {n_train} and {n_test}")
    if len(scores) < 2:
        return float(scores[0]), float("nan")
    variance = (1 / len(scores) + n_test / n_train) * scores.var(ddof=1)
    return float(scores.mean()), float(np.sqrt(variance))
