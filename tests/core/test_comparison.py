"""Runs compared on the same images, by the command and at the end of step 5: words, JSON, plot, and refusals."""

import argparse
import json
import shutil

import pytest
from mlflow.entities import Dataset, DatasetInput
from test_evaluation import a_run

from common.cli import UserError
from common.evaluation import compare_models, statistics
from common.evaluation.compare import main
from common.tracking import Run
from common.tracking.outbox import outbox_of
from common.tracking.store import open_store


@pytest.fixture(scope="module")
def store(empty_stores, tmp_path_factory):
    """Keeps a run, made of a predictions table and the results that follow; returns its id."""
    state = tmp_path_factory.mktemp("state")
    shutil.copy(empty_stores / "mlflow.db", state)
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
    assert "these models, new groups (DeLong, paired, by group):" in models and said in models
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


@pytest.mark.slow
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
    outcomes = [(name, {"run_id": i}) for name, i in (("CNN", a), ("Dense", b), ("CNN", same))]
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
    older = (predictions.drop(columns="digest"), results)
    for other, tables, of, message in [
        (first, moved, {}, r"outer fold 1 of run \w{8} \(drawn\) has 0060.jpg, that of run \w{8} \(drawn\) has not"),
        (first, flipped, {}, r"the class of 0007.jpg is dog in run \w{8} \(drawn\), fox in run \w{8} \(drawn\)"),
        (known, changed, {}, r"the digest of 0130.jpg is d0130.jpg in run \w{8} \(drawn\), another in run"),
        (store(older, "older"), older, {"digest": "d2"}, "same names: fingerprints d1 of run .* d2 of run"),
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
    cut = store((tables[0], tables[1][:-1]), "cut off")
    for runs, message in [
        ([first, failed], f"run {failed}: FAILED root run; expected a FINISHED root run of steps 2 to 5"),
        ([first, cut], f"run {cut}: predictions.csv and results.csv are not of the same folds and images"),
        ([first], f"{first}: expected the ids of two or more runs, each once"),
        ([first, second, first], "expected the ids of two or more runs, each once"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            main(runs)
        assert error.value.exit_code == 2
    with pytest.raises(UserError, match=r"^run none: no such run$"):
        main([first, "none"])
    for rope in ("1", "-0.1", "nan", "much"):
        with pytest.raises(SystemExit) as end:
            main([first, second, f"--rope={rope}"])
        assert end.value.code == 2 and "expected a difference of ROC AUC" in capsys.readouterr().err
