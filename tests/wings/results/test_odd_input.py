"""Odd input, odd stores: forged archives, other stores, models deleted elsewhere, ids cut short, files in the way."""

import dataclasses
import hashlib
import io
import json
import re
import shutil
import zipfile
from datetime import UTC, datetime

import pytest
from kept_results import START, everything, leave_checkpoint, make_run, register
from mlflow import MlflowClient
from serving import free_port

from common import results, tracking
from common.cli import UserError, confirmed
from common.results import archive, space
from common.results.__main__ import main
from common.results.opening import open_trees, trees_at
from common.search.kept import study_names
from common.state import state_folder
from common.tracking import reproduce
from common.tracking.at_work import kept_from_work
from common.tracking.store import open_tracking
from common.tracking.upkeep import store_uri

pytestmark = pytest.mark.usefixtures("home")


def refused(words, *argv):
    with pytest.raises(UserError) as error:
        main([*map(str, argv)])
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_parameter_and_a_time_with_a_zone_choose_runs_and_json_has_all_digits(capsys):
    run_id = make_run(1, score=1 / 3)
    assert results.list_runs(where="learning_rate < 0.2 and test_roc_auc < 1")["run"].tolist() == [run_id]
    assert results.list_runs(where="learning_rate > 0.2").empty
    for wrong in ("test_roc_auc >> 0.9", "test_roc_auc > 0,9", "test_roc_auc"):
        refused("--where", "list", "--where", wrong)
    for seconds, found in ((-1, [run_id]), (1, [])):
        moment = datetime.fromtimestamp(START / 1000 + seconds, UTC).isoformat()
        assert results.list_runs(since=moment)["run"].tolist() == found
    main(["list", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["test_roc_auc"] == pytest.approx(1 / 3, abs=1e-15)


def forged(path, name, change):
    """The archive with one part changed, and the digests that fit it: not damaged, but not as export writes it."""
    with zipfile.ZipFile(path) as file:
        parts = {each: file.read(each) for each in file.namelist()}
    manifest = json.loads(parts.pop("manifest.json"))
    if name == "manifest.json":
        change(manifest)
    else:
        old = next(each for each in parts if each.endswith(name))
        content, new = change(parts.pop(old), old)
        parts[new] = content
        del manifest["members"][old]
        manifest["members"][new] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with zipfile.ZipFile(path, "w") as file:
        for each, content in {"manifest.json": json.dumps(manifest), **parts}.items():
            file.writestr(archive._info(each), content)


def other_experiment(content, name):
    return json.dumps(json.loads(content) | {"experiment": "../../out"}).encode(), name


def other_child(content, name):
    root, child, *rest = map(json.loads, content.splitlines())
    lines = [root, child | {"run_id": "../../../out"}, *rest]
    return b"\n".join(json.dumps(line).encode() for line in lines), name


def same_child(content, name):
    return content + b"\n" + content.splitlines()[-1], name


def other_study(content, name):
    return json.dumps([study | {"name": "of somebody else"} for study in json.loads(content)]).encode(), name


FORGED = {
    "an experiment outside": ("tree.json", other_experiment, "expected a folder's name"),
    "a run outside": ("runs.jsonl", other_child, "'../../../out' is no name of its kind"),
    "a study of another run": ("studies.json", other_study, "'of somebody else' is no name of its kind"),
    "splits that are none": (
        "notes.txt",
        lambda content, name: (content, re.sub("/artifacts/.*", "/splits/a/b.json", name)),
        "'splits/a/b.json' is no name of its kind",
    ),
    "no list of runs": ("manifest.json", lambda manifest: manifest.pop("runs"), "names no runs"),
    "a run twice": ("runs.jsonl", same_child, "is there twice"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_an_archive_whose_names_lead_elsewhere_is_refused_and_nothing_is_written(kind, new_home, tmp_path):
    path = results.export_runs([make_run(1)], tmp_path / "results.zip")
    *where, words = FORGED[kind]
    forged(path, *where)
    new_home(tmp_path / "second")
    before = everything()
    refused(f"{path}: ", "import", path)
    refused(words, "import", path)
    assert everything() == before and not (tmp_path / "out").exists()


def put(value, *keys):
    """A change of one field of a member: `value` in place of what `keys` lead to, or without it."""

    def change(content, name):
        lines = name.endswith(".jsonl")
        found = top = [json.loads(line) for line in content.splitlines()] if lines else json.loads(content)
        if not keys:
            return json.dumps(value).encode(), name
        for key in keys[:-1]:
            found = found[key]
        found.pop(keys[-1]) if value is put else found.__setitem__(keys[-1], value)
        return "\n".join(map(json.dumps, top)).encode() if lines else json.dumps(top).encode(), name

    return change


FIELDS = [
    ("runs.jsonl", (0, "start"), "x", "[0].start: expected a valid integer, found 'x'"),
    ("runs.jsonl", (0, "start"), 10**18, "[0].start: expected less than or equal to 140737488355328, found 1000"),
    ("runs.jsonl", (0, "status"), "BANANA", "[0].status: expected 'RUNNING', "),
    ("runs.jsonl", (0, "metrics"), put, "[0].metrics: expected this field"),
    ("runs.jsonl", (0, "note"), 1, "[0].note: expected no such field"),
    ("runs.jsonl", (0, "tags", "a.0\n"), 1, "[0].tags.a.0"),
    ("runs.jsonl", (1, "tags"), [], "[1].tags: expected an object, found []"),
    ("runs.jsonl", (1, "params"), None, "[1].params: expected an object, found None"),
    ("runs.jsonl", (0, "tags", "step"), 4, "[0].tags.step: expected a valid string, found 4"),
    ("runs.jsonl", (0, "tags", "step"), "\ud800", "Invalid JSON: unexpected end of hex escape"),
    ("runs.jsonl", (0, "metrics"), [[1]], "[0].metrics[0][0]: expected a valid string, found 1"),
    ("runs.jsonl", (0, "metrics", 0, 1), True, "[0].metrics[0][1]: expected a valid number, found True"),
    ("runs.jsonl", (0, "inputs"), [{}], "[0].inputs[0].name: expected this field"),
    ("tree.json", ("models", 0, "status"), "X", "models[0].status: expected 'UNSPECIFIED', "),
    ("tree.json", (), [1], "tree.json: expected an object, found [1]"),
    ("versions.json", (), {"a": 1}, "versions.json: expected a valid array, found {'a': 1}"),
    ("versions.json", (), [1], "[0]: expected an object, found 1"),
    ("versions.json", (0, "name"), put, "[0].name: expected this field"),
    ("versions.json", (0, "name"), "a/b:c", "Invalid model name 'a/b:c'"),
    ("versions.json", (0, "aliases"), ["v1"], "'v1' is reserved"),
    ("studies.json", (0, "note"), 1, "[0].note: expected no such field"),
    ("studies.json", (0, "direction"), "up", "[0].direction: expected 'minimize' or 'maximize', found 'up'"),
    ("studies.json", (0, "trials", 0, "state"), "X", "[0].trials[0].state: expected 'RUNNING', "),
    ("studies.json", (0, "trials", 0, "values"), [1, 2], "[0].trials[0].values: Tuple should have at most 1 item"),
    (
        "studies.json",
        (0, "trials", 0, "reported"),
        [["a"]],
        "[0].trials[0].reported[0][0]: expected a valid integer, found 'a'",
    ),
    ("studies.json", (0, "trials", 0, "reported"), [[10**20, 0.1]], "[0].trials[0].reported[0][0]: expected less than"),
    ("studies.json", (0, "trials", 1, "distributions", "rate"), "zzz", "root 0: trial 1: Expecting value"),
    ("studies.json", (0, "trials", 1, "params"), {}, "root 0: trial 1: Inconsistent parameters"),
    ("studies.json", (0, "trials", 1, "times"), ["a", "b"], "root 0: trial 1: Invalid isoformat string: 'a'"),
]


def test_an_archive_with_a_field_of_another_kind_is_refused_by_its_name_and_nothing_is_written(new_home, tmp_path):
    register(run_id := make_run(1, model=True))
    good = results.export_runs([run_id], tmp_path / "good.zip")
    new_home(tmp_path / "second")
    before, path = everything(), tmp_path / "results.zip"
    for member, keys, value, words in FIELDS:
        shutil.copy(good, path)
        forged(path, member, put(value, *keys))
        with pytest.raises(UserError) as error:
            results.import_results(path)
        said = str(error.value)
        assert said.startswith(f"{path}: {run_id}/{member}: ") and words in said and "\n" not in said
        assert everything() == before


def test_what_a_process_works_on_is_left_by_tidy_which_says_so_and_so_is_what_cannot_be_removed(capsys, monkeypatch):
    first, second = make_run(1), make_run(2)
    with kept_from_work(first):
        main(["tidy", "--keep-networks", "best", "--yes"])
    assert "removed 1, 2.0 kB; 1 left, as a process works on them" in capsys.readouterr().out
    assert [waste.run for waste in space.wasted("best")] == [first]

    def denied(path):
        raise UserError(f"{path}: cannot be removed (Permission denied)")

    monkeypatch.setattr(space, "_remove_path", denied)
    refused("cannot be removed (Permission denied)", "tidy", "--keep-networks", "none", "--yes")
    assert second in [waste.run for waste in space.wasted("none")]


def test_what_may_be_of_runs_of_another_store_is_no_orphan(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        leave_checkpoint(run_id := make_run(1))
        assert open_tracking().endswith("other.db") and results.tidy()["what"].tolist() == ["checkpoints"]
    monkeypatch.setattr(space, "SETTLED", -1)
    open_tracking()  # mends paths of the copied database
    before = everything()
    main(["tidy", "--yes"])
    assert f"left alone, as they may be of runs at sqlite:///{tmp_path}/other.db" in capsys.readouterr().out
    assert everything() == before and study_names() == [f"{run_id} root 0"]
    (tmp_path / "other.db").unlink()
    assert set(results.tidy()["what"]) == {f"orphaned {kind}" for kind in ("checkpoints", "studies", "summaries")}


def test_a_server_that_nothing_answers_at_is_told_at_once(monkeypatch):
    make_run(1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    told = f"tracking at {uri} cannot be used: nothing answers there; check the address, and that the server runs"
    refused(told, "sync", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    refused(told, "list")


def test_runs_are_synced_to_a_database_each_thing_once_with_artifacts_beside_it(tmp_path):
    run_id = make_run(1)
    client = MlflowClient(open_trees().uri)
    client.update_run(run_id, status="KILLED")
    uri = f"sqlite:///{tmp_path}/group/runs.db"
    (tmp_path / "group").mkdir()
    assert results.sync_runs(uri) == [f"run {run_id}: added, with 5 runs below it"]
    assert results.sync_runs(uri) == [f"run {run_id}: is here already, nothing to add"]
    assert list((tmp_path / "group" / "mlruns").rglob("results.csv"))
    client.log_metric(run_id, "late", 1.0)
    client.set_terminated(run_id)
    assert results.sync_runs(uri) == [f"run {run_id}: is here already, 1 runs brought up to date"]
    (root,) = trees_at(uri).roots()
    assert (root.status, root.metrics["late"]) == ("FINISHED", 1.0)
    for wrong in ("runs.db", "ftp://host/runs", tmp_path):
        refused(f"{wrong}: expected the address of a server or a database", "sync", wrong)


def test_a_model_that_was_deleted_in_mlflow_stops_neither_export_nor_delete(tmp_path):
    run_id = make_run(1, model=True)
    before = [path for path in (state_folder() / "mlruns").rglob("MLmodel")]
    _, (model_id,) = open_trees().below(run_id)
    open_trees().client.delete_logged_model(model_id)
    results.export_runs([run_id], path := tmp_path / "results.zip")
    with zipfile.ZipFile(path) as file:
        assert not [name for name in file.namelist() if model_id in name]
    results.delete_runs([run_id])
    assert len(before) == 1 and not before[0].exists() and results.list_runs().empty


def test_the_first_digits_of_an_id_name_a_run_in_every_command_unless_two_begin_so():
    run_id = make_run(1)
    tree = open_trees().tree(run_id)
    new = {run.run_id: hashlib.md5(run.run_id.encode()).hexdigest() for run in tree.runs} | {
        run_id: run_id[:30] + ("00" if run_id[30:] != "00" else "11")
    }
    assert tracking.find_root(run_id[:8]).run_id == run_id == tracking.find_run("step_5", run_id[:8]).run_id
    open_trees().add(dataclasses.replace(tree.renamed(new)), open_trees().client.get_run(run_id).info.experiment_id)
    for text in (run_id[:8], run_id[:30]):
        with pytest.raises(UserError, match="begins so; expected more of its id"):
            tracking.find_root(text)
        refused("begin so; expected more of its id", "show", text)
    assert tracking.find_root(run_id[:31]).run_id == tracking.find_root(run_id).run_id == run_id
    with pytest.raises(UserError, match="no such run"):
        tracking.find_root("0000")


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path, monkeypatch):
    run_id = make_run(1)
    (taken := tmp_path / "taken").write_text("")
    refused(f"{taken}: plots cannot be written there (File exists)", "show", run_id, "--plots", taken)
    refused(f"{taken}/results.zip: cannot be written", "export", run_id, "-o", taken / "results.zip")
    monkeypatch.setenv("REPROAI_STATE", str(taken))
    refused(f"{taken}", "list")


def test_the_command_that_repeats_a_run_is_shown_where_it_can_be_repeated():
    run_id = make_run(1)
    assert f"common.tracking.reproduce {run_id}" in results.show_run(run_id)
    MlflowClient(store_uri(state_folder() / "mlflow.db")).update_run(run_id, status="KILLED")
    assert "reproduce" not in results.show_run(run_id) and "again:     python step_5" in results.show_run(run_id)


def test_a_run_that_was_deleted_in_mlflow_is_counted_and_goes_for_good_by_its_id():
    make_run(2, "scans")
    before = everything()
    run_id = make_run(1)
    MlflowClient(open_trees().uri).delete_run(run_id)
    table = results.disk_use().set_index(["what", "of"])
    assert table.loc[("runs deleted in MLflow", "step_5"), "count"] == 1 == len(results.list_runs())
    assert results.delete_runs([run_id[:8]]) == [f"deleted: run {run_id}, with 5 runs below it"]
    assert everything() == before


def test_an_outer_fold_that_a_run_does_not_have_is_refused_before_anything_is_repeated():
    run_id = make_run(1, command=json.dumps(["step_4/train.py", "--fast"]))
    with pytest.raises(UserError, match=rf"--only root_split=7: run {run_id} has other outer folds \(0\)"):
        reproduce.main([run_id[:8], "--only", "root_split=7", "--yes"])
    run_id = make_run(2, command=json.dumps(["step_2/train.py", "--fast"]))
    with pytest.raises(UserError, match=f"--only root_split=0: run {run_id} is of step 2, which has no outer folds"):
        reproduce.main([run_id, "--only", "root_split=0", "--yes"])


@pytest.mark.parametrize(("answer", "is_yes"), [("y\n", True), ("Yes\n", True), ("\n", False), ("", False)])
def test_the_end_of_input_is_a_no(answer, is_yes, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert confirmed("remove it?") is is_yes
