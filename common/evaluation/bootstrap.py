"""Intervals of any score of given models for new patients: a seeded bootstrap of the units of the test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from common.evaluation.delong import ONE_UNIT, degrees_of_freedom, repeats_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import OuterFold
from common.seeds import Stream

RESAMPLES = 2000
NO_VARIANCE = "the same in all resamples"
_CELLS = 4_000_000  # weights in memory at a time

Measure = Callable[..., np.ndarray]
"""A function of labels, probabilities, threshold and weights (B, n) that gives B values, or (B, T)."""


def resampled(
    scores: Mapping[str, tuple[Measure, Sequence[OuterFold]]], resamples: int = RESAMPLES, stratified: bool = True
) -> dict[str, np.ndarray]:
    """Scores of the test images, and of `resamples` resamples of them: means over the models and then over the folds.

    A resample gives each unit a positive weight, the same in all folds and for all images of the unit, so no resample
    lacks a class. The weights are exponential (Rubin's Bayesian bootstrap), from a fixed stream: the same table gives
    the same values.

    Parameters
    ----------
    scores : mapping from name to (measure, folds)
        The folds of all of them must have the same labels and units; their thresholds may differ.
    resamples : int
    stratified : bool
        Scale the weights so that each class of a fold weighs as much as it has images; without it the shares of the
        classes vary too, which calibration in the large depends on.

    Returns
    -------
    dict from name to ndarray of float64, shape (1 + resamples, ...)
        The first value is that of the images as they are.

    References
    ----------
    Rubin (1981), The Bayesian bootstrap, Annals of Statistics 9(1):130-134.
    """
    values: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    folds = next(iter(scores.values()))[1]
    for weights in _weights(folds, 1 + resamples, stratified):
        for name, (measure, of_folds) in scores.items():
            by_fold = [
                np.mean(
                    [
                        measure(fold.labels, model, threshold, own)
                        for model, threshold in zip(fold.probabilities, fold.thresholds, strict=True)
                    ],
                    axis=0,
                )
                for fold, own in zip(of_folds, weights, strict=True)
            ]
            values[name].append(np.mean(by_fold, axis=0))
    return {name: np.concatenate(found) for name, found in values.items()}


def _weights(folds: Sequence[OuterFold], rows: int, stratified: bool) -> Iterator[list[np.ndarray]]:
    """Weights of the images of each fold, some resamples at a time; those of the first row are all 1."""
    n_units = 1 + max(int(fold.units.max()) for fold in folds)
    random = Stream(0).at("bootstrap").numpy()
    at_once = max(1, _CELLS // (n_units + sum(len(fold.labels) for fold in folds)))
    for first in range(0, rows, at_once):
        drawn = random.standard_exponential((min(at_once, rows - first), n_units))
        if first == 0:
            drawn[0] = 1
        weights = [drawn[:, fold.units] for fold in folds]
        for fold, own in zip(folds, weights, strict=True):
            for label in np.unique(fold.labels) if stratified else ():
                here = fold.labels == label
                own[:, here] *= here.sum() / own[:, here].sum(axis=1, keepdims=True)
        yield weights


def band_of(
    values: np.ndarray, folds: Sequence[OuterFold], labels: Sequence[int], confidence: float = 0.95
) -> np.ndarray:
    """Limits from the values of :func:`resampled`: their quantiles, those of :func:`normal_score`.

    Parameters
    ----------
    values : ndarray of float64, shape (1 + resamples, ...)
    folds : sequence of OuterFold
    labels : sequence of int
        Classes that the score depends on.
    confidence : float
        In (0, 1).

    Returns
    -------
    ndarray of float64, shape (2, ...)
        NaN where a fold has one unit of a class.

    References
    ----------
    Hesterberg (2015), What teachers should know about the bootstrap, The American Statistician 69(4):371-386.
    """
    score = normal_score(folds, labels, confidence)
    if np.isnan(score):
        return np.full((2, *values.shape[1:]), np.nan)
    return np.quantile(values[1:], stats.norm.cdf([-score, score]), axis=0)


def normal_score(folds: Sequence[OuterFold], labels: Sequence[int], confidence: float = 0.95) -> float:
    """How many standard deviations of the resamples an interval is wide to each side, as if they were normal.

    It is the quantile of the t distribution, as in :func:`common.evaluation.delong.t_factor`, times the root of
    (k + 1) / (k - 1), since exponential weights of k units have a variance that is too small by that. NaN where a fold
    has one unit of a class.
    """
    units = _units(folds, labels)
    if units.min() < 2:
        return float("nan")
    freedom = degrees_of_freedom(folds, labels)
    too_small = (1 / (units - 1)).mean(axis=0) / (1 / (units + 1)).mean(axis=0)
    return float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(too_small.max()))


def limits_of(
    values: np.ndarray, folds: Sequence[OuterFold], labels: Sequence[int], confidence: float = 0.95
) -> Interval:
    """The first value with the limits of :func:`band_of`; without them, and why, where all resamples are the same."""
    value, (low, high) = float(values[0]), band_of(values, folds, labels, confidence)
    if missing := _why_none(values, low):
        return Interval(value, missing=missing)
    return Interval(value, float(low), float(high))


def symmetric_limits(
    values: np.ndarray,
    folds: Sequence[OuterFold],
    labels: Sequence[int],
    confidence: float = 0.95,
    to_logit: bool = False,
) -> Interval:
    """As :func:`limits_of`, but symmetric: for scores that are biased, so that their resamples are so twice.

    The standard deviation of the resamples is half the width of their middle 68.27 %; `to_logit`: on the logit scale.
    """
    score = normal_score(folds, labels, confidence)
    if missing := _why_none(values, score):
        return Interval(float(values[0]), missing=missing)
    there, back = (logit, expit) if to_logit else (np.asarray, np.asarray)
    low, high = there(np.quantile(values[1:], stats.norm.cdf([-1, 1])))
    half_width = score * (high - low) / 2
    low, high = back(there(values[0]) + np.array([-half_width, half_width]))
    return Interval(float(values[0]), float(low), float(high))


def _why_none(values: np.ndarray, limit: float) -> str:
    if np.isnan(values).any():
        return "not defined in all resamples"
    if np.isnan(limit):
        return ONE_UNIT
    return NO_VARIANCE if np.ptp(values) <= 1e-12 else ""


def proportion_limits(
    values: np.ndarray, folds: Sequence[OuterFold], labels: Sequence[int], confidence: float = 0.95
) -> Interval:
    """An interval of a share of images, as :func:`limits_of`, that is never tighter than where all of them count.

    Then fold j has k_j units that are right in all their images. With q_j the probability of such a unit, the chance
    to see no other is at most prod q_j ** k_j. Where that is at least a = (1 - confidence) / 2, and with k the smallest
    k_j, Jensen's inequality gives mean q_j >= a ** (1 / (J k)); in one fold it is the limit of Clopper & Pearson. A
    unit that is not wholly right may be so in part: so the share of images is at least q_j, unless units with many
    images fail more often. With several repeats of the splits, or several classes, all must hold at once: a is divided
    by their number (Bonferroni).

    References
    ----------
    Clopper & Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26(4):404-413.
    """
    found, units = limits_of(values, folds, labels, confidence), _units(folds, labels).min()
    if units < 2 or (found.missing and found.value not in (0, 1)):
        return found
    repeats = repeats_of(folds)
    chance = (1 - confidence) / 2 / (repeats * len(labels))
    limit = float(chance ** (repeats / (len(folds) * units)))
    if found.missing:
        return Interval(1.0, limit, 1.0) if found.value == 1 else Interval(0.0, 0.0, 1 - limit)
    return Interval(found.value, min(found.low, limit), max(found.high, 1 - limit))


def _units(folds: Sequence[OuterFold], labels: Sequence[int]) -> np.ndarray:
    """Units of each class in each fold: (folds, labels)."""
    return np.array([[len(np.unique(fold.units[fold.labels == label])) for label in labels] for fold in folds])
