"""A real run of step 5, with its search, goes from SQLite to PostgreSQL and back; there it is what it was here."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from kept_results import content_of
from serving import free_port

from common import results, search, tracking
from common.results.opening import open_trees
from conftest import put_stores

QUICK = ("--fast", "--n-jobs", 1, "--device", "cpu", "--precision", "fp32", "--root-splits", 2, "--inner-splits", 1)
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="module")
def postgresql():
    """The address of a PostgreSQL that takes everybody on this machine."""
    if not PROGRAMS:
        pytest.skip("no PostgreSQL here")
    owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        (data := Path(folder) / "data").mkdir()
        if owner:
            shutil.chown(data, "postgres", "postgres")
        port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        made = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run([*owner, PROGRAMS[-1] / "initdb", "-D", data, *made], check=True, cwd=folder, **quiet)
        its = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="]
        process = subprocess.Popen([*owner, PROGRAMS[-1] / "postgres", "-D", data, *its], cwd=folder, **quiet)
        to = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        while subprocess.run([PROGRAMS[-1] / "pg_isready", *to], **quiet).returncode != 0:
            assert process.poll() is None
            time.sleep(0.1)
        for name in ("runs", "studies"):
            subprocess.run([PROGRAMS[-1] / "createdb", *to, name], check=True)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)  # at once, whoever is connected
        process.wait()


@pytest.fixture(scope="module")
def first(run_script, few_pets, tmp_path_factory):
    """The folder with the run, its id, and all of it."""
    state = tmp_path_factory.mktemp("first")
    done = run_script(
        "step_5/train.py", *QUICK, "--n-trials", 2, "--data", few_pets, "--json", REPROAI_STATE=str(state)
    )
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(state))
        for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
            patch.delenv(name, raising=False)
        yield state, run_id, json.loads(done.stdout.splitlines()[-1])


def moved(run_id):
    """All of a run, but for the lines of the ledger that came along, which tell who read its test scores elsewhere."""
    tree, files, studies = content_of(run_id)
    assert '"what": "read"' in files.pop(f"run {run_id} ledger_elsewhere.jsonl")
    return tree, files, studies


@pytest.mark.slow
def test_a_run_with_its_search_goes_to_postgresql_and_back(
    first, postgresql, empty_stores, run_script, few_pets, tmp_path, monkeypatch
):
    _, run_id, said = first
    before = content_of(run_id)
    path = results.export_runs([run_id], tmp_path / "1.zip")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(tmp_path / "second"))
        patch.setenv("MLFLOW_TRACKING_URI", f"{postgresql}/runs")
        patch.setenv("OPTUNA_STORAGE", f"{postgresql}/studies")
        results.import_results(path)
        assert moved(run_id) == before
        (database,) = (tmp_path / "second" / "mlruns").glob("postgresql-127.0.0.1-*-runs")
        assert list(database.rglob("results.csv")) and not list(tmp_path.glob("mlruns/*"))
        again = results.export_runs([run_id], tmp_path / "2.zip")
        row = results.list_runs().iloc[0]
        assert (row["test_roc_auc"], [row["low"], row["high"]]) == (said["test_roc_auc"], said["ci"])
        assert results.delete_runs([run_id], force=True)[0].startswith("deleted") and results.list_runs().empty
    put_stores(empty_stores, tmp_path / "third")
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "third"))
    results.import_results(again)
    assert moved(run_id) == before
    study = search.load_study(f"{run_id} root 0")
    assert len(search.trials_table(study)) == 2
    frame = tracking.find_root(run_id).read_table("results.csv")
    assert frame["test_roc_auc"].mean() == pytest.approx(said["test_roc_auc"])
    for script in ("step_5/analyze_predictions.py", "step_4/analyze_predictions.py"):
        done = run_script(script, "--run-id", run_id, REPROAI_STATE=str(tmp_path / "third"))
        assert done.returncode == (0 if "5" in script else 2), done.stderr
    again = run_script(  # its splits came along, and its results are there
        "step_5/train.py", *QUICK, "--n-trials", 2, "--data", few_pets, "--json", REPROAI_STATE=str(tmp_path / "third")
    )
    assert json.loads(again.stdout.splitlines()[-1])["test_roc_auc"] == said["test_roc_auc"]


def test_the_page_of_a_run_says_its_score_interval_and_command_and_what_it_wrote_is_deleted(first, monkeypatch):
    state, run_id, said = first
    shutil.copytree(state, copy := state.with_name("copy"))
    monkeypatch.setenv("REPROAI_STATE", str(copy))
    note = open_trees().client.get_run(run_id).data.tags["mlflow.note.content"]
    low, high = said["ci"]
    rough = {"approximate": "approximate ", "exact": ""}[results.list_runs()["interval"].item()]
    told = f"{said['test_roc_auc']:.3f} ({rough}95 % interval {low:.3f} to {high:.3f}"
    assert told in note and told in results.show_run(run_id)
    assert "Made by `python step_5/train.py" in note and "--n-trials 2" in note and "\n" not in note
    assert "outer" not in results.disk_use().to_string()
    results.delete_runs([run_id], force=True)
    kept = [path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not [path for path in kept if run_id in str(path) or path.parts[0] == "mlruns"]
    assert not search_names()


def search_names():
    from common.search.kept import study_names

    return study_names()
