"""What an archive takes along, what is read and asked of the disk for it, and where stores keep artifacts."""

import json
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from kept_results import content_of, make_run
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from common import results
from common.cli import UserError
from common.results import archive, deleting
from common.results.in_database import DatabaseTrees
from common.results.opening import open_trees
from common.results.sharing import Shared
from common.state import state_folder
from common.tracking import at_work
from common.tracking.store import open_tracking, other_stores, place_of_artifacts

pytestmark = pytest.mark.usefixtures("home")


def files_of(run_id):
    return Path(open_trees().artifacts(run_id).artifact_dir)


def test_each_name_of_an_artifact_that_an_archive_takes_comes_out_of_it_and_others_are_refused_at_once(
    new_home, tmp_path
):
    run_id = make_run(1)
    client, names = MlflowClient(open_trees().uri), ["dev: 10 %.txt", "plots/roc:val.txt", "a:b", "Größe\u202f1.txt"]
    for name in names:
        client.log_text(run_id, f"of {name}", name)
    before, path = content_of(run_id), results.export_runs([run_id], tmp_path / "results.zip")
    for odd in (b"a\\b.txt", b"two\nlines", b"latin-\xe9.txt"):
        made = os.fsencode(files_of(run_id)) + b"/" + odd
        Path(os.fsdecode(made)).write_text("x")
        with pytest.raises(UserError, match="has a backslash or a control character in its name"):
            results.export_runs([run_id], tmp_path / "odd.zip")
        os.unlink(made)
    assert not (tmp_path / "odd.zip").exists()
    new_home(tmp_path / "second")
    results.import_results(path)
    assert content_of(run_id) == before and {f"run {run_id} {name}" for name in names} <= before[1].keys()


def test_runs_below_one_that_was_deleted_in_mlflow_move_along(new_home, tmp_path):
    run_id = make_run(1, fits=3)
    (outer,) = (run.run_id for run in open_trees().tree(run_id).runs if run.tags["run_level"] == "root_split")
    MlflowClient(open_trees().uri).delete_run(outer)
    left = {run.run_id for run in open_trees().tree(run_id).runs}
    path = results.export_runs([run_id], tmp_path / "results.zip")
    new_home(tmp_path / "second")
    results.import_results(path)
    assert {run.run_id for run in open_trees().tree(run_id).runs} == left and len(left) == 1 + 2 * 3


def test_the_root_runs_of_a_store_are_listed_once_however_many_come_in(new_home, tmp_path, monkeypatch):
    ids = [make_run(seed, fits=1, study=False) for seed in range(4)]
    listed, list_roots = [], DatabaseTrees.roots

    def roots(self, level="root", all_params=False):
        listed.append(level)
        return list_roots(self, level, all_params)

    monkeypatch.setattr(DatabaseTrees, "roots", roots)
    path = results.export_runs(ids, tmp_path / "results.zip")
    assert listed == ["root"]
    new_home(tmp_path / "second")
    for said in ("added, with 3 runs below it", "is here already, nothing to add"):
        listed.clear()
        assert results.import_results(path) == [f"run {run_id}: {said}" for run_id in ids]
        assert sorted(listed) == ["adding", "root"]


def test_the_disk_that_takes_what_is_in_an_archive_is_the_one_that_needs_room_for_it(tmp_path, monkeypatch):
    path = results.export_runs([make_run(1)], tmp_path / "stick" / "results.zip")
    full = path.parent
    monkeypatch.setattr(
        archive.shutil, "disk_usage", lambda place: SimpleNamespace(free=0 if Path(place) == full else 10**12)
    )
    assert "nothing to add" in results.import_results(path)[0]
    full = state_folder()
    with pytest.raises(UserError, match=r"takes .*, and the disk has 0 B left"):
        results.import_results(path)


def test_artifacts_that_cannot_be_removed_stop_a_delete_whatever_digits_are_in_the_id(tmp_path, monkeypatch):
    (folder := tmp_path / (run_id := "404".zfill(32)) / "artifacts").mkdir(parents=True)
    monkeypatch.setattr(deleting.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(UserError, match=f"artifacts of {run_id}: cannot be removed"):
        deleting.remove_files(lambda _: get_artifact_repository(folder.as_uri()), run_id)


def test_one_who_looks_whether_a_run_is_at_work_never_keeps_the_start_of_it_waiting(monkeypatch):
    with at_work.kept_from_work("a"):
        assert at_work.is_at_work("a")
    lock = at_work.lock_of_run("a")
    lock.acquire()
    lock.release()  # and leaves its file, as a process that was killed does
    freed = []

    class StartLock:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            with at_work.lock_of_run("a").acquire(timeout=0):  # as one that starts does next
                freed.append(True)

    monkeypatch.setattr(at_work, "lock_of_start", StartLock)
    assert not at_work.is_at_work("a") and freed


def test_more_runs_are_kept_from_work_than_files_may_be_open(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(at_work.SPARE + 20)]
    few = len(os.listdir("/dev/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        with at_work.all_kept_from_work([f"{number:032x}" for number in range(few)]):
            assert at_work.is_at_work(f"{few - 1:032x}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for other in others:
            os.close(other)


def test_stores_are_known_from_every_folder_and_the_own_one_by_each_of_its_addresses(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    own = f"sqlite:///{state_folder()}/mlflow.db"
    for uri in (own, "sqlite:///runs.db"):
        monkeypatch.chdir(tmp_path / "one")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        open_tracking()
    shutil.copy(state_folder() / "mlflow.db", tmp_path / "one" / "runs.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path / "two")
    assert other_stores(open_tracking()) == [f"sqlite:///{tmp_path}/one/runs.db"]


def test_artifacts_lie_beside_a_file_of_runs_and_of_another_database_in_the_folder_that_keeps_results(tmp_path):
    places = {
        f"sqlite:///{tmp_path}/runs.db?timeout=9": tmp_path / "mlruns" / "step_2",
        "postgresql+psycopg://me:pw@lab:5433/runs": state_folder() / "mlruns" / "postgresql-lab-5433-runs" / "step_2",
        "postgresql:///runs?host=/run/pg": state_folder() / "mlruns" / "postgresql-run-pg-runs" / "step_2",
    }
    for uri, folder in places.items():
        assert place_of_artifacts(uri, "step_2") == folder.as_uri()
    assert place_of_artifacts("http://lab:5000", "step_2") is None


def test_of_a_path_only_its_last_part_is_shared_and_in_which_of_the_known_folders_it_is():
    shared = Shared()
    shared.folders = {"/srv/proj": "PROJECT", "/srv/proj/state": "STATE", "/home/ann": "HOME"}
    cases = {
        "file:///srv/proj/state/mlruns/1": "file:STATE/.../1",
        "file:///srv/ann/scans/y": "file:.../y",
        "sqlite:////home/ann/secret/runs.db?timeout=60: locked": "sqlite:HOME/.../runs.db?timeout=60: locked",
        "/srv/proj-out/secret/my scans": ".../my scans",
        "/srv/proj/data/secret/my scans": "PROJECT/.../my scans",
        "see '/srv/proj copy/secret/my scans'": "see 'PROJECT/.../my scans'",
        "/home/ann2/secret/x": ".../x",
        "/home/ann/secret/x": "HOME/.../x",
        "/mnt/home/ann/x": ".../x",
        "in /home/ann, and a/b/c": "in HOME, and a/b/c",
        "--data=/mnt/secret place/x": "--data=.../x",
        r"print('\u00e4\u00f6 \n\tx')": r"print('\u00e4\u00f6 \n\tx')",
        json.dumps(["train.py", "--data", "/mnt/secret/my äö/ü"]): json.dumps(["train.py", "--data", ".../ü"]),
        (title := json.dumps({"title": "Größe äöü"}, indent=1)): title,
    }
    for text, expected in cases.items():
        assert shared.text(text) == expected
