"""Where it runs: JupyterLab, papermill and the dev container."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
import psutil
import pytest
from jupyter_client.kernelspec import get_kernel_spec

PROJECT = Path(__file__).resolve().parent.parent
KEY = "REPROAI_PATIENT_KEY"
ROOT = ["--allow-root"] * (os.geteuid() == 0)

DOCKER = """#!/bin/sh
case $1 in info) echo "28.0 [] ." ;; run) printf '%s\\n' "$@" ;; esac
"""


def environment(**variables: str) -> dict[str, str]:
    """Of this process, with its Python first on PATH."""
    ours = ("RUNNER", "REPROAI_", "JUPYTER", "MLFLOW_", "PYTEST_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RUNNER": "none"} | variables


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(host: str, port: int, seconds: float = 60) -> None:
    """Wait until a server answers: JupyterLab prints its address a moment before."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def status(address: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", f"{parts.path}?{parts.query}")
    return connection.getresponse().status


# ---- JupyterLab


@contextmanager
def jupyter_lab(folder: Path, listens: str = "127.0.0.1", project: Path = PROJECT, **variables: str):
    """JupyterLab, started from another folder: what it printed, and the address in it."""
    port = free_port()
    command = ["bash", project / "run_script.bash", "jupyter", "lab", "--port", str(port), *ROOT]
    variables |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = ""
        for line in process.stdout:
            printed += line
            if "token=" in line:
                break
        else:
            pytest.fail(f"no address: {printed}")
        assert f"http://127.0.0.1:{port}/" in line
        wait_for(listens, port)
        opened = [c.laddr for c in psutil.net_connections("tcp") if c.status == "LISTEN"]
        assert {address.ip for address in opened if address.port == port} == {listens}
        yield printed, line.strip()
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # kernels that are still at work may keep it
            process.kill()


@pytest.mark.slow
@pytest.mark.hostile("only this machine reaches the MLflow UI and JupyterLab", cases=2)
def test_jupyterlab_prints_one_address_with_a_new_random_token_that_it_asks_for_and_fetches_no_news(
    tmp_path: Path,
) -> None:
    everywhere = {"LISTEN": "0.0.0.0", "REPROAI_LISTEN": "0.0.0.0", "PORTS": "80", "ROOTLESS": "1"}
    container = {"LISTEN": "0.0.0.0", "REPROAI_IMAGE": "1", "REPROAI_LISTEN": "127.0.0.2"}
    with (
        jupyter_lab(tmp_path, **everywhere) as (printed, address),
        jupyter_lab(tmp_path, "127.0.0.2", **container) as (inside, other),
    ):
        assert printed.count("://") == inside.count("://") == 1  # in a container too
        tokens = [re.search(r"token=([0-9a-f]{40,})$", each)[1] for each in (address, other)]
        assert tokens[0] != tokens[1]
        assert status(address) == 200
        without = address.split("?")[0]
        assert status(without) == 302
        assert status(without.replace("/lab", "/api/contents")) == 403
        assert status(without.replace("/lab", f"/api/contents?token={tokens[1]}")) == 403
        setting = address.replace("/lab?", "/lab/api/settings/@jupyterlab/apputils-extension:notification?")
        with urlopen(setting) as answer:
            assert json.load(answer)["schema"]["properties"]["fetchNews"]["default"] == "false"


def docker_run(folder: Path, *command: str, **variables: str) -> list[str]:
    """What run_script.bash of a copy of the project gives `docker run`."""
    project, tools = folder / "project", folder / "tools"
    shutil.copytree(PROJECT / "docker", project / "docker")
    for name in ("run_script.bash", "requirements.txt"):
        shutil.copy(PROJECT / name, project)
    tools.mkdir()
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    variables = environment(RUNNER="docker", PATH=f"{tools}:{os.environ['PATH']}") | variables
    call = ["bash", project / "run_script.bash", *command]
    return subprocess.check_output(call, env=variables, text=True).splitlines()


@pytest.mark.parametrize("flags", [[], ["--port", "47115"], ["--port=47115"]])
def test_jupyterlab_in_a_container_is_published_to_this_machine_alone(tmp_path: Path, flags: list[str]) -> None:
    call = docker_run(tmp_path, "jupyter", "lab", *flags)
    port = "47115" if flags else "8888"
    assert {("--publish", f"127.0.0.1:{port}:{port}"), ("--env", "REPROAI_LISTEN=0.0.0.0")} <= set(pairwise(call))
    assert ("--env", "JUPYTER_CONFIG_PATH") in pairwise(call)
    assert ("--user", f"{os.getuid()}:{os.getgid()}") in pairwise(call)
    assert call.count("--publish") == 1 and call[-2 - len(flags) :] == ["jupyter", "lab", *flags]


def test_a_container_gets_the_variables_that_the_pages_name_and_the_key_of_patients(tmp_path: Path) -> None:
    names = {name for page in PROJECT.glob("docs/*.md") for name in re.findall(r"REPROAI_[A-Z_]+", page.read_text())}
    key = PROJECT / "LICENSE"  # a file that is there; what lies in /dev, as tmp_path may, is never mounted
    call = docker_run(tmp_path, "python", **{name: str(tmp_path / name) for name in names} | {KEY: str(key)})
    assert KEY in names and {("--env", name) for name in names} <= set(pairwise(call))
    assert f'type=bind,"source={key}","target={key}",readonly' in call


# ---- papermill


def papermill(folder: Path, *parameters: str) -> tuple[int, str, nbformat.NotebookNode]:
    """Run a small lesson from another folder: exit code, what was printed, and the notebook that it leaves."""
    cell = nbformat.v4.new_code_cell
    cells = [
        cell('data, seed = "drawn", 0', metadata={"tags": ["parameters"]}),
        cell('from common import lesson\n\nlesson.begin(globals(), "data", "seed")'),
        cell("print(f'{data} with {seed}')"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "lesson.ipynb")
    done = subprocess.run(
        ["bash", PROJECT / "run_script.bash", "papermill", folder / "lesson.ipynb", folder / "out.ipynb", *parameters],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr, nbformat.read(folder / "out.ipynb", as_version=4)


def test_papermill_gives_a_lesson_its_parameters_from_any_folder(tmp_path: Path) -> None:
    code, errors, notebook = papermill(tmp_path, "-p", "seed", "3", "-p", "data", str(tmp_path))
    assert code == 0, errors
    assert notebook.cells[-1].outputs[0].text == f"{tmp_path} with 3\n"


def test_wrong_parameter_name_fails_with_the_name_and_keeps_the_partial_notebook(tmp_path: Path) -> None:
    code, errors, notebook = papermill(tmp_path, "-p", "n_trails", "3")
    assert code != 0
    assert "parameter n_trails=3: this lesson has no such parameter, only data, seed" in errors
    assert [cell.execution_count is not None for cell in notebook.cells[-2:]] == [True, False]


# ---- the lessons as stored


@pytest.mark.parametrize("lesson", sorted(PROJECT.glob("step_*/lesson.ipynb")), ids=lambda path: path.parent.name)
def test_each_lesson_is_under_500_kb_and_carries_its_outputs(lesson: Path) -> None:
    assert lesson.stat().st_size < 500_000
    notebook = nbformat.read(lesson, as_version=4)
    # Another name, and JupyterLab takes the lesson for changed when it is opened.
    assert notebook.metadata.kernelspec.display_name == get_kernel_spec("python3").display_name
    cells = notebook.cells
    assert not any("execution" in cell.metadata for cell in cells)  # when it ran
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)


# ---- the dev container


def test_dev_container_mounts_the_project_at_its_own_path_and_has_the_images_user_and_python() -> None:
    table = json.loads((PROJECT / ".devcontainer.json").read_text())
    assert set(table) == {  # of the published schema (containers.dev), which lets a client pass over any other
        *("name", "build", "workspaceMount", "workspaceFolder", "remoteUser", "updateRemoteUserUID", "init"),
        *("hostRequirements", "runArgs", "containerEnv", "forwardPorts", "portsAttributes", "customizations"),
    }
    place = "${localWorkspaceFolder}"
    assert table["workspaceMount"].split(",")[1:] == [f"source={place}", f"target={place}"]
    assert table["hostRequirements"] == {"gpu": "optional"} and "--gpus" not in " ".join(table["runArgs"])
    assert {str(port) for port in table["forwardPorts"]} == set(table["portsAttributes"]) == {"5000", "8888"}
    vscode = table["customizations"]["vscode"]
    assert set(vscode["extensions"]) == {"ms-python.python", "ms-toolsai.jupyter", "charliermarsh.ruff"}
    dockerfile = (PROJECT / table["build"]["dockerfile"]).read_text()
    assert f"useradd --create-home --shell /bin/bash {table['remoteUser']}" in dockerfile
    python = vscode["settings"]["python.defaultInterpreterPath"]
    assert f"install.sh {Path(python).parent.parent}\n" in dockerfile


def test_tasks_run_scripts_that_exist() -> None:
    tasks = json.loads((PROJECT / ".vscode" / "tasks.json").read_text())["tasks"]
    assert "MLflow UI" in {task["label"] for task in tasks}
    assert all((PROJECT / task["command"].split()[1]).is_file() for task in tasks)


def test_dev_container_client_reads_the_configuration(tmp_path: Path) -> None:
    client = shutil.which("devcontainer")
    if client is None:
        pytest.skip("no devcontainer client on PATH: npm install --global @devcontainers/cli")
    (tmp_path / "docker").write_text("#!/bin/sh\n")  # an engine without containers
    (tmp_path / "docker").chmod(0o755)
    command = [client, "read-configuration", "--workspace-folder", PROJECT, "--docker-path", tmp_path / "docker"]
    read = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True))
    mount = f"type=bind,source={PROJECT},target={PROJECT}"
    assert read["workspace"] == {"workspaceFolder": str(PROJECT), "workspaceMount": mount}
    assert read["configuration"]["containerEnv"] == {"PYTHONPATH": str(PROJECT)}
