"""run_on_colab.ipynb: what it installs, and all of it run with a stand-in for google.colab and a local repository."""

from __future__ import annotations

import http.client
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement
from serving import free_port

from conftest import PROJECT, copy_code

HOST = "colab-1234.prod.colab.dev"

# Colab's module: a port of its machine has an address outside, and is shown in a frame.
GOOGLE_COLAB = f"""
from IPython.display import HTML, display

def eval_js(script):
    port = script.removeprefix("google.colab.kernel.proxyPort(").removesuffix(")")
    return f"https://{{port}}-{HOST}/"

def serve_kernel_port_as_iframe(port, path="/", width="100%", height=400):
    display(HTML(f'<iframe src="https://{{port}}-{HOST}{{path}}" width="{{width}}" height="{{height}}"></iframe>'))
"""


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"mlflow": "3.17", "torch": "2.8.0+cu126", "numpy": "1.26.4", "tqdm": "4.0"}, []),
        ({"mlflow": "3.16.1", "torch": "2.8.0+cu126", "numpy": "1.26.4", "tqdm": "4.0"}, ["mlflow>=3.17"]),
        ({"mlflow": "4.0rc1"}, ["torch>=2.12", "numpy", "tqdm"]),
    ],
)
def test_only_what_is_lacking_is_installed_and_torch_stays(installed: dict[str, str], expected: list[str]) -> None:
    lacking = runpy.run_path(str(PROJECT / "docker" / "install_lacking.py"))["lacking"]
    needs = map(Requirement, ["mlflow>=3.17", "torch>=2.12", "numpy", "tqdm", "jupyterlab"])
    assert [str(need) for need in lacking(needs, installed.get)] == expected


def test_pip_is_told_to_keep_torch_and_numpy(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = shutil.copy(PROJECT / "docker" / "install_lacking.py", tmp_path / "docker")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["no-such-package", "torch>=999", "numpy"]\n')
    (tmp_path / "pip.py").write_text("import sys; print(sys.argv[1:], open(sys.argv[4]).read()); sys.exit(3)")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "stays, although this project is made for torch>=999\nto install: no-such-package\n" in done.stdout
    assert re.search(r"'no-such-package'\] numpy==\S+\ntorch==\S+\ntorchvision==\S+\n", done.stdout)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The project as a Git repository."""
    copy = copy_code(tmp_path / "repository")
    shutil.copytree(PROJECT / "docker", copy / "docker")
    for name in ("run_script.bash", "run_mlflow_ui.bash", "pyproject.toml", ".gitignore"):
        shutil.copy(PROJECT / name, copy)
    as_someone = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*as_someone, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    return copy


@pytest.mark.slow
def test_notebook_clones_runs_every_step_and_shows_the_ui(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "google" / "colab").mkdir(parents=True)
    (tmp_path / "google" / "colab" / "output.py").write_text(GOOGLE_COLAB)
    for name in ("RUNNER", "REPROAI_IMAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    port = free_port()
    notebook = nbformat.read(PROJECT / "run_on_colab.ipynb", as_version=4)
    index = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    given = nbformat.v4.new_code_cell(f"repository, port = {str(repository)!r}, {port}")
    notebook.cells.insert(index + 1, given)
    stop = nbformat.v4.new_code_cell("server.terminate()\nserver.wait()")
    notebook.cells.append(stop)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3")
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells[:-1]):
            client.execute_cell(cell, number)
        shown = str([cell.get("outputs") for cell in notebook.cells])
        address = urlsplit(re.search(r'<iframe src="([^"]+)"', shown)[1])
        assert address.netloc == f"{port}-{HOST}"
        try:
            page = ask(port, address.netloc, "GET", address.path)
            assert page.status == 200 and b"<title>MLflow</title>" in page.read()
            assert page.getheader("X-Frame-Options") is None
            search = ask(port, address.netloc, "POST", "/ajax-api/2.0/mlflow/experiments/search", '{"max_results": 9}')
            names = set(re.findall(r"step_\d", search.read().decode()))
            assert names == {"step_2", "step_3", "step_4", "step_5"}
            assert ask(port, "elsewhere.example.org", "GET", "/").status == 403
        finally:
            client.execute_cell(stop, len(notebook.cells) - 1)
    assert (tmp_path / "reproai.tar.gz").stat().st_size > 0
    for step in range(1, 6):
        assert f"step_{step}/analyze_predictions.py" in shown


def ask(port: int, host: str, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
    """What the server answers to Colab's proxy, which asks on behalf of the page at `host`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": host, "Origin": f"https://{host}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    return connection.getresponse()
