"""From predictions to results: whose rows they are, what follows from them, and the line of JSON at the end."""

import io
import json
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
)
from test_evaluation import some_models

from common.cli import PROJECT, UserError
from common.data.csv_tables import NEEDED, check_same_folds, read_table
from common.data.folding import Fold
from common.data.images import ImageTable
from common.evaluation.analysis import more_test_scores
from common.evaluation.ending import conclude
from common.evaluation.predictions import (
    RESULT_COLUMNS,
    classes_of,
    ensemble_scores,
    join,
    mean_scores,
    predictions_table,
    probabilities_of,
    results_of,
)
from common.evaluation.tested import units_of
from common.search.studies import storage_url

N = 24
LABELS = np.arange(N) % 2
FILES, DIGESTS = (tuple(f"{i:02d}{end}" for i in range(N)) for end in (".jpg", "abc"))
TABLE = ImageTable("t", Path(), FILES, LABELS, ("dog", "cat"), None, DIGESTS)
ADDED = ["group", "digest", "outer_fold"]
COLUMNS = [
    *("root_split", "inner_split", "n_train", "n_dev", "n_test", "threshold", "dev_roc_auc"),
    *("test_roc_auc", "test_balanced_accuracy", "test_mcc", "test_brier"),
    *("dev_mcc", "test_sensitivity", "test_specificity", "test_pr_auc"),
    *("test_calibration_slope", "test_calibration_intercept", "test_ece"),
    *("root_splits", "optimism"),
]


def make_fold(root, inner):
    order = np.random.default_rng([root, inner]).permutation(
        np.setdiff1d(np.arange(N), test := np.arange(8) + 8 * root)
    )
    return Fold(root, inner, order[: 9 + inner], order[9 + inner :], test)


FOLDS = [make_fold(root, inner) for root in (0, 1) for inner in (0, 1)]


def predict(fold, threshold=None):
    rng = np.random.default_rng([7, fold.root_split, fold.inner_split])
    dev, test = (np.clip(LABELS[rows] * 0.3 + rng.random(len(rows)) * 0.7, 0, 1) for rows in (fold.dev, fold.test))
    threshold = 0.4 + fold.inner_split / 7 if threshold is None else threshold
    return predictions_table(TABLE, fold, dev, test, threshold)


@pytest.fixture
def predictions():
    return join(predict(fold) for fold in reversed(FOLDS))


@pytest.mark.parametrize("threshold", [0.4, np.nan])
def test_a_predictions_table_is_read_as_it_was_written_whatever_files_classes_and_groups_are_called(threshold):
    odd = ("050", "None", "NA", "01", "1", "", "nan", "1e5")
    groups = np.array([odd[i % len(odd)] for i in range(N)])
    table = replace(TABLE, files=tuple(f"{i:03d}" for i in range(N)), classes=("01", "None"), groups=groups)
    written = predictions_table(table, FOLDS[0], np.linspace(0, 1, len(FOLDS[0].dev)), np.linspace(1, 0, 8), threshold)
    read = read_table(written.to_csv(index=False).encode())
    pd.testing.assert_frame_equal(read, written, check_exact=True)
    assert units_of(read).nunique() > 1 and classes_of(read) == ["01", "None"]


DAMAGED = {
    "empty": ("predictions.csv", lambda content: b"", r"is no table in CSV and UTF-8 \(EmptyDataError\)"),
    "binary": ("predictions.csv", lambda content: b"\x89PNG\xff", "is no table in CSV and UTF-8"),
    "another table": ("predictions.csv", lambda content: b"a,b\n1,2\n", "has no column root_split"),
    "no probabilities": ("predictions.csv", lambda content: content.replace(b"prob", b"p", 1), "no column probability"),
    "header alone": ("predictions.csv", lambda content: content[: content.index(b"\n") + 1], "has no rows"),
    "ends early": ("predictions.csv", lambda content: content[:-9], "ends within a line"),
    "wide": ("predictions.csv", lambda content: content.replace(b",0\n", b",0,1,2\n"), "more fields in a line"),
    "a text": ("predictions.csv", lambda content: content.replace(b"0.4,", b"x,"), "threshold has a value that is no"),
    "a part": ("predictions.csv", lambda content: content.replace(b",dev,", b",val,"), "part has 'val', which is"),
    "fewer rows": (
        "predictions.csv",
        lambda content: b"".join(content.splitlines(True)[:-3]),
        "rows of inner fold 1 of outer fold 1 are missing",
    ),
    "results": ("results.csv", lambda content: content.replace(b"n_dev", b"n"), "has no column n_dev"),
    "a half": ("results.csv", lambda content: content.replace(b",8,", b",8.5,"), "n_test has a value that is no whole"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_table_is_refused_with_one_line_that_names_it(damage, predictions, tmp_path):
    name, change, problem = DAMAGED[damage]
    table = predictions if name == "predictions.csv" else results_of(predictions, FOLDS)
    content = table.to_csv(index=False).encode()
    path = tmp_path / name
    path.write_bytes(content)
    pd.testing.assert_frame_equal(read_table(path), table.reset_index(drop=True), check_exact=True)
    path.write_bytes(change(content))
    with pytest.raises(UserError, match=rf"^{path}: [^\n]*{problem}[^\n]*$"):
        read_table(path)


def test_results_are_of_the_folds_and_images_of_their_predictions(predictions):
    results = results_of(predictions, FOLDS)
    assert NEEDED["results.csv"] == tuple(RESULT_COLUMNS)[:11]
    check_same_folds(predictions, results, "run a")
    for tables in (
        (predictions, results[:-1]),
        (predictions[:-3], results),
        (predictions[predictions.part == "test"], results),
    ):
        with pytest.raises(UserError, match=r"^run a: predictions\.csv and results\.csv are not of the same folds"):
            check_same_folds(*tables, "run a")


def test_without_a_dev_set_all_is_scored_but_what_thresholds_from_it_would_have(predictions):
    scores, of_test = (more_test_scores(table) for table in (predictions, predictions[predictions["part"] == "test"]))
    assert of_test == {name: score for name, score in scores.items() if "_at_" not in name} != scores


def test_a_predictions_table_has_the_dev_set_and_then_the_test_set():
    fold = FOLDS[3]
    dev, test = np.linspace(0, 1, len(fold.dev)), np.linspace(1, 0, 8)
    table = predictions_table(TABLE, fold, dev, test, float(test[3]))
    rows = [*fold.dev, *fold.test]
    columns = ["root_split", "inner_split", "part", "file", "class", "label", "probability", "threshold", "prediction"]
    assert list(table.columns) == [*columns, *ADDED]
    assert table.part.tolist() == ["dev"] * len(dev) + ["test"] * 8
    assert table.file.tolist() == [TABLE.files[row] for row in rows]
    assert table.label.tolist() == LABELS[rows].tolist()
    assert table["class"].tolist() == [("dog", "cat")[label] for label in LABELS[rows]]
    assert table.probability.tolist() == [*dev, *test]
    assert table.prediction.tolist()[-8:] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert set(table.root_split) == set(table.outer_fold) == {1} and set(table.inner_split) == {1}
    assert classes_of(table) == ["dog", "cat"]
    assert table.digest.tolist() == [DIGESTS[row] for row in rows] and set(table.group) == {""}
    patients = replace(TABLE, groups=np.array([f"patient\n{row // 2:03d}" for row in range(N)]))
    found = predictions_table(patients, fold, dev, test, 0.5).group
    assert found.tolist() == [rf"patient\n{row // 2:03d}" for row in rows]


def test_tables_of_earlier_runs_without_the_last_columns_give_the_same_results(predictions):
    earlier = predictions.drop(columns=ADDED)
    pd.testing.assert_frame_equal(results_of(earlier, FOLDS), results_of(predictions, FOLDS))
    assert ensemble_scores(earlier) == ensemble_scores(predictions)
    assert (classes_of(earlier), more_test_scores(earlier)) == (classes_of(predictions), more_test_scores(predictions))
    pd.testing.assert_frame_equal(join([earlier, predictions])[[*earlier]], join([earlier, earlier]))


def test_results_have_a_row_per_fold_in_order_with_the_scores_of_its_test_set(predictions):
    in_order = pd.concat([predict(fold) for fold in FOLDS], ignore_index=True)
    pd.testing.assert_frame_equal(predictions.reset_index(drop=True), in_order)
    results = results_of(predictions.sample(frac=1, random_state=0), FOLDS)
    assert list(results.columns) == COLUMNS
    assert list(zip(results.root_split, results.inner_split, strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert results[["n_train", "n_dev", "n_test"]].to_numpy().tolist() == [[9, 7, 8], [10, 6, 8]] * 2
    for row, fold in zip(results.itertuples(), FOLDS, strict=True):
        own = predict(fold)
        dev, test = own[own.part == "dev"], own[own.part == "test"]
        assert row.threshold == own.threshold[0]
        assert row.dev_roc_auc == pytest.approx(roc_auc_score(dev.label, dev.probability))
        assert row.test_roc_auc == pytest.approx(roc_auc_score(test.label, test.probability))
        assert row.test_balanced_accuracy == pytest.approx(balanced_accuracy_score(test.label, test.prediction))
        assert row.test_mcc == pytest.approx(matthews_corrcoef(test.label, test.prediction))
        assert row.test_brier == pytest.approx(brier_score_loss(test.label, test.probability))
        assert (row.root_splits, row.optimism) == (1, row.dev_roc_auc - row.test_roc_auc)
        assert row.dev_mcc == pytest.approx(matthews_corrcoef(dev.label, dev.prediction))
        assert row.test_sensitivity == pytest.approx(recall_score(test.label, test.prediction))
        assert row.test_specificity == pytest.approx(recall_score(test.label, test.prediction, pos_label=0))
        assert row.test_pr_auc == pytest.approx(average_precision_score(test.label, test.probability))
    assert len(set(results.test_brier)) == 4


def test_results_are_written_as_their_repr_and_read_back_as_they_were(predictions):
    results = results_of(predictions, FOLDS)
    text = results.to_csv(index=False)
    cells = [line.split(",") for line in text.splitlines()[1:]]
    assert cells == [list(map(repr, row)) for row in zip(*(results[c].tolist() for c in results), strict=True)]
    assert [row[:5] for row in cells] == [[str(v) for v in row] for row in results.iloc[:, :5].to_numpy().tolist()]
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), results, check_exact=True)


def test_the_ensemble_is_the_mean_prediction_at_the_mean_threshold(predictions):
    scores = []
    for root in (0, 1):
        models = [predict(fold) for fold in FOLDS if fold.root_split == root]
        tests = [model[model.part == "test"] for model in models]
        labels = tests[0].label.to_numpy()
        probability = (tests[0].probability.to_numpy() + tests[1].probability.to_numpy()) / 2
        predicted = probability >= (models[0].threshold[0] + models[1].threshold[0]) / 2
        scores.append(
            {
                "ensemble_test_roc_auc": roc_auc_score(labels, probability),
                "ensemble_test_balanced_accuracy": balanced_accuracy_score(labels, predicted),
                "ensemble_test_mcc": matthews_corrcoef(labels, predicted),
                "ensemble_test_brier": brier_score_loss(labels, probability),
            }
        )
    expected = {name: (scores[0][name] + scores[1][name]) / 2 for name in scores[0]}
    assert ensemble_scores(predictions) == pytest.approx(expected)
    assert scores[0] != scores[1]
    shuffled = predictions.sample(frac=1, random_state=0)
    assert ensemble_scores(shuffled) == pytest.approx(expected)
    one = predict(FOLDS[0])
    alone = results_of(one, FOLDS).iloc[0]
    assert ensemble_scores(one) == pytest.approx({f"ensemble_{c}": alone[c] for c in COLUMNS[7:11]})


def test_mean_scores_weigh_outer_folds_the_same():
    results = results_of(join(predict(fold) for fold in FOLDS[:3]), FOLDS)
    means = mean_scores(results)
    assert list(means) == [name for name in COLUMNS[6:] if name != "root_splits"]
    auc = results.test_roc_auc
    assert means["test_roc_auc"] == pytest.approx(((auc[0] + auc[1]) / 2 + auc[2]) / 2)
    results.loc[1, "test_calibration_slope"] = np.nan  # its model separates the classes
    assert list(mean_scores(results)) == [name for name in means if name != "test_calibration_slope"]
    assert mean_scores(results[COLUMNS[:11]]) == {name: means[name] for name in COLUMNS[6:11]}  # of an older run


def test_a_predictions_table_of_many_classes_has_their_probabilities_and_no_threshold():
    folds, table = some_models("abc")
    columns = ["root_split", "inner_split", "part", "file", "class", "label"]
    columns += ["probability_a", "probability_b", "probability_c", "threshold", "prediction", *ADDED]
    assert list(table) == columns
    assert classes_of(table) == classes_of(table[table.label == 1]) == ["a", "b", "c"]
    assert table["class"].tolist() == ["abc"[label] for label in table.label]
    assert table.prediction.tolist() == probabilities_of(table).argmax(axis=1).tolist()
    assert table.threshold.isna().all() and table.threshold.dtype == float
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    pd.testing.assert_frame_equal(results_of(read, folds), results_of(table, folds), check_exact=True)


def test_results_of_many_classes_have_the_columns_of_two_and_scikit_learns_scores():
    folds, table = some_models("abc")
    results = results_of(table, folds)
    assert list(results) == COLUMNS and results.threshold.isna().all()
    for row in results.itertuples():
        own = table[(table.root_split == row.root_split) & (table.inner_split == row.inner_split)]
        dev, test = own[own.part == "dev"], own[own.part == "test"]
        assert (row.n_train, row.n_dev, row.n_test) == (60, 60, 60)
        assert row.dev_roc_auc == pytest.approx(roc_auc_score(dev.label, probabilities_of(dev), multi_class="ovr"))
        assert row.test_roc_auc == pytest.approx(roc_auc_score(test.label, probabilities_of(test), multi_class="ovr"))
        assert row.test_balanced_accuracy == pytest.approx(balanced_accuracy_score(test.label, test.prediction))
        assert row.test_mcc == pytest.approx(matthews_corrcoef(test.label, test.prediction))
        squares = (probabilities_of(test) - np.eye(3)[test.label]) ** 2
        assert row.test_brier == pytest.approx(squares.sum(axis=1).mean())
    lacking = table[(table.label != 1) | (table.part == "dev")]
    with pytest.raises(ValueError, match=r"all 3 classes, found none of \[1\]"):
        results_of(lacking, folds)


def test_the_ensemble_of_many_classes_is_the_mean_of_their_probabilities():
    _, table = some_models("abc")
    aucs, accuracies = [], []
    for root in (0, 1):
        tests = [table[(table.part == "test") & (table.root_split == root) & (table.inner_split == i)] for i in (0, 1)]
        mean = (probabilities_of(tests[0]) + probabilities_of(tests[1])) / 2
        aucs.append(roc_auc_score(tests[0].label, mean, multi_class="ovr"))
        accuracies.append(balanced_accuracy_score(tests[0].label, mean.argmax(axis=1)))
    scores = ensemble_scores(table.sample(frac=1, random_state=0))
    assert scores["ensemble_test_roc_auc"] == pytest.approx(np.mean(aucs))
    assert scores["ensemble_test_balanced_accuracy"] == pytest.approx(np.mean(accuracies))


KEYS = ["step", "run_id", "seconds", "fits", "test_roc_auc", "ci", "resumed"]


def end(capsys, folds, as_json=True, register=None, **options):
    predictions = join(predict(fold) for fold in folds)
    results = results_of(predictions, folds)
    outcome = conclude(
        3,
        Namespace(json=as_json, independent=False, register=register),
        predictions,
        results,
        time.perf_counter() - 5,
        **options,
    )
    return outcome, results, capsys.readouterr().out.splitlines()


def test_the_last_line_of_a_run_is_its_outcome_as_json(capsys):
    run = Namespace(
        run_id="abc",
        resumed=True,
        recorded=None,
        uri="sqlite:///mlflow.db",
        page="http://127.0.0.1:5000/#/experiments/1/runs",
    )
    studies = [optuna.create_study() for _ in range(2)]
    for study in studies:
        study.add_trials([optuna.create_trial(value=0.5, intermediate_values={0: 0.5, 1: 0.5}) for _ in range(3)])
    outcome, results, lines = end(capsys, FOLDS, run=run, studies=studies, chosen=[{"rate": 0.125}, {"rate": 0.25}])
    assert list(outcome) == KEYS
    assert json.loads(lines[-1]) == outcome
    assert (outcome["step"], outcome["run_id"], outcome["fits"], outcome["resumed"]) == (3, "abc", 12, True)
    assert outcome["test_roc_auc"] == mean_scores(results)["test_roc_auc"]
    assert 0 <= outcome["ci"][0] <= outcome["test_roc_auc"] <= outcome["ci"][1] <= 1
    assert outcome["seconds"] >= 5
    text = "\n".join(lines)
    ensemble = ensemble_scores(join(predict(fold) for fold in FOLDS))["ensemble_test_roc_auc"]
    for part in (
        "3 trials: random search (TPE begins with trial 11",
        "run abc",
        "step_3/analyze_predictions.py",
        "12 fits",
        "rate 0.125",
        "rate 0.25",
        f"{ensemble:.3f}",
    ):
        assert part in text


def test_the_last_line_counts_the_fits_of_the_search_for_the_registered_model_too(capsys, home):
    run = Namespace(run_id="abc", resumed=False, recorded=None, uri="sqlite:///mlflow.db", page="")
    studies = [optuna.create_study(study_name=f"abc root {root}", storage=storage_url()) for root in (0, 1, 10)]
    for study in studies:
        study.add_trial(optuna.create_trial(value=0.5, intermediate_values={0: 0.5, 1: 0.5}))
    outcome, _, lines = end(capsys, FOLDS, run=run, studies=studies[:2], register="cats")
    assert outcome["fits"] == 6 and "6 fits" in "\n".join(lines)
    assert end(capsys, FOLDS, run=run, studies=studies[:2])[0]["fits"] == 4


def test_a_run_names_the_analysis_beside_its_own_script(capsys, monkeypatch, tmp_path):
    folder = tmp_path / "my step"
    folder.mkdir()
    (folder / "analyze_predictions.py").touch()
    for script, named in (
        (folder / "train.py", f"'{folder}/analyze_predictions.py'"),
        (PROJECT / "step_2" / "train.py", "step_2/analyze_predictions.py"),
        (tmp_path / "pytest", "step_3/analyze_predictions.py"),
    ):
        monkeypatch.setattr("sys.argv", [str(script)])
        assert f"plots:      bash run_script.bash python {named}" in end(capsys, FOLDS)[2]


def test_a_run_of_many_classes_ends_in_strict_json_and_without_a_threshold(capsys):
    folds, table = some_models("abc")
    outcome = conclude(3, Namespace(json=True, independent=True), table, results_of(table, folds), time.perf_counter())
    text = capsys.readouterr().out
    assert json.loads(text.splitlines()[-1], parse_constant=pytest.fail) == outcome
    assert "macro, one-vs-rest" in text and "threshold" not in text and "nan" not in text.lower()


def test_without_json_a_run_ends_in_words_and_says_what_it_takes_for_granted(capsys):
    outcome, _, lines = end(capsys, FOLDS[:1], as_json=False)
    assert list(outcome) == KEYS
    assert (outcome["run_id"], outcome["fits"]) == (None, 1)
    assert sum("each image is taken to be independent" in line for line in lines) == 1
    assert "8 of 24 images tested" in lines
    assert not any(line.startswith("{") for line in lines)
    text = "\n".join(lines)
    assert "1 fit in" in text and "step_3/outputs/predictions.csv" in text and "mean prediction" not in text
