"""Scores with intervals for new patients: the bootstrap, calibration, thresholds from dev, predictive values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn import metrics as sklearn
from sklearn.linear_model import LogisticRegression
from test_evaluation import a_run, some_models

from common.cli import UserError
from common.evaluation import analysis_text, as_metrics, metrics, more_test_scores, predictions, tested, weighted
from common.evaluation.bootstrap import limits_of, proportion_limits, resampled
from common.evaluation.calibration import calibration_error, calibration_intercept, calibration_slope

OF_BOTH = {
    "balanced_accuracy": weighted.balanced_accuracy_of,
    "accuracy": weighted.accuracy_of,
    "mcc": weighted.mcc_of,
    "precision": weighted.precision_of,
    "f1": weighted.f1_of,
    "pr_auc": weighted.pr_auc_of,
    "brier": weighted.brier_of,
    "log_loss": weighted.log_loss_of,
}


def fold_of(labels, probabilities, units=None):
    units = np.arange(len(labels)) if units is None else units
    return tested.OuterFold(np.asarray(labels), np.asarray(probabilities)[None], np.asarray(units), np.array([0.5]))


@pytest.mark.parametrize("classes", ["ab", "abc"])
def test_weighted_scores_are_scikit_learns_with_whole_weights_as_copies(classes):
    _, found = some_models(classes, root_splits=1, inner_splits=1, strength=0.7)
    test = found[found["part"] == "test"].round({column: 1 for column in found if column == "probability"})  # ties
    labels, probabilities = test["label"].to_numpy(), predictions.probabilities_of(test)
    threshold = float(test["threshold"].iloc[0])
    copies = np.random.default_rng(0).integers(1, 4, (3, len(labels)))
    for copied in [np.ones_like(copies[0]), *copies]:
        again = np.repeat(np.arange(len(labels)), copied)
        expected = metrics.score_predictions(labels[again], probabilities[again], threshold)
        predicted = metrics.predicted_classes(probabilities[again], threshold)
        average = {"average": "binary" if classes == "ab" else "macro"}
        expected |= {
            "accuracy": sklearn.accuracy_score(labels[again], predicted),
            "precision": sklearn.precision_score(labels[again], predicted, **average),
            "f1": sklearn.f1_score(labels[again], predicted, **average),
            "log_loss": sklearn.log_loss(labels[again], probabilities[again]),
            "pr_auc": sklearn.average_precision_score(labels[again], probabilities[again]),
        }
        for name, measure in OF_BOTH.items():
            assert measure(labels, probabilities, threshold, copied[None])[0] == pytest.approx(expected[name]), name


def test_the_interval_of_a_mean_is_the_normal_one_for_many_images_and_as_wide_as_patients_ask():
    random = np.random.default_rng(0)
    labels, probabilities = np.arange(800) % 2, random.random(800)
    errors = (probabilities - labels) ** 2
    variance = sum(errors[labels == label].var(ddof=1) / 400 for label in (0, 1)) / 4
    alone = [fold_of(labels, probabilities)]
    interval = limits_of(resampled({"": (weighted.brier_of, alone)})[""], alone, [0, 1])
    assert interval.value == pytest.approx(errors.mean())
    half_width = stats.t.ppf(0.975, 399) * np.sqrt(variance)
    assert interval.high - interval.low == pytest.approx(2 * half_width, rel=0.1)
    # four times the same image of each patient say no more than one, and copies in several models neither
    fourfold = [fold_of(np.repeat(labels, 4), np.repeat(probabilities, 4), np.repeat(np.arange(800), 4))]
    again = limits_of(resampled({"": (weighted.brier_of, fourfold)})[""], fourfold, [0, 1])
    assert again.limits == pytest.approx(interval.limits)
    naive = [fold_of(np.repeat(labels, 4), np.repeat(probabilities, 4))]
    narrow = limits_of(resampled({"": (weighted.brier_of, naive)})[""], naive, [0, 1])
    assert narrow.high - narrow.low == pytest.approx(half_width, rel=0.1)


def test_a_patient_that_several_folds_test_has_one_weight_and_no_class_is_ever_lost():
    fold = fold_of([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    one, twice = ({"": (weighted.sensitivity_of, folds)} for folds in ([fold], [fold, fold]))
    assert (resampled(twice)[""] == resampled(one)[""]).all()
    other = fold._replace(units=fold.units + 4)
    assert resampled({"": (weighted.sensitivity_of, [fold, other])})[""].std() < resampled(one)[""].std() * 0.8
    both = fold_of([0, 1, 0, 1, 1], [0.1, 0.6, 0.4, 0.9, 0.2], [0, 0, 1, 1, 1])  # each patient has both classes
    assert np.isfinite(resampled({"": (weighted.f1_of, [both])})[""]).all()


@pytest.mark.parametrize("per_patient", [1, 3])
def test_without_an_error_the_limit_is_clopper_and_pearsons_of_patients(per_patient):
    labels, units = np.repeat([0, 1], 12 * per_patient), np.repeat(np.arange(24), per_patient)
    right = [fold_of(labels, 0.2 + 0.6 * labels, units)]
    values = resampled({"": (weighted.sensitivity_of, right)})[""]
    exact = stats.binomtest(12, 12).proportion_ci(method="exact").low
    assert proportion_limits(values, right, [1]).limits == pytest.approx([exact, 1])
    assert proportion_limits(1 - values, right, [1]).limits == pytest.approx([0, 1 - exact])
    assert limits_of(values, right, [1]).missing
    almost = right[0].probabilities.copy()
    almost[0, -1] = 0.3  # one image of one patient is wrong: the limit must not be higher for that
    wrong = [right[0]._replace(probabilities=almost)]
    assert proportion_limits(resampled({"": (weighted.sensitivity_of, wrong)})[""], wrong, [1]).low <= exact


@pytest.mark.parametrize("patients", [pytest.param(0, marks=pytest.mark.slow), 20], ids=["images", "20 patients"])
def test_sensitivity_covers_its_truth_in_nineteen_of_twenty_simulations(patients):
    random, covered, n_simulations = np.random.default_rng(5), 0, 300
    for _ in range(n_simulations):
        chance = random.beta(4, 1, patients) if patients else np.full(80, 0.8)
        each = 80 // len(chance)
        found = random.random(80) < np.repeat(chance, each)
        units = np.repeat(np.arange(len(chance)), each)
        folds = [fold_of(np.repeat([0, 1], 80), np.append(np.arange(80) % 5 == 0, found), np.append(units + 80, units))]
        interval = proportion_limits(resampled({"": (weighted.sensitivity_of, folds)}, 400)[""], folds, [1])
        covered += interval.low <= 0.8 <= interval.high
    assert 0.92 <= covered / n_simulations <= 0.99


def test_calibration_slope_and_intercept_are_those_of_logistic_regression():
    random = np.random.default_rng(2)
    x = random.normal(size=3000)
    labels, alike = (random.random(3000) < expit(0.3 + 2 * x)).astype(int), np.ones((1, 3000))
    weights = random.integers(1, 4, (2, 3000))
    slopes = calibration_slope(labels, expit(x), 0.5, weights)
    for slope, own in zip(slopes, weights, strict=True):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], labels, own)
        assert slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    first = calibration_slope(labels, expit(x), 0.5, alike)[0]
    for factor in (0.25, 3):
        assert calibration_slope(labels, expit(factor * x), 0.5, alike)[0] == pytest.approx(first / factor, rel=1e-5)
    assert first == pytest.approx(2, abs=0.2)
    (intercept,) = calibration_intercept(labels, expit(2 * x), 0.5, alike)
    assert intercept == pytest.approx(0.3, abs=0.12)
    assert expit(intercept + 2 * x).mean() == pytest.approx(labels.mean())  # right in the large
    for separated in ([0.1, 0.2, 0.2, 0.9], [0.9, 0.8, 0.3, 0.1], [0.5] * 4):
        assert np.isnan(calibration_slope(np.array([0, 0, 1, 1]), np.array(separated), 0.5, np.ones((1, 4)))).all()


def test_the_calibration_intercept_covers_0_where_labels_are_drawn_from_the_probabilities():
    random, covered, n_simulations = np.random.default_rng(4), 0, 200
    for _ in range(n_simulations):
        probabilities = random.beta(4, 4, 100)
        folds = [fold_of((random.random(100) < probabilities).astype(int), probabilities)]
        values = resampled({"": (calibration_intercept, folds)}, 400, stratified=False)[""]
        interval = limits_of(values, folds, [0, 1])
        covered += interval.low <= 0 <= interval.high
    assert 0.91 <= covered / n_simulations <= 0.985


def test_calibration_error_of_a_constant_and_of_ten_bins():
    labels = np.arange(100) % 4 == 0
    assert calibration_error(labels, np.full(100, 0.4)) == pytest.approx(0.15)
    probabilities, tenths = np.arange(100) / 100, np.arange(100) // 10
    distance = [abs(labels[tenths == tenth].mean() - probabilities[tenths == tenth].mean()) for tenth in range(10)]
    shuffled = np.random.default_rng(0).permutation(100)
    assert calibration_error(labels[shuffled], probabilities[shuffled]) == pytest.approx(np.mean(distance))


def test_thresholds_of_a_wanted_sensitivity_or_specificity_are_the_best_that_dev_allows():
    for seed in range(30):
        random = np.random.default_rng(seed)
        labels, probabilities = np.append([0, 1], random.integers(0, 2, 30)), random.integers(0, 11, 32) / 10  # ties
        for label, share in ((0, 0.9), (1, 0.9), (0, 0.95)):
            threshold = metrics.threshold_that_keeps(label, share, labels, probabilities)
            found = [np.mean((probabilities >= threshold)[labels == each] == each) for each in (0, 1)]
            others = [
                [np.mean((probabilities >= t)[labels == k] == k) for k in (0, 1)] for t in np.linspace(0, 1.01, 102)
            ]
            assert found[label] >= share
            assert found[1 - label] == max(pair[1 - label] for pair in others if pair[label] >= share)
    labels, certain = np.array([0, 0, 1, 1]), np.array([0.0, 1.0, 0.0, 1.0])
    assert metrics.threshold_that_keeps(0, 0.9, labels, certain) > 1  # only what finds nobody is as specific
    assert metrics.threshold_that_keeps(0, 0.5, labels, certain) == 0.5


def test_scores_at_a_wanted_specificity_read_the_dev_set_of_their_own_model_alone():
    found, _ = a_run(root_splits=2, inner_splits=2)
    by_model = []
    for _, model in found.groupby(["root_split", "inner_split"]):
        dev, test = (model[model["part"] == part] for part in ("dev", "test"))
        threshold = metrics.threshold_that_keeps(0, 0.9, dev.label.to_numpy(), dev.probability.to_numpy())
        by_model.append((test.probability >= threshold)[test.label == 1].mean())
    score = more_test_scores(found)["sensitivity_at_90_specificity"]
    assert score.interval.value == pytest.approx(np.mean(by_model)) and "specificity 0.917 on test" in score.note


def test_predictive_values_are_bayes_rule_at_the_prevalence_that_is_stated():
    found, _ = a_run()
    scores = more_test_scores(found, prevalence=0.05)
    se, sp = (scores[name].interval.value for name in ("sensitivity", "specificity"))
    assert scores["ppv"].interval.value == pytest.approx(0.05 * se / (0.05 * se + 0.95 * (1 - sp)))
    assert scores["npv"].interval.value == pytest.approx(0.95 * sp / (0.95 * sp + 0.05 * (1 - se)))
    assert all(s.interval.low < s.interval.value < s.interval.high for s in (scores["ppv"], scores["npv"]))
    assert "ppv" not in more_test_scores(found)
    perfect = more_test_scores(a_run(strength=100)[0], 0.05)
    assert perfect["ppv"].interval.value == 1 and perfect["ppv"].interval.low < 0.5
    with pytest.raises(UserError, match="predictive values are of two classes; the run has 3"):
        more_test_scores(a_run("abc")[0], 0.05)


@pytest.mark.parametrize("run", [{}, {"classes": "abc"}, {"strength": 100}, {"inner_splits": 1, "n_test": 2}], ids=str)
def test_the_analysis_is_a_table_of_all_scores_with_limits_or_words_and_repeats(run):
    found, results = a_run(**run)
    scores, metric_values = more_test_scores(found), as_metrics(more_test_scores(found))
    assert metric_values == as_metrics(scores)
    text = analysis_text(found, results, scores)
    assert text == analysis_text(found, results) and max(map(len, text.splitlines())) <= 100
    assert "nan" not in text.lower()
    assert ("sensitivity" in scores) == (len(predictions.classes_of(found)) == 2)
    for name, (title, interval, _) in scores.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{title}  "))
        if interval.limits is None:
            assert interval.missing in line and f"test_{name}_low" not in metric_values
        else:
            assert interval.low <= interval.value <= interval.high
            assert f"{interval.low:.3f} to {interval.high:.3f}" in line and f"test_{name}_high" in metric_values
    for name in {"roc_auc", "balanced_accuracy", "mcc", "brier"}:
        assert metric_values[f"test_{name}"] == pytest.approx(predictions.mean_scores(results)[f"test_{name}"])
    if run.get("n_test") == 2:
        assert scores["sensitivity"].interval.missing == "an outer fold has one group or image of a class"
    if run.get("strength") == 100:
        assert scores["mcc"].interval.missing == "no error among 120 images"
        assert "no slope in 4 of 4 models" in text


def test_patients_of_the_table_widen_the_intervals():
    found, _ = a_run(root_splits=1, inner_splits=1, n_test=120)
    numbers = found["file"].str[:4].astype(int)
    grouped = more_test_scores(found.assign(group="p" + (numbers // 8 * 2 + numbers % 2).astype(str)))
    alone = more_test_scores(found)
    # four images of one class each: few patients, so the limits go further out, though the images are independent
    assert np.ptp(grouped["sensitivity"].interval.limits) > np.ptp(alone["sensitivity"].interval.limits)
    each = more_test_scores(found.assign(group=found["file"]))
    assert as_metrics(each) == as_metrics(alone)
    together = pd.concat([found, found.assign(file=found["file"] + "x")]).assign(group=lambda t: t["file"].str[:4])
    doubled = as_metrics(more_test_scores(together))
    for name, value in as_metrics(alone).items():
        if name != "test_ece":
            assert doubled[name] == pytest.approx(value, abs=1e-6), name
