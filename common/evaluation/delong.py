"""ROC AUC of given models for new patients: its variance by DeLong's method, for images in groups, and an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from common.evaluation.statistics import Difference, Interval
from common.evaluation.tested import OuterFold, units_of_class

EXACT = (15, 0.99)
"""Units of the rarer class from which on, and ROC AUC up to which, intervals hold the truth as often as they say."""
ONE_UNIT = "an outer fold has one group or image of a class"
ALIKE = "both rank the images alike"
SAME = "the difference is the same for all images"


def auc_influence(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, np.ndarray]:
    """ROC AUC of one model, and how far each image moves it.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        All classes present.
    probabilities : ndarray of float64, shape (n,) or (n, K)
        Of class 1, or of each of K > 2 classes: then the AUC is the mean of those of each class against all others.

    Returns
    -------
    auc : float
    influence : ndarray of float64, shape (n,)
        The image's structural component (the share of the other class that it is on the right side of, ties counting
        half) less its mean over the class, divided by the images of the class. It sums to 0 over each class.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), Comparing the areas under two or more correlated receiver operating
    characteristic curves, Biometrics 44(3):837-845. Sun & Xu (2014), Fast implementation of DeLong's algorithm, IEEE
    Signal Processing Letters 21(11):1389-1393.
    """
    if probabilities.ndim == 1:
        return _of_two(labels == 1, probabilities)
    found = [_of_two(labels == label, of_class) for label, of_class in enumerate(probabilities.T)]
    influence = np.mean([moves for _, moves in found], axis=0)
    for label in range(len(found)):
        influence[labels == label] -= influence[labels == label].mean()
    return float(np.mean([auc for auc, _ in found])), influence


def _of_two(positive: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    inside = np.empty(len(scores))
    inside[positive], inside[~positive] = stats.rankdata(scores[positive]), stats.rankdata(scores[~positive])
    outside = stats.rankdata(scores) - inside
    component = np.where(positive, outside / n_negative, 1 - outside / n_positive)
    auc = float(component[positive].mean())
    return auc, (component - auc) / np.where(positive, n_positive, n_negative)


def auc_covariance(models: Sequence[Sequence[OuterFold]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean ROC AUC over the outer folds, and its covariance for new patients, of several runs on the same images.

    In a fold, the AUC of a run is the mean over its models. The folds' models are taken as they are; their test sets
    are independent, but for units that several repeats of the splits test.

    Parameters
    ----------
    models : sequence of runs, each a sequence of J folds
        With the same labels and units.

    Returns
    -------
    aucs : ndarray of float64, shape (runs,)
    covariance : ndarray of float64, shape (runs, runs)
        NaN where a fold has a class with images of one unit only. With one image per unit and one fold it is DeLong's.

    References
    ----------
    Obuchowski (1997), Nonparametric analysis of clustered ROC curve data, Biometrics 53(2):567-578.
    """
    aucs, own, across = _sums(models)
    return aucs.mean(axis=1), _covariance(own, across)


def _sums(models: Sequence[Sequence[OuterFold]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUCs, shape (runs, J), and sums of influence, shape (classes, runs, units), to multiply within and across."""
    folds = models[0]
    n_units = 1 + max(int(fold.units.max()) for fold in folds)
    n_classes = 1 + max(int(fold.labels.max()) for fold in folds)
    aucs = np.empty((len(models), len(folds)))
    own = np.zeros((n_classes, len(models), n_units))
    across = np.zeros_like(own)
    for j, fold in enumerate(folds):
        influences = []
        for run, of_run in enumerate(models):
            found = [auc_influence(fold.labels, model) for model in of_run[j].probabilities]
            aucs[run, j] = np.mean([auc for auc, _ in found])
            influences.append(np.mean([moves for _, moves in found], axis=0) / len(folds))
        for label in range(n_classes):
            here = fold.labels == label
            sums = np.zeros((len(models), n_units))
            np.add.at(sums.T, fold.units[here], np.array(influences)[:, here].T)
            own[label] += sums * _unbiased(fold.units[here])
            across[label] += sums * _unbiased(fold.units)
    return aucs, own, across


def _covariance(own: np.ndarray, across: np.ndarray) -> np.ndarray:
    both = across.sum(axis=0)
    within = np.einsum("cru,csu->rs", own, own)
    return within + both @ both.T - np.einsum("cru,csu->rs", across, across)


def _unbiased(units: np.ndarray) -> float:
    n = len(np.unique(units))
    return float(np.sqrt(n / (n - 1))) if n > 1 else float("nan")


def auc_interval(folds: Sequence[OuterFold], confidence: float = 0.95) -> Interval:
    """Mean ROC AUC over the outer folds and its interval: these models, new patients.

    The limits are symmetric on the logit scale, by the t distribution with as many degrees of freedom as the rarer
    class has units, less the outer folds (of one repeat). Where all folds are without an error, the lower limit is that
    of :func:`limit_without_errors`. Beyond :data:`EXACT` the limits are approximate: ``python -m benchmarks --rows
    coverage`` measures how often they hold the truth.

    Parameters
    ----------
    folds : sequence of OuterFold
    confidence : float
        In (0, 1).

    Returns
    -------
    Interval
        Without limits, and why, where a fold has one unit of a class or no variance.

    References
    ----------
    Pepe (2003), The Statistical Evaluation of Medical Tests, section 5.2, for the logit scale.
    """
    (auc,), ((variance,),) = auc_covariance([folds])
    if np.isnan(variance):
        return Interval(auc, missing=ONE_UNIT)
    if auc in (0, 1):
        limit = limit_without_errors(folds, confidence)
        return Interval(auc, limit, 1.0) if auc == 1 else Interval(auc, 0.0, 1 - limit)
    if variance <= 0:
        return Interval(auc, missing="the predictions do not differ")
    half_width = t_factor(folds, confidence) * np.sqrt(variance) / (auc * (1 - auc))
    low, high = float(expit(logit(auc) - half_width)), float(expit(logit(auc) + half_width))
    few, far = EXACT
    return Interval(auc, low, high, approximate=_rarer(folds) < few or max(auc, 1 - auc) > far)


def auc_difference(a: Sequence[OuterFold], b: Sequence[OuterFold], confidence: float = 0.95) -> Difference:
    """Mean ROC AUC of one run less that of another on the same images: these models, new patients.

    DeLong's paired test, for images in groups, with the degrees of freedom of :func:`auc_interval`; approximate for few
    units, as there. Where all models of
    both are without an error, the limits are those that :func:`limit_without_errors` allows, and there is no p.

    Parameters
    ----------
    a, b : sequence of OuterFold
        With the same labels and units.
    confidence : float
        In (0, 1).

    Returns
    -------
    Difference
        Without limits and p, and why, where a fold has one unit of a class, or the difference no variance.
    """
    aucs, own, across = _sums([a, b])
    value = float((aucs[0] - aucs[1]).mean())
    ((variance,),) = _covariance(own[:, :1] - own[:, 1:], across[:, :1] - across[:, 1:])
    if np.isnan(variance):
        return Difference(value, missing=ONE_UNIT)
    if (aucs == 1).all():
        margin = 1 - limit_without_errors(a, confidence)
        return Difference(value, -margin, margin)
    if variance <= 0:
        return Difference(value, missing=SAME if value else ALIKE)
    error = float(np.sqrt(variance))
    low, high = value + np.array([-1, 1]) * t_factor(a, confidence) * error
    p = float(2 * stats.t.sf(abs(value) / error, degrees_of_freedom(a)))
    is_rough = _rarer(a) < EXACT[0]
    return Difference(value, max(-1.0, float(low)), min(1.0, float(high)), approximate=is_rough, p=p)


def degrees_of_freedom(folds: Sequence[OuterFold], labels: Sequence[int] | None = None) -> float:
    """Of the t distribution of a mean ROC AUC, see :func:`auc_interval`; of a score of some classes, `labels`."""
    rarer = _rarer(folds) if labels is None else min(units_of_class(folds, label) for label in labels)
    return max(1, rarer - len(folds) / repeats_of(folds))


def _rarer(folds: Sequence[OuterFold]) -> int:
    n_classes = 1 + max(int(fold.labels.max()) for fold in folds)
    return min(units_of_class(folds, label) for label in range(n_classes))


def t_factor(folds: Sequence[OuterFold], confidence: float = 0.95) -> float:
    """How many standard errors an interval is wide to each side, see :func:`auc_interval`."""
    return float(stats.t.ppf((1 + confidence) / 2, degrees_of_freedom(folds)))


def limit_without_errors(folds: Sequence[OuterFold], confidence: float = 0.95) -> float:
    """The lower limit of the mean ROC AUC of models that put every pair of test images in the right order.

    Pair the units of fold j so that no two pairs share one: k_j pairs of a positive and a negative unit. They are
    independent, and each is in the right order with probability AUC_j, so the chance to see no error in any pair of any
    fold is at most prod AUC_j ** k_j. Where that is at least a = (1 - confidence) / 2, and with k the smallest k_j, the
    inequality of Jensen gives mean AUC_j >= a ** (1 / (J k)). Of more than two classes, each against all others, and of
    several repeats of the splits, all must hold at once: a is divided by their number (Bonferroni).

    References
    ----------
    Hanley & Lippman-Hand (1983), If nothing goes wrong, is everything all right?, JAMA 249(13):1743-1745.
    """
    n_classes = 1 + max(int(fold.labels.max()) for fold in folds)
    against_others = range(n_classes) if n_classes > 2 else [1]
    pairs = [_pairs(fold.units, fold.labels == label) for fold in folds for label in against_others]
    repeats = repeats_of(folds)
    chance = (1 - confidence) / 2 / (len(against_others) * repeats)
    return float(chance ** (repeats / (len(folds) * min(pairs))))


def repeats_of(folds: Sequence[OuterFold]) -> int:
    """How often a unit is tested at most."""
    return int(np.bincount(np.concatenate([np.unique(fold.units) for fold in folds])).max())


def _pairs(units: np.ndarray, positive: np.ndarray) -> int:
    with_positive, with_negative = set(units[positive].tolist()), set(units[~positive].tolist())
    return min(len(with_positive), len(with_negative), len(with_positive | with_negative) // 2)
