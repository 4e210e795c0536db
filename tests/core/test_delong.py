"""Intervals of the ROC AUC of given models: published answers, brute force, and properties."""

import numpy as np
import pytest

from benchmarks import coverage
from common.evaluation.delong import auc_covariance, auc_influence, auc_interval, limit_without_errors
from common.evaluation.tested import OuterFold

# Hanley & McNeil (1982), Radiology 143:29-36: ratings 1 to 5 of 58 normal and 51 abnormal images
LABELS = np.repeat([0, 1], [58, 51])
RATINGS = np.repeat(np.tile(np.arange(1.0, 6), 2), [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])


def a_fold(labels, *models, units=None):
    units = np.arange(len(labels)) if units is None else np.asarray(units)
    return OuterFold(np.asarray(labels), np.stack(models), units, np.full(len(models), 0.5))


def covariance_by_pairs(labels, *models):
    """DeLong's, from all pairs of images."""
    components = []
    for label in (1, 0):
        of_label = []
        for scores in models:
            right = np.sign(scores[labels == 1][:, None] - scores[labels == 0]) / 2 + 0.5
            of_label.append(right.mean(axis=1 if label == 1 else 0))
        components.append(np.cov(of_label) / len(of_label[0]))
    return sum(components)


def test_published_ratings_have_the_published_auc_and_delong_error():
    (auc,), ((variance,),) = auc_covariance([[a_fold(LABELS, RATINGS)]])
    assert (auc, np.sqrt(variance)) == pytest.approx((0.89317, 0.03072), abs=5e-6)
    low, high = auc_interval([a_fold(LABELS, RATINGS)]).limits
    assert np.log([low / (1 - low), high / (1 - high)]).mean() == pytest.approx(np.log(auc / (1 - auc)))


def test_covariance_of_two_models_is_that_of_all_pairs_of_images_and_copies_within_patients_leave_it():
    other = RATINGS + np.random.default_rng(0).normal(size=109)
    expected = covariance_by_pairs(LABELS, RATINGS, other)
    for copies in (1, 3):
        tiled = [np.tile(values, copies) for values in (LABELS, RATINGS, other, np.arange(109))]
        runs = [[a_fold(tiled[0], scores, units=tiled[3])] for scores in tiled[1:3]]
        np.testing.assert_allclose(auc_covariance(runs)[1], expected)


def test_folds_add_up_where_they_share_no_patient_and_count_once_where_they_are_the_same():
    fold, other = a_fold(LABELS, RATINGS), a_fold(LABELS, -RATINGS, units=np.arange(109) + 109)
    (_, ((one,),)), (_, ((two,),)) = auc_covariance([[fold]]), auc_covariance([[other]])
    assert auc_covariance([[fold, other]])[1] == pytest.approx((one + two) / 4)
    assert auc_covariance([[fold, fold]])[1] == pytest.approx(one)


def test_a_patient_with_images_of_both_classes_counts_as_one():
    random = np.random.default_rng(0)
    labels, units = np.tile([0, 1], 100), np.repeat(np.arange(100), 2)
    shared = random.normal(size=100)[units]  # lifts both images of a patient: pairs within him stay in order
    scores = labels + 3 * shared + 0.3 * random.normal(size=200)
    variances = [auc_covariance([[a_fold(labels, scores, units=of)]])[1][0, 0] for of in (units, np.arange(200))]
    draws = [auc_influence(labels, scores)[0] + _moved(random, labels, scores, units) for _ in range(400)]
    assert variances[0] == pytest.approx(np.var(draws), rel=0.3)
    assert variances[1] > 5 * variances[0]


def _moved(random, labels, scores, units):
    """How much the AUC of one resample of patients differs."""
    chosen = np.concatenate([np.flatnonzero(units == unit) for unit in random.integers(100, size=100)])
    return auc_influence(labels[chosen], scores[chosen])[0] - auc_influence(labels, scores)[0]


def test_influence_of_many_classes_is_the_change_that_more_of_an_image_makes():
    random = np.random.default_rng(0)
    labels, probabilities = np.arange(60) % 3, random.dirichlet(np.ones(3), 60)
    auc, influence = auc_influence(labels, probabilities)
    for label in range(3):
        assert influence[labels == label].sum() == pytest.approx(0)
    rows = np.append(np.repeat(np.arange(60), 1000), np.repeat(0, 20))  # image 0: 20 / 20,000 more of its class
    assert auc_influence(labels[rows], probabilities[rows])[0] - auc == pytest.approx(influence[0] / 50, rel=0.1)


def test_without_errors_the_limit_is_that_of_disjoint_pairs_of_patients():
    labels, units = np.repeat([0, 1], 6), np.repeat(np.arange(6), 2)
    folds = [a_fold(labels, labels / 1.0, units=units + 6 * j) for j in range(2)]
    assert auc_interval(folds).limits == pytest.approx([0.025 ** (1 / 6), 1])
    assert auc_interval([a_fold(labels, 1.0 - labels, units=units)]).limits == pytest.approx([0, 1 - 0.025 ** (1 / 3)])
    twice = [*folds, *folds]  # a second repeat tests the same patients: no more pairs, and both repeats must hold
    assert limit_without_errors(twice) == pytest.approx(0.0125 ** (1 / 6))
    assert auc_interval([a_fold(labels, np.full(12, 0.5))]).missing == "the predictions do not differ"


def test_intervals_hold_the_truth_of_real_cross_validation(monkeypatch, tmp_path):
    monkeypatch.setattr(coverage, "AUCS", (0.9,))
    monkeypatch.setitem(coverage.SIZES, "fast", 50)
    for figure in coverage.measure("fast", tmp_path):
        assert figure.values["these models"] > 0.88
        assert figure.values.get("by image", 0.7) < 0.85
