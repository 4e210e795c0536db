"""run_mlflow_ui.bash: whom it answers, and results that come from another machine, with runs on both."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from serving import free_port, mlflow_ui

from common.tracking.upkeep import store_uri
from conftest import PROJECT

OPEN = {"LISTEN": "0.0.0.0", "HOST": "0.0.0.0", "MLFLOW_HOST": "0.0.0.0", "UVICORN_HOST": "0.0.0.0", "PORTS": "80"}
SSH = """#!/bin/sh
shift
cd "$REMOTE_HOME" && exec sh -c "$*"
"""


def a_project(folder):
    """The code alone."""
    for name in ("common", "docker", "step_2"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    for name in ("run_mlflow_ui.bash", "run_script.bash", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    return folder


def listened_on(port):
    """The addresses of this machine at which a port is open."""
    return {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}


LISTENS = pytest.mark.parametrize(
    ("variables", "listens"),
    [
        pytest.param(OPEN | {"REPROAI_LISTEN": "0.0.0.0"}, "127.0.0.1", id="outside"),
        pytest.param(OPEN | {"REPROAI_IMAGE": "1"}, "127.0.0.1", id="inside"),
        pytest.param({"REPROAI_IMAGE": "1", "REPROAI_LISTEN": "127.0.0.2"}, "127.0.0.2", id="asked for"),
    ],
)


@pytest.mark.hostile("only this machine reaches the MLflow UI and JupyterLab")
@LISTENS
def test_mlflow_is_told_where_to_listen(variables, listens, tmp_path):
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "tools").mkdir()
    for name, does in (("python", "true"), ("mlflow", 'echo "$@"')):
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    own = {"RUNNER": "none", "PATH": f"{tmp_path / 'tools'}:/usr/bin:/bin"}
    command = ["bash", PROJECT / "run_mlflow_ui.bash", tmp_path, str(free_port())]
    words = subprocess.check_output(command, env=own | variables, text=True).splitlines()[-1].split()
    assert words[0] == "server" and [words[i + 1] for i, word in enumerate(words) if word == "--host"] == [listens]


@pytest.mark.slow
@pytest.mark.hostile("only this machine reaches the MLflow UI and JupyterLab")
@LISTENS
def test_only_the_image_can_make_the_ui_listen_elsewhere_and_the_address_is_printed(
    variables, listens, empty_stores, tmp_path
):
    shutil.copy(empty_stores / "mlflow.db", tmp_path)
    log = tmp_path / "ui.log"
    with mlflow_ui(PROJECT, tmp_path, log=log, host=listens, **variables) as address:
        port = int(address.split(":")[-1].strip("/"))
        assert listened_on(port) == {listens}
    without = ", for whoever reaches this address, without a password" if listens != "127.0.0.1" else ""
    assert log.read_text().splitlines()[0] == f"http://{listens}:{port}{without} (Ctrl-C ends it)"


@pytest.mark.hostile("results from another machine join those made here")
def test_ui_of_a_folder_tells_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "no results").mkdir()
    (tmp_path / "no database").mkdir()
    (tmp_path / "no database" / "mlflow.db").write_text("something else")
    for arguments, told in [
        (["absent"], "'absent': expected a folder with results, or a port from 1 to 65535"),
        (["no results"], "no results: no results (mlflow.db); expected a project folder, or a copy of its results"),
        (["no results", "x"], "the port is 'x': expected a whole number"),
        (["no results", "5001", "5002"], "'5002': expected no more than a folder and a port"),
        (["no database"], "no database/mlflow.db: not a store of MLflow"),
    ]:
        done = subprocess.run(
            ["bash", PROJECT / "run_mlflow_ui.bash", *arguments],
            cwd=tmp_path,
            env=os.environ | {"RUNNER": "none", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert told in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mlflow.db"]


# ---- two machines


def documented_line(start):
    lines = [line.split("  #")[0].strip() for line in (PROJECT / "docs" / "running.md").read_text().splitlines()]
    return next(line for line in lines if line.startswith(start))


def artifacts_of(client):
    """What is read of each run's artifacts, through the client."""
    found = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        folders = [""]
        while folders:
            for file in client.list_artifacts(run.info.run_id, folders.pop()):
                if file.is_dir:
                    folders.append(file.path)
                else:
                    content = Path(client.download_artifacts(run.info.run_id, file.path)).read_bytes()
                    found[f"{run.info.run_id}/artifacts/{file.path}"] = content
    return found


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def machines(tmp_path, tiny_pets):
    """A project on a laptop and its clone on a remote machine, with a run each; and what makes one more."""
    if shutil.which("rsync") is None:
        pytest.skip("there is no rsync (apt-get install rsync)")
    laptop, remote = a_project(tmp_path / "laptop" / "my project"), a_project(tmp_path / "remote" / "reproai")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    for folder in (".venv", "cache", "data"):
        (remote / folder).mkdir()
        (remote / folder / "large").write_bytes(bytes(30_000_000))

    def train(project, seed):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_"))}
        command = [sys.executable, project / "step_2" / "train.py", "--fast", "--data", tiny_pets, "--seed", str(seed)]
        subprocess.run(command, env=kept | {"PYTHONPATH": str(project)}, check=True, capture_output=True)

    train(laptop, 0)
    train(remote, 1)
    return laptop, remote, train


@pytest.mark.slow
@pytest.mark.hostile("results from another machine join those made here", cases=2)
def test_the_documented_rsync_keeps_the_runs_made_here_and_brings_all_of_the_other_machine(machines, tmp_path):
    laptop, remote, train = machines
    synced = tmp_path / "laptop" / "HOST"

    def sync():
        variables = os.environ | {"RSYNC_RSH": str(tmp_path / "ssh"), "REMOTE_HOME": str(remote.parent)}
        subprocess.run(["bash", "-c", documented_line("rsync ")], cwd=laptop, env=variables, check=True)

    made_here = files_in(laptop)
    sync()
    assert files_in(laptop) == made_here
    assert not [name for name in (".venv", "cache", "data") if (synced / name).exists()]
    assert sum(len(content) for content in files_in(synced).values()) < 20_000_000
    expected = {side: files_in(side / "mlruns" / "step_2") for side in (laptop, remote)}
    remote.parent.rename(tmp_path / "switched off")
    assert documented_line("bash run_mlflow_ui.bash ../HOST") == "bash run_mlflow_ui.bash ../HOST 5001"
    with (
        mlflow_ui(laptop, log=tmp_path / "here.log") as here,
        mlflow_ui(laptop, "laptop/HOST", log=tmp_path / "there.log") as there,
    ):
        assert artifacts_of(MlflowClient(here)) == expected[laptop]
        assert artifacts_of(MlflowClient(there)) == expected[remote]

    (tmp_path / "switched off").rename(remote.parent)
    train(remote, 2)
    sync()
    later = files_in(remote / "mlruns" / "step_2")
    assert len(later) > len(expected[remote])
    remote.parent.rename(tmp_path / "switched off")
    subprocess.run([sys.executable, "-m", "common.tracking.upkeep", synced], cwd=laptop, check=True)
    assert artifacts_of(MlflowClient(store_uri(synced / "mlflow.db"))) == later
