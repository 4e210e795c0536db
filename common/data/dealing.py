"""Units of images are dealt into parts one by one, so that the parts get what they should have of each class."""

from __future__ import annotations

import numpy as np

from common.seeds import Stream


def deal(counts: np.ndarray, wanted: np.ndarray, had: np.ndarray, stream: Stream) -> np.ndarray:
    """The part of each unit: large ones go first, each where it fits the wanted numbers best.

    Parameters
    ----------
    counts : ndarray, shape (n_units, n_classes)
        Images of each class in each unit.
    wanted, had : ndarray of float64, shape (n_parts, n_classes)
        Images of each class that a part should have, and has already; what it gets is added to `had`.
    stream : Stream
        Decides between units of one size.

    Returns
    -------
    ndarray of int64, shape (n_units,)
    """
    part_of = np.zeros(len(counts), np.int64)
    order = stream.numpy().permutation(len(counts))
    for unit in order[np.argsort(-counts.sum(1)[order], kind="stable")]:
        # the growth of Pearson's chi-squared, the sum of (had - wanted)² / wanted
        growth = (counts[unit] * (2 * (had - wanted) + counts[unit]) / wanted).sum(1)
        part_of[unit] = growth.argmin()
        had[part_of[unit]] += counts[unit]
    return part_of
