"""The ladder: a new score is told only where it is better than the best one by more than its standard error."""

from __future__ import annotations

import math

import numpy as np

ROUNDING = 1e-9
"""By what share of it a difference of floating-point numbers may miss its standard error."""


def is_better(losses: np.ndarray, best: float, of_best: np.ndarray | None) -> bool:
    """Whether predictions take the next rung: the parameter-free ladder.

    Their mean loss must be lower than the best answer so far by more than the standard error of the paired
    differences, and so must it be than the mean loss behind that answer, which was rounded. So what differs for one
    patient alone is never better.

    Parameters
    ----------
    losses : ndarray of float64, shape (n,)
        In [0, 1], of n > 1 patients.
    best : float
        The best answer so far.
    of_best : ndarray of float64, shape (n,), or None
        The losses behind it; None before the first answer.

    References
    ----------
    Blum & Hardt (2015), The Ladder: a reliable leaderboard for machine learning competitions, ICML, figure 2.
    """
    if of_best is None:
        return True
    gains = of_best - losses
    step = gains.std(ddof=1) / math.sqrt(len(gains)) * (1 + ROUNDING)
    return bool(gains.mean() > step and losses.mean() < best - step)


def rung(losses: np.ndarray) -> float:
    """What is told of better predictions: their mean loss, rounded to a multiple of 1/n."""
    return round(float(losses.mean()) * len(losses)) / len(losses)
