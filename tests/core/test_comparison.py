"""Runs compared on the same images: DeLong's test, the corrected resampled t, and the command that prints both."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
from mlflow.entities import Dataset, DatasetInput
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC
from test_evaluation import a_run

from common.cli import UserError
from common.evaluation import compare_models, statistics, tested
from common.evaluation.compare import main
from common.evaluation.delong import auc_covariance, auc_difference, auc_interval, degrees_of_freedom, t_factor
from common.tracking import Run
from common.tracking.outbox import outbox_of
from common.tracking.store import open_store
from conftest import PROJECT


def fold_of(labels, *models, units=None):
    labels = np.asarray(labels)
    units = np.arange(len(labels)) if units is None else np.asarray(units)
    return tested.Tested(labels, np.array(models, dtype=float), units, np.full(len(models), 0.5))


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


def test_delong_of_the_ratings_of_hanley_and_mcneil():
    ratings = np.tile(np.arange(1, 6), 2).repeat([33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    labels = np.repeat([0, 1], [58, 51])
    (auc,), ((variance,),) = auc_covariance([[fold_of(labels, ratings / 5)]])
    assert (auc, np.sqrt(variance)) == pytest.approx((0.89317, 0.03072), abs=5e-6)


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
    assert auc_difference(one, one).missing == "an outer fold has one patient of a class"


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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Keeps a run, made of a predictions table and the results that follow; returns its id."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri, experiment_id = open_store("step_3")

        def keep(tables, name, status="FINISHED", data="drawn", digest="d1"):
            run = Run(uri, experiment_id, "")
            tags = {"run_level": "root", "step": "step_3"}
            run.run_id = run.client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
            of = Dataset(data, digest, "local", "{}")
            run.client.log_inputs(run.run_id, datasets=[DatasetInput(of, [])])
            for table, artifact in zip(tables, ("predictions.csv", "results.csv"), strict=True):
                run.table(table, artifact)
            outbox_of(uri).drain()
            run.client.set_terminated(run.run_id, status)
            return run.run_id

        keep.state = state
        yield keep


def in_groups(tables, size=3):
    predictions, results = tables
    return predictions.assign(group=["g" + str(int(file[:4]) // size) for file in predictions["file"]]), results


@pytest.fixture(scope="module")
def six(store):
    """Ids of runs of six outer folds, the second better than the first, and the tables of the first."""
    tables = [in_groups(a_run(root_splits=6, strength=strength)) for strength in (1.0, 1.5)]
    return [store(of_run, f"drawn seed {i}") for i, of_run in enumerate(tables)], tables


def test_the_command_answers_both_questions_in_words_and_as_json_and_draws_them(six, store, capsys):
    ids, tables = six
    found = main([*ids, "--rope", "0.01", "--json"])
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == json.loads(json.dumps(found)) and found["outer_folds"] == [0, 1, 2, 3, 4, 5]
    assert lines[0] == "test ROC AUC of 2 runs on the same 360 test images in 120 groups, 6 outer folds"
    a, b = (results.groupby("root_split")["test_roc_auc"].mean() for _, results in tables)
    sizes = tables[0][1]["n_train"][0] + 60, 60
    (pair,) = found["pairs"]
    assert pair["procedures"]["p"] == pytest.approx(statistics.corrected_resampled_ttest(a, b, *sizes)[1])
    interval = statistics.corrected_resampled_interval(a - b, *sizes, bounds=(-1, 1))
    assert [pair["procedures"]["difference"], *pair["procedures"]["ci"]] == pytest.approx(interval)
    assert pair["equivalence"] == pytest.approx(statistics.bayesian_correlated_ttest(a, b, *sizes, 0.01))
    assert pair["models"]["difference"] == pytest.approx((a - b).mean()) and pair["models"]["p"] < 0.001
    assert [run["test_roc_auc"] for run in found["runs"]] == pytest.approx([a.mean(), b.mean()])

    text, title = "\n".join(lines), f"{ids[0][:8]} - {ids[1][:8]}"
    models, procedures = text.split("the procedures, retrained")
    low, high = pair["models"]["ci"]
    said = f"{title}  {(a - b).mean():+.3f} (95 % interval {low:+.3f} to {high:+.3f}), p < 0.001"
    assert "these models, new patients (DeLong, paired, by group):" in models and said in models
    assert "p = 0.000" not in text and "Holm" not in text and "procedure" not in models
    assert f"{ids[1][:8]} better {pair['equivalence'][2]:.3f}" in procedures and "models" not in procedures
    plot = store.state / "outputs" / f"compare-{ids[0][:8]}-{ids[1][:8]}.png"
    assert lines[-1] == f"plot: {plot}" and plot.read_bytes().startswith(b"\x89PNG")


def test_runs_are_compared_on_the_outer_folds_that_all_have_whose_groups_one_of_them_knows(six, store, capsys):
    (first, _), _ = six
    few = store(a_run(root_splits=3, inner_splits=3), "of an older version")  # without groups
    found = main([few, first])
    said = capsys.readouterr().out
    assert found["outer_folds"] == [0, 1, 2]
    assert "the same 180 test images in 60 groups, 3 outer folds that all of them have\n" in said
    assert "3 outer folds: --root-splits 5 or more says how much the procedures vary" in said
    assert found["pairs"][0]["procedures"] is None and found["pairs"][0]["models"]["p"] > 0


def test_three_classes_are_compared_by_the_mean_of_each_against_all_others(store, capsys):
    tables = [a_run(("cat", "dog", "fox"), root_splits=5, strength=strength) for strength in (1.0, 1.2)]
    found = main([store(of_run, f"drawn seed {i}") for i, of_run in enumerate(tables)])
    a, b = (results.groupby("root_split")["test_roc_auc"].mean() for _, results in tables)
    (pair,) = found["pairs"]
    for question in ("models", "procedures"):
        assert pair[question]["difference"] == pytest.approx((a - b).mean()) and 0 < pair[question]["p"] < 0.05
    assert "mean over the classes, each against all others (macro, one-vs-rest)\n" in capsys.readouterr().out


def test_models_of_a_config_are_compared_as_runs_are(six, store, capsys):
    (a, b), (tables, _) = six
    same = store(tables, "the first again")
    outcomes = [(name, {"run_id": i}, None) for name, i in (("CNN", a), ("Dense", b), ("CNN", same))]
    compare_models(argparse.Namespace(json=True), outcomes[:1])
    assert capsys.readouterr().out == ""
    compare_models(argparse.Namespace(json=True), outcomes)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == json.dumps({"run_id": same})
    assert "  CNN 1 - CNN 2  +0.000 (no interval and no p: both rank the images alike)" in lines
    assert "  CNN 1 - CNN 2  +0.000 (no interval and no p: every outer fold differs by the same)" in lines
    assert "p values are adjusted for 3 pairs (Holm), intervals are not" in lines
    (alone,), adjusted = main([a, b])["pairs"], main([a, b, same])["pairs"]
    for question in ("models", "procedures"):  # two of the three have a p, and it is the same
        p = alone[question]["p"]
        assert [pair[question]["p"] for pair in adjusted] == [pytest.approx(2 * p), None, pytest.approx(2 * p)]


def test_runs_that_tested_other_images_are_refused_with_one_line(six, store):
    (first, _), (tables, _) = six
    predictions, results = tables
    later = predictions["root_split"] == 1

    def with_column(column, values):
        return predictions.assign(**{column: values}), results

    moved = with_column("file", predictions["file"].mask(later & (predictions["file"] == "0060.jpg"), "0999.jpg"))
    flipped = with_column("class", predictions["class"].mask(predictions["file"] == "0007.jpg", "fox"))
    digests = with_column("digest", "d" + predictions["file"])
    changed = with_column("digest", digests[0]["digest"].mask(predictions["file"] == "0130.jpg", "another"))
    alone = predictions["root_split"] == 2
    known = store(digests, "with digests")
    for other, tables, of, message in [
        (first, moved, {}, r"outer fold 1 of run \w{8} \(drawn\) has 0060.jpg, that of run \w{8} \(drawn\) has not"),
        (first, flipped, {}, r"the class of 0007.jpg is dog in run \w{8} \(drawn\), fox in run \w{8} \(drawn\)"),
        (known, changed, {}, r"the digest of 0130.jpg is d0130.jpg in run \w{8} \(drawn\), another in run"),
        (first, (predictions, results), {"digest": "d2"}, "same names: fingerprints d1 of run .* d2 of run"),
    ]:
        refused = store(tables, "other images", **of)
        with pytest.raises(UserError, match=f"^the runs were tested on different images.* {message}") as error:
            main([other, refused])
        assert error.value.exit_code == 2 and "\n" not in str(error.value)
    part = [store((predictions[rows], results[results["root_split"] == k]), "") for rows, k in ((alone, 2), (later, 1))]
    with pytest.raises(UserError, match=r"no outer fold was tested by all of these runs: .* has \[2\]; .* has \[1\]"):
        main(part)
    main([known, store(with_column("digest", digests[0]["digest"]), "grown data", digest="d2")])


def test_what_is_no_finished_run_is_refused_with_one_line(six, store, capsys):
    (first, second), (tables, _) = six
    failed = store(tables, "failed", "FAILED")
    for runs, message in [
        ([first, failed], f"run {failed}: FAILED root run; expected a FINISHED root run of steps 2 to 5"),
        ([first], f"{first}: expected the ids of two or more runs, each once"),
        ([first, second, first], "expected the ids of two or more runs, each once"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            main(runs)
        assert error.value.exit_code == 2
    command = [sys.executable, "-m", "common.evaluation.compare", first, "none"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: run none: no such run\n")
    for rope in ("1", "-0.1", "nan", "much"):
        with pytest.raises(SystemExit) as end:
            main([first, second, f"--rope={rope}"])
        assert end.value.code == 2 and "expected a difference of ROC AUC" in capsys.readouterr().err
