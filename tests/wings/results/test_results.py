"""Runs are listed and shown, deleted for good with nothing else touched, and their folder is tidied."""

import hashlib
import json
import math
import time
from pathlib import Path

import pytest
from kept_results import _put_study, everything, leave_checkpoint, make_run, of_run, predictions, register
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric

from common import results
from common.cli import UserError
from common.evidence import ledger
from common.results.__main__ import main
from common.results.opening import open_trees
from common.state import state_folder
from common.tracking.at_work import kept_from_work

OF_SCANS = json.dumps(["step_5/train.py", "step_5/config.py", "--data", "/data/scans"])


pytestmark = pytest.mark.usefixtures("home")


def refused(words, *argv):
    with pytest.raises(UserError) as error:
        main([*argv])
    assert words in str(error.value) and "\n" not in str(error.value)


def set_tag(run_id, name, value):
    open_trees().client.set_tag(run_id, name, value)


def test_a_list_has_a_line_for_each_root_run_with_its_score_interval_state_and_bytes(capsys):
    first, second = make_run(1, "pets", score=0.8), make_run(2, "scans", network=5000)
    client = MlflowClient(open_trees().uri)
    client.update_run(second, status="KILLED")
    (state_folder() / "ledger.jsonl").write_text(json.dumps({"run": first, "what": "read"}) + "\n")
    table = results.list_runs().set_index("run")
    assert set(table.index) == {first, second}
    assert table.loc[first, ["step", "data", "folds", "fits", "status"]].tolist() == [
        "5",
        "pets",
        "1 x 2",
        2,
        "finished",
    ]
    assert table.loc[first, ["test_roc_auc", "low", "high"]].tolist() == pytest.approx([0.8, 0.7, 0.85])
    assert table.loc[second, "status"] == "interrupted" and table.loc[first, "test_reads"] == 1
    ids, _ = open_trees().below(first)
    files = [path for run_id in ids for path in (state_folder() / "mlruns" / "step_5" / run_id).rglob("*.*")]
    assert table.loc[first, "bytes"] == sum(path.stat().st_size for path in files) > 2 * 2000
    assert results.list_runs(where="test_roc_auc > 0.85 and step = 5")["run"].tolist() == [second]
    assert results.list_runs(data="pets")["run"].tolist() == [first]
    assert results.list_runs(experiment="step_4").empty
    set_tag(second, "interval", "approximate")
    assert results.list_runs(where="interval = approximate")["run"].tolist() == [second]
    main(["list"])
    shown = capsys.readouterr().out
    assert "0.800 (0.700-0.850)" in shown and "0.900 (approximate 0.800-0.950)" in shown
    assert len(shown.splitlines()) == 3
    main(["list", "--json", "--data", "pets"])
    assert json.loads(capsys.readouterr().out)[0]["run"] == first
    main(["list", "--csv"])
    assert capsys.readouterr().out.splitlines()[0].startswith("run,started,step")
    with kept_from_work(second):
        assert results.list_runs().set_index("run").loc[second, "status"] == "running"


def test_a_list_refuses_what_it_cannot_compare():
    make_run(1)
    refused("expected comparisons such as", "list", "--where", "score is good")
    refused("no run has test_roc_auk; did you mean `test_roc_auc`?", "list", "--where", "test_roc_auk > 1")
    refused("--since yesterday: expected a day", "list", "--since", "yesterday")


def test_a_run_is_shown_by_fold_with_its_search_and_the_command_that_makes_it_again(capsys, tmp_path):
    run_id = make_run(1)
    main(["show", run_id[:6], "--plots", str(tmp_path / "plots")])
    said = capsys.readouterr().out
    for words in (run_id, "test ROC AUC 0.900 (95 % interval 0.800 to 0.950)", "2 complete, 1 pruned", "0.750"):
        assert words in said
    assert "python step_5/train.py --fast" in said and f"common.tracking.reproduce {run_id}" in said
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"roc.png", "folds.png"}
    refused("no such root run", "show", "zz")
    for run in open_trees().tree(run_id).runs:
        if run.tags["run_level"] == "root_split":
            set_tag(run.run_id, "root_split", "10")
    _put_study(f"{run_id} root 10", 1)
    said = results.show_run(run_id)
    assert "search root 0: 2 complete, 1 pruned" in said
    assert "search on all images, for the registered model: 1 complete, 1 pruned" in said
    assert "below it: 2 fold, 2 phase, 1 search on all images" in said
    file = Path(open_trees().artifacts(run_id).artifact_dir) / "predictions.csv"
    predictions(0).iloc[:-24].to_csv(file, index=False)
    scores = file.with_name("results.csv")
    scores.write_text(scores.read_text().replace(",40,", ",16,"))
    assert "test ROC AUC 0.900 (approximate 95 % interval 0.800 to 0.950)" in results.show_run(run_id)


def without_metrics(run_id, *names):
    """The run as one that never logged these."""
    with open_trees()._session(write=True) as session:
        for kind in (SqlMetric, SqlLatestMetric):
            session.query(kind).filter(kind.run_uuid == run_id, kind.key.in_(names)).delete()


def test_test_scores_that_a_run_does_not_show_are_not_shown(tmp_path):
    run_id = make_run(1)
    without_metrics(run_id, "test_roc_auc", "test_roc_auc_low", "test_roc_auc_high")
    assert "0.750" not in results.show_run(run_id) and "not shown" in results.show_run(run_id)
    assert list(results.results_by_fold(run_id))[-2:] == ["threshold", "dev_roc_auc"]
    assert results.list_runs()["test_roc_auc"].isna().all()
    with pytest.raises(UserError, match="shows no test scores"):
        results.plot_run(run_id, tmp_path)


def test_a_damaged_table_is_named_in_one_line_and_one_that_is_gone_is_left_out(tmp_path):
    run_id = make_run(1)
    files = Path(open_trees().artifacts(run_id).artifact_dir)
    whole = (files / "results.csv").read_bytes()
    for content, problem in (
        (whole[:-2], "artifact results.csv: ends within a line"),
        (b"a,b\n1,2\n", "artifact results.csv: has no column root_split"),
        (
            whole + whole.splitlines(True)[1].replace(b"0", b"1", 1),
            "predictions.csv and results.csv are not of the same",
        ),
    ):
        (files / "results.csv").write_bytes(content)
        for do in (results.show_run, lambda run_id: results.plot_run(run_id, tmp_path)):
            with pytest.raises(UserError, match=rf"^run {run_id}: {problem}[^\n]*$"):
                do(run_id)
    (files / "results.csv").unlink()
    assert run_id in results.show_run(run_id) and "test ROC AUC" not in results.show_run(run_id)


def test_a_run_of_before_intervals_were_logged_is_listed_and_shown_with_one():
    run_id = make_run(1)
    without_metrics(run_id, "test_roc_auc_low", "test_roc_auc_high")
    row = results.list_runs().iloc[0]
    assert row["test_roc_auc"] == 0.9 and math.isnan(row["low"])
    assert "test ROC AUC 0.900 (95 % interval 0." in results.show_run(run_id)


def test_a_deleted_run_is_gone_for_good_and_nothing_else_is_touched():
    others = [make_run(1), make_run(2, "scans")]
    before = everything()
    run_id = make_run(3, "heads", model=True)
    leave_checkpoint(run_id)
    ids, models = open_trees().below(run_id)
    assert of_run(everything().keys(), [*ids, *models])
    (line,) = results.delete_runs([run_id[:8]])
    assert line == f"deleted: run {run_id}, with 5 runs below it"
    after = everything()
    assert not of_run(after, [*ids, *models]) and before == after
    assert set(results.list_runs()["run"]) == set(others)


def test_what_is_cached_for_data_of_other_runs_stays():
    first, second = make_run(1, "pets"), make_run(2, "pets")
    results.delete_runs([first])
    cached = [path.name for path in (state_folder() / "cache").iterdir() if path.is_file()]
    assert sum(name.startswith(("images-", "audit-")) and name.endswith(".npy") for name in cached) == 2
    results.delete_runs([second])
    assert not list((state_folder() / "cache").glob("*.npy"))


def of_record(run_id):
    lines = [line for line in ledger.ledger_lines() if line["run"] == run_id]
    return [(line["what"], line.get("reason", "")) for line in lines]


def test_a_run_at_work_or_that_somebody_relies_on_is_refused_and_force_is_on_the_record(capsys):
    run_id, other = make_run(1, model=True, command=OF_SCANS), make_run(2)
    before = everything()
    with kept_from_work(run_id):
        refused("a process is working on it", "delete", run_id, "--yes")
    refused("asks before it removes", "delete", run_id)
    ledger.put_on_record(run_id, {}, predictions(0))
    ledger.read_scores(run_id, predictions(0), "a look", lambda other: None)
    refused("its test scores were shown (1 lines of ledger.jsonl: a look)", "delete", other, run_id, "--yes")
    ledger.note("reported", run_id, "/work/report.html")
    refused("/work/report.html names it; --force deletes it", "delete", other, run_id, "--yes")
    assert {name: digest for name, digest in everything().items() if name != "ledger.jsonl"} == before
    register(run_id)
    refused("version 1 of pets is in production", "delete", run_id, "--yes")
    main(["delete", run_id, "--yes", "--force"])
    assert "the ledger keeps its 4 lines, and the last says so" in capsys.readouterr().out
    assert of_record(run_id)[2:] == [
        ("reported", "/work/report.html"),
        ("deleted", "although version 1 of pets is in production"),
    ]
    assert results.list_runs()["run"].tolist() == [other]


def test_a_run_whose_test_nobody_has_seen_or_of_data_for_learning_goes_without_force_and_its_lines_stay():
    unseen, learned = make_run(1, command=OF_SCANS), make_run(2)
    for run_id in (unseen, learned):
        ledger.put_on_record(run_id, {}, predictions(0))
    ledger.read_scores(learned, predictions(0), "--json", lambda other: None)
    results.delete_runs([unseen, learned])
    assert of_record(unseen) == [("predicted", ""), ("deleted", "")]
    assert of_record(learned) == [("predicted", ""), ("read", "--json"), ("deleted", "")]


def test_tidying_shows_first_and_keeps_the_best_network_of_each_outer_fold(capsys):
    run_id = make_run(1, fits=3)
    before = everything()
    refused("asks before it removes", "tidy", "--keep-networks", "best")
    assert capsys.readouterr().out.count("model.safetensors") == 2
    assert everything() == before and len(results.tidy("best")) == 2
    main(["tidy", "--keep-networks", "best", "--yes"])
    assert "removed 2, 4.0 kB" in capsys.readouterr().out
    (kept,) = state_folder().rglob("model.safetensors")
    assert kept.read_bytes()[0] == 1  # of the inner fold whose dev images are ranked best, the first of equals
    main(["tidy", "--keep-networks", "best", "--yes", "--older", "9999w"])
    assert "nothing to tidy" in capsys.readouterr().out
    main(["tidy", "--keep-networks", "none", "--yes"])
    assert not list(state_folder().rglob("model.safetensors")) and results.list_runs()["run"].tolist() == [run_id]


def test_what_runs_that_are_gone_have_left_is_an_orphan_and_goes(monkeypatch):
    make_run(1)
    before = everything()
    gone = make_run(2)
    leave_checkpoint(gone)
    ids, _ = open_trees().below(gone)
    open_trees().remove(ids[::-1], [])
    assert results.tidy()["what"].tolist() == ["orphaned studies"]  # the rest may be of a run that begins
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * 3600)
    found = results.tidy(really=True)
    assert set(found["what"]) == {f"orphaned {kind}" for kind in ("artifacts", "checkpoints", "studies", "summaries")}
    assert everything() == before and results.tidy().empty


def test_what_takes_space_is_told_by_kind_and_adds_up():
    make_run(1, network=50_000, model=True)
    leave_checkpoint(make_run(2, "scans"), 70_000)
    table = results.disk_use().set_index(["what", "of"])
    assert table.loc[("networks of runs", "step_5"), ["count", "bytes"]].tolist() == [4, 104_000]
    assert table.loc[("checkpoints", "step_5"), "bytes"] == 70_000
    assert {("cache", "pets"), ("cache", "scans"), ("logged models", "step_5"), ("databases", "mlflow")} <= {
        *table.index
    }
    total = sum(p.stat().st_size for p in state_folder().rglob("*") if p.is_file() and p.suffix != ".lock")
    assert 0.95 * total < table["bytes"].sum() <= total


@pytest.mark.slow
def test_two_thousand_runs_are_listed_in_two_seconds():
    trees = open_trees()
    run_id = make_run(0)
    tree = trees.tree(run_id)
    experiment = trees.client.get_run(run_id).info.experiment_id
    for number in range(2000):
        new = {run.run_id: hashlib.md5(f"{number} {run.run_id}".encode()).hexdigest() for run in tree.runs}
        trees.add(tree.renamed(new), experiment)
    begin = time.perf_counter()
    assert len(results.list_runs(where="test_roc_auc > 0.5")) == 2001
    assert time.perf_counter() - begin < 2


def test_a_damaged_line_of_the_ledger_and_a_strange_name_do_not_stop_a_list(capsys):
    run_id = make_run(1, **{"step": "step_5", "error": "\x1b[31mred"})
    (state_folder() / "ledger.jsonl").write_text("{\n[]\n")
    main(["list"])
    main(["show", run_id])
    assert "\x1b" not in capsys.readouterr().out
    for tag, text in [
        ("identity", "[1]"),
        ("identity", '{"settings.--root-splits": 3}'),
        ("command", "5"),
        ("command", "{"),
    ]:
        set_tag(run_id, tag, text)
        assert run_id in results.show_run(run_id) and len(results.list_runs()) == 1
