"""Root runs go from store to store in an archive, or by sync, each thing once; bad archives are refused whole."""

import io
import json
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from kept_results import content_of, everything, fingerprint_of, make_run, predictions, register
from mlflow import MlflowClient
from serving import Server

from common import results
from common.cli import UserError
from common.results.__main__ import main
from common.results.opening import open_trees, trees_at
from common.state import data_folder, state_folder
from common.tracking.upkeep import store_uri


@pytest.fixture(autouse=True)
def here(new_home, tmp_path, monkeypatch):
    """A function that makes a folder the one that keeps results."""
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "REPROAI_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def at(name):
        return new_home(tmp_path / name)

    at("first")
    return at


def archive(tmp_path, *run_ids, **how):
    return results.export_runs(run_ids, tmp_path / "results.zip", **how)


def test_what_was_exported_is_the_same_elsewhere_and_importing_twice_changes_nothing(here, tmp_path):
    run_id = make_run(1, model=True)
    splits = data_folder() / "pets" / "dataset_splits.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps({"fingerprint": fingerprint_of("pets")}))
    (state_folder() / "ledger.jsonl").write_text(json.dumps({"run": run_id, "what": "predicted"}) + "\n")
    before = content_of(run_id)
    path = archive(tmp_path, run_id[:8])
    content = path.read_bytes()
    assert archive(tmp_path, run_id).read_bytes() == content
    here("second")
    make_run(2)
    (line,) = results.import_results(path)
    assert line == f"run {run_id}: added, with 5 runs below it"
    tree, files, studies = content_of(run_id)
    lines = files.pop(f"run {run_id} ledger_elsewhere.jsonl")
    assert json.loads(lines)["what"] == "predicted"
    assert (tree, files, studies) == before
    assert (data_folder() / "pets" / "dataset_splits.json").read_text() == json.dumps(
        {"fingerprint": fingerprint_of("pets")}
    )
    after = everything()
    (line,) = results.import_results(path)
    assert line == f"run {run_id}: is here already, nothing to add" and everything() == after
    assert "0.800 to 0.950" in results.show_run(run_id)


def test_ids_that_are_taken_become_others_everywhere(here, tmp_path):
    run_id = make_run(1, model=True)
    path = archive(tmp_path, run_id)
    before = content_of(run_id)
    here("second")
    make_run(1, fits=1, fingerprint="another", model=True)  # another run with that id
    taken = content_of(run_id)
    (line,) = results.import_results(path)
    new_id = line.split()[1].rstrip(":")
    assert f"(it was {run_id})" in line and new_id != run_id
    now = {run.tags["origin"]: run.run_id for run in open_trees().tree(new_id).runs if "origin" in run.tags}
    back = {new: old for old, new in now.items()}
    models = open_trees().tree(new_id).models
    back |= {models[0].model_id[2:]: before[0]["models"][0]["model_id"][2:]}
    assert content_of(new_id, back) == before and content_of(run_id) == taken
    assert results.import_results(path) == [f"run {new_id}: is here already, nothing to add"]


def test_an_analysis_made_since_is_added_to_a_run_that_is_here(here, tmp_path):
    run_id = make_run(1)
    first = archive(tmp_path, run_id).rename(tmp_path / "first.zip")
    client = MlflowClient(open_trees().uri)
    below = {"mlflow.parentRunId": run_id, "root_run_id": run_id, "analysis": "predictions"}
    made = client.create_run(client.get_run(run_id).info.experiment_id, tags=below, run_name="analysis")
    client.log_text(made.info.run_id, "a plot", "plots/roc.txt")
    client.set_terminated(made.info.run_id)
    path, before = archive(tmp_path, run_id), content_of(run_id)
    here("second")
    results.import_results(first)
    assert results.import_results(path) == [f"run {run_id}: is here already, 1 runs below it added"]
    assert content_of(run_id) == before


def test_a_registered_version_comes_along_and_what_is_in_production_here_stays(here, tmp_path):
    run_id = make_run(1, model=True)
    register(run_id)
    path = archive(tmp_path, run_id)
    for name, stays in (("second", False), ("third", True)):
        here(name)
        client = MlflowClient(open_trees().uri)
        if stays:
            register(make_run(5, model=True))
        results.import_results(path)
        results.import_results(path)
        found = client.search_model_versions("name = 'pets'")
        assert len(found) == 1 + stays and found[0].tags["test_mcc"] == "0.5" and found[0].run_id == run_id
        assert client.get_registered_model("pets").aliases == {"production": 1}


def test_what_is_shared_names_no_image_and_no_group_and_keeps_all_else_of_the_predictions(here, tmp_path):
    run_id = make_run(1, waived="copies: d0.png is seen twice")
    folder = Path(open_trees().artifacts(run_id).artifact_dir)
    table = predictions(0).assign(group=lambda table: "patient 0" + table["file"].str[1:2])
    table.to_csv(folder / "predictions.csv", index=False)
    (folder / "audit").mkdir()
    (folder / "audit" / "audit.json").write_text("d0.png")
    (folder / "notes.txt").write_text("see (d0.png), 'd0.png' and t17.png; not dd0.png")
    with zipfile.ZipFile(archive(tmp_path, run_id, share=True)) as file:
        text = "\n".join(file.read(name).decode(errors="replace") for name in file.namelist())
        shared = pd.read_csv(io.BytesIO(file.read(f"{run_id}/artifacts/{run_id}/predictions.csv")))
        notes = file.read(f"{run_id}/artifacts/{run_id}/notes.txt").decode()
    assert "patient 0" not in text and "t17.png" not in text and not re.search(r"(?<!d)d0\.png", text)
    named = ["file", "group"]
    pd.testing.assert_frame_equal(
        shared.drop(columns=named), pd.read_csv(folder / "predictions.csv").drop(columns=named)
    )
    for column in named:
        pairs = {*zip(table[column], shared[column], strict=True)}
        assert len(pairs) == table[column].nunique() == shared[column].nunique()
    first = shared["file"][0]
    assert re.fullmatch(rf"see \({first}\), '{first}' and image-\d+; not dd0\.png", notes)


def test_what_is_shared_names_no_path_host_or_user(here, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "lab-7.example.org")
    command = json.dumps(["step_5/train.py", "--data", "/srv/secret place/ann/pets", "--weights", "/home/ann/w.pth"])
    run_id = make_run(
        1, model=True, command=command, host="node-3", **{"mlflow.user": "ann", "mlflow.source.name": "step_5/train.py"}
    )
    notes = Path(open_trees().artifacts(run_id).artifact_dir) / "notes.txt"
    places = f"file:///srv/my%20scans/ann/y; {state_folder()}/x on lab-7.example.org, node-3"
    notes.write_text(f"{places}; https://ann:pw@git.example/x.git; a/b/c 1/2")
    (model,) = open_trees().tree(run_id).models
    code = Path(open_trees().model_files(model.model_id).artifact_dir) / "code" / "common" / "x.py"
    code.parent.mkdir(parents=True)
    code.write_text(source := 'f"step_{step}/outputs/x.csv"')
    with zipfile.ZipFile(archive(tmp_path, run_id, share=True)) as file:
        assert file.read(f"{run_id}/models/{model.model_id}/code/common/x.py").decode() == source
        text = "\n".join(file.read(name).decode(errors="replace") for name in file.namelist())
        assert file.read(f"{run_id}/artifacts/{run_id}/notes.txt").endswith(b"; ADDRESS; a/b/c 1/2")
    for secret in ("ann", "/home", "/srv", str(tmp_path), "node-3", "lab-7", "pw@"):
        assert secret not in text, secret
    here("second")
    results.import_results(tmp_path / "results.zip")
    assert "0.900" in results.show_run(run_id)


def rewritten(path, change):
    """The archive again, with its members, in their order, as `change` makes them."""
    with zipfile.ZipFile(path) as file:
        members = [(info, file.read(info)) for info in file.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for info, content in change(members):
            file.writestr(info, content)


def with_manifest(change):
    def changed(members):
        (info, content), *rest = members
        manifest = json.loads(content)
        change(manifest)
        return [(info, json.dumps(manifest)), *rest]

    return changed


def added(name, content=b"x", mode=stat.S_IFREG | 0o644):
    def change(members):
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        return [*members, (info, content)]

    return change


def bomb(members):
    (info, content), *rest = members
    manifest = json.loads(content)
    name = next(iter(manifest["members"]))
    manifest["members"][name]["bytes"] = 1 << 40
    return [(info, json.dumps(manifest)), *rest]


BAD = {
    "another product": (with_manifest(lambda m: m.update(product="backup")), "an archive of 'backup'"),
    "a newer version": (with_manifest(lambda m: m.update(format=2)), "of a newer version"),
    "no manifest": (lambda members: members[1:], "expected manifest.json as its first member"),
    "a broken manifest": (lambda members: [(members[0][0], b"{"), *members[1:]], "is not that of an archive"),
    "a changed file": (lambda members: [*members[:-1], (members[-1][0], b"!" * len(members[-1][1]))], "is damaged"),
    "a longer file": (lambda members: [*members[:-1], (members[-1][0], members[-1][1] + b"!")], "bytes; expected"),
    "a missing file": (lambda members: members[:-1], "is missing"),
    "a file more": (added("more.txt"), "not in manifest.json"),
    "an absolute path": (added("/etc/passwd"), "leads out of it"),
    "a way up": (added("a/../../b"), "leads out of it"),
    "a way up for Windows": (added("a\\..\\b"), "leads out of it"),
    "a link": (added("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "is a link"),
    "a bomb": (bomb, "no results are like that"),
}


@pytest.fixture(scope="module")
def good(blank_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(shutil.copytree(blank_home, folder)))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return results.export_runs([make_run(1)], folder / "results.zip")


@pytest.fixture(scope="module")
def elsewhere(blank_home, tmp_path_factory):
    """A folder that keeps another run."""
    folder = tmp_path_factory.mktemp("elsewhere") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(shutil.copytree(blank_home, folder)))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_run(2)
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_is_refused_in_a_line_and_nothing_is_written(name, good, elsewhere, tmp_path, monkeypatch):
    change, words = BAD[name]
    (path := tmp_path / "bad.zip").write_bytes(good.read_bytes())
    rewritten(path, change)
    monkeypatch.setenv("REPROAI_STATE", str(elsewhere))
    before = everything()
    with pytest.raises(UserError) as error:
        main(["import", str(path)])
    assert words in str(error.value) and str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert everything() == before


def test_a_cut_or_foreign_file_and_one_that_says_less_than_it_holds_are_refused(good, tmp_path):
    content = good.read_bytes()
    lying = bytearray(content)
    with zipfile.ZipFile(good) as file:
        last = file.infolist()[-1]
    at = content.rindex(last.filename.encode()) - 46 + 24  # of the size, in the directory at the end
    lying[at : at + 4] = (1).to_bytes(4, "little")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("hello.txt", "hello")
    for bad in (content[: len(content) // 2], b"", b"no zip" * 99, bytes(lying), other.getvalue()):
        (path := tmp_path / "bad.zip").write_bytes(bad)
        with pytest.raises(UserError, match=r"bad\.zip: "):
            results.import_results(path)
    for nowhere in (tmp_path / "nothing.zip", tmp_path):
        with pytest.raises(UserError):
            results.import_results(nowhere)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(UserError, match="FIFO"):
        results.import_results(tmp_path / "pipe.zip")


def histories(trees, run_id):
    tree = trees.tree(run_id)
    return sorted(
        (run.name, run.status, run.start, run.end, run.params, sorted(map(str, run.metrics))) for run in tree.runs
    )


@pytest.mark.slow  # test_odd_input.py has the same with a database
def test_offline_runs_are_synced_to_a_server_each_thing_once(here, empty_stores, tmp_path):
    home = here("first")
    run_id = make_run(1, model=True)
    other = make_run(2)
    server = Server(Path(shutil.copytree(empty_stores, tmp_path / "server")))
    try:
        here_trees, there = open_trees(), trees_at(server.uri)
        said = results.sync_runs(server.uri)
        assert [line.split(":")[1].split(",")[0] for line in said] == [" added", " added"] or len(said) == 2
        assert all("nothing to add" in line for line in results.sync_runs(server.uri))
        client = MlflowClient(store_uri(home / "mlflow.db"))
        below = {"mlflow.parentRunId": run_id, "root_run_id": run_id, "analysis": "predictions"}
        made = client.create_run(client.get_run(run_id).info.experiment_id, tags=below, run_name="analysis")
        client.set_terminated(made.info.run_id)
        assert sum("1 runs below it added" in line for line in results.sync_runs(server.uri)) == 1
        roots = {root.tags["origin"]: root.run_id for root in there.roots()}
        assert set(roots) == {run_id, other}
        assert histories(there, roots[run_id]) == histories(here_trees, run_id)
        files = there.artifacts(roots[run_id]).download_artifacts("", str(tmp_path))
        assert (Path(files) / "results.csv").read_text().startswith("root_split")
        tree = there.tree(roots[run_id])
        assert [model.name for model in tree.models] == ["pets"] and tree.root.outputs
    finally:
        server.close()
