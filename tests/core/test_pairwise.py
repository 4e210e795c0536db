"""Differences of two runs: DeLong's paired test by group, the corrected and the Bayesian correlated t, Holm."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from common.evaluation import statistics, tested
from common.evaluation.delong import auc_covariance, auc_difference, auc_interval, degrees_of_freedom, t_factor


def fold_of(labels, *models, units=None):
    labels = np.asarray(labels)
    units = np.arange(len(labels)) if units is None else np.asarray(units)
    return tested.OuterFold(labels, np.array(models, dtype=float), units, np.full(len(models), 0.5))


def some_scores(n=60, seed=0):
    """Labels, two models' scores with ties, and units of unequal sizes, some with images of both classes."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 3 > 0).astype(int)
    shared = random.normal(size=n) + labels
    models = np.round(shared + random.normal(size=(2, n)) * [[0.5], [1.0]], 1)
    return labels, models, random.integers(0, n // 3, n)


def standard_error(found, folds):
    return (found.high - found.low) / 2 / t_factor(folds)


def components(labels, models):
    """AUC of each model, and how often each positive and each negative image is on the right side, one by one."""

    def order(scores, i, j):
        return float(scores[i] > scores[j]) + (scores[i] == scores[j]) / 2

    positives, negatives = (np.flatnonzero(labels == label) for label in (1, 0))
    pairs = np.array([[[order(scores, i, j) for j in negatives] for i in positives] for scores in models])
    return pairs.mean(axis=(1, 2)), pairs.mean(axis=2), pairs.mean(axis=1)


def test_the_paired_test_is_delongs_formula_done_by_loops():
    labels, (a, b), _ = some_scores()
    aucs, of_positives, of_negatives = components(labels, (a, b))
    n, m = of_positives.shape[1], of_negatives.shape[1]
    covariance = np.cov(of_positives) / n + np.cov(of_negatives) / m
    folds_a, folds_b = [fold_of(labels, a)], [fold_of(labels, b)]
    found = auc_covariance([folds_a, folds_b])
    assert found[0] == pytest.approx(aucs) and found[1] == pytest.approx(covariance)

    error, df = np.sqrt(covariance @ [1, -1] @ [1, -1]), m - 1  # class 0 is the rarer one
    half_width = stats.t.ppf(0.975, df) * error
    difference = auc_difference(folds_a, folds_b)
    gap = aucs[0] - aucs[1]
    assert [difference.value, *difference.limits] == pytest.approx([gap, gap - half_width, gap + half_width])
    assert difference.p == pytest.approx(2 * stats.t.sf(abs(gap) / error, df))
    swapped = auc_difference(folds_b, folds_a)
    assert [-swapped.value, -swapped.high, -swapped.low, swapped.p] == pytest.approx(
        [difference.value, difference.low, difference.high, difference.p]
    )


def test_the_paired_test_counts_groups_not_images():
    labels, models, units = some_scores()
    folds = [[fold_of(labels, model, units=units)] for model in models]
    aucs, *of_classes = components(labels, models)
    sums, variance = [], 0
    for found, label in zip(of_classes, (1, 0), strict=True):  # Obuchowski's formula
        moves, here = found[0] - found[1] - (aucs[0] - aucs[1]), units[labels == label]
        sums.append(np.array([moves[here == unit].sum() / len(here) for unit in np.unique(units)]))
        n = len(np.unique(here))
        variance += n / (n - 1) * (sums[-1] ** 2).sum()
    n = len(np.unique(units))
    variance += 2 * n / (n - 1) * (sums[0] * sums[1]).sum()
    assert standard_error(auc_difference(*folds), folds[0]) == pytest.approx(np.sqrt(variance))
    many = [[fold_of(labels.repeat(4), model.repeat(4), units=units.repeat(4))] for model in models]
    once, again = auc_difference(*folds), auc_difference(*many)
    assert [again.value, again.low, again.high, again.p] == pytest.approx([once.value, once.low, once.high, once.p])
    # copies that are not known to be copies make it look surer
    alone = [[fold_of(labels.repeat(4), model.repeat(4))] for model in models]
    assert auc_difference(*alone).p < once.p / 2


def test_folds_are_averaged_and_so_are_the_models_of_a_fold():
    runs, gaps, variances = ([], []), [], []
    for seed in (1, 2, 3):
        labels, (a, b), _ = some_scores(seed=seed)
        units = 100 * seed + np.arange(len(labels))
        fold = fold_of(labels, a, units=units), fold_of(labels, b, units=units)
        of_fold = auc_difference([fold[0]], [fold[1]])
        gaps.append(of_fold.value)
        variances.append(standard_error(of_fold, [fold[0]]) ** 2)
        runs[0].append(fold[0])
        runs[1].append(fold_of(labels, b, b, units=units))  # two models alike are as one
    found = auc_difference(*runs)
    assert found.value == pytest.approx(np.mean(gaps))
    assert standard_error(found, runs[0]) == pytest.approx(np.sqrt(np.sum(variances)) / 3)
    assert degrees_of_freedom(runs[0]) == 3 * 20 - 3
    assert not found.approximate
    rough = [[fold_of(f.labels[::4], f.probabilities[0][::4]) for f in run[:1]] for run in runs]
    assert auc_difference(*rough).approximate  # 5 of a class


def test_where_nothing_varies_there_is_no_p_and_why_is_said():
    labels, (a, _), _ = some_scores()
    run, same = [fold_of(labels, a)], [fold_of(labels, np.exp(a))]
    found = auc_difference(run, same)
    assert (found.value, found.limits, found.missing) == (0, None, "both rank the images alike") and np.isnan(found.p)
    right, tied = [fold_of(labels, labels)], [fold_of(labels, labels * 0)]
    found = auc_difference(right, [fold_of(labels, labels / 2)])
    lowest = auc_interval(right).low
    assert [found.value, *found.limits] == [0, lowest - 1, 1 - lowest] and np.isnan(found.p) and not found.missing
    found = auc_difference(right, tied)
    assert (found.value, found.missing) == (0.5, "the difference is the same for all images")
    one = [fold_of(labels, a, units=labels * (1 + np.arange(len(labels))))]
    assert auc_difference(one, one).missing == "an outer fold has one group or image of a class"


def test_corrected_and_bayesian_t_of_scikit_learns_example():
    images, labels = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    a, b = (cross_val_score(SVC(kernel=k), images, labels, scoring="roc_auc", cv=folds) for k in ("rbf", "linear"))
    t, p = statistics.corrected_resampled_ttest(a, b, 90, 10)
    assert (t, p / 2) == pytest.approx((0.750, 0.227), abs=5e-4)
    better, none, _ = statistics.bayesian_correlated_ttest(a, b, 90, 10, 0)
    assert (better, none) == pytest.approx((0.7726, 0), abs=5e-4)
    probabilities = statistics.bayesian_correlated_ttest(a, b, 90, 10, 0.01)
    assert probabilities[1] == pytest.approx(0.432, abs=5e-4) and sum(probabilities) == pytest.approx(1)
    assert statistics.bayesian_correlated_ttest(b, a, 90, 10, 0.01) == pytest.approx(probabilities[::-1])


def test_holms_p_values_are_those_done_by_hand():
    # in order: 4 * 0.005, 3 * 0.01, 2 * 0.03, then 1 * 0.04 is not below the one before; NaN is no test
    assert statistics.holm_adjusted([0.01, 0.04, 0.03, np.nan, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, np.nan, 0.02], nan_ok=True
    )
    assert statistics.holm_adjusted([0.4, 0.6]).tolist() == [0.8, 0.8]
    assert statistics.holm_adjusted([0.6, 0.7]).tolist() == [1, 1]


def test_scores_that_are_equal_but_for_rounding_say_nothing_of_how_much_they_vary():
    _, low, high = statistics.corrected_resampled_interval([0.1] * 3, 100, 50)  # their mean is 0.10000000000000002
    assert np.isnan([low, high]).all()
    a, b = np.array([0.9, 0.8, 0.95, 0.7, 0.6]), np.array([0.7, 0.6, 0.75, 0.5, 0.4])
    assert np.isnan(statistics.corrected_resampled_ttest(a, b, 100, 50)).all()
    assert np.isnan(statistics.bayesian_correlated_ttest(a, b, 100, 50, 0.01)).all()
