"""The set-up: the lock, the conda environment, and how run_script.bash makes an environment and runs commands in it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.txt").read_text()
CONDA_NAMES = {
    "matplotlib-base": "matplotlib",
    "mne-base": "mne",
    "lazy_loader": "lazy-loader",
    "python-confluent-kafka": "confluent-kafka",
    "pytorch": "torch",
}
# What the documents name in code, besides what the project has, git ignores or they say to write.
ELSEWHERE = {
    "in a folder of images": {"groups.csv", "images/Breed_1.jpg", "info.csv", "test/", "test/info.csv"}
    | {"train/", "train/info.csv", "val/"},
    "a name in TensorBoard": {"test/...", "train/...", "val/..."},
    "in a folder of the project": {"configs/"},
    "an artifact of a run": {
        "audit/audit.json",
        "audit/flow.json",
        "predictions.csv",
        "provenance/",
        "reproduction.txt",
    }
    | {"results.csv", "search/", "search/index.html"},
    "with a .gitignore of its own": {"dvcstore/"},
    "a file that git is to keep": {".dvc/config", "data/waves.npz.dvc", "requirements-own.txt"},
    "the project": {"reproai/"},
    "a source of data, which lies in data/": {"drawn", "eeg"},
    "no file here": {"application/json", "conf/config.yaml"},
    "beside the project": {"../HOST"},
}

# What makes the environments here, in place of uv: it counts its installations and, while the file `hold` is there,
# does not finish them.
UV = """#!/bin/sh
case $1 in
    venv) for folder; do :; done; exec python3 -m venv --without-pip "$folder" ;;
    pip) echo $$ >>installs; while [ -e hold ]; do sleep 0.05; done ;;
esac
"""
# A Docker client that notes its arguments.
DOCKER = """#!/bin/sh
printf '%s\\037' "$@" >>docker.log
echo >>docker.log
case $1 in
    info) [ -n "$ENGINE" ] && echo "$ENGINE" ;;
    image) [ -e "built $3" ] ;;
    build) touch "built $3" ;;
    run) exit 7 ;;
esac
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def locked(package: str) -> str:
    """The lines of one package in the lock."""
    return re.search(rf"^{package}==.*\n(    --hash.*\n)+", LOCK, re.MULTILINE)[0]


def copy_of_project(folder: Path) -> Path:
    """The set-up without the project, with an empty lock, and Python as the only tool beside the system's."""
    for name in ["run_script.bash", "run_mlflow_ui.bash"]:
        folder.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "docker", folder / "docker")
    (folder / "requirements.txt").write_text("# empty\n")
    (folder / "common").mkdir()
    (folder / "common" / "__init__.py").touch()
    executable(folder / "tools" / "python3", f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n')
    return folder


def environment(folder: Path, **variables: str) -> dict[str, str]:
    ours = ("RUNNER", "REPROAI_", "PETS_DIR", "TORCH_HOME", "VIRTUAL_ENV", "MLFLOW_", "OPTUNA_", "CI", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": f"{folder}/tools:/usr/bin:/bin", "RUNNER": "venv"} | variables


def start(folder: Path, *command: str, script: str = "run_script.bash", **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", folder / script, *command],
        env=environment(folder, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder: Path, *command: str, **options: str) -> tuple[int, str, str]:
    process = start(folder, *command, **options)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def wait_for(path: Path) -> None:
    while not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.02)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder outside /dev, of which a container sees nothing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A project that was never set up, with the stand-in for uv."""
    project = copy_of_project(tmp_path / "my project")
    executable(project / "tools" / "uv", UV)
    return project


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose .venv is made, with the stand-in for uv, on a machine where no Docker engine answers."""
    project = copy_of_project(tmp_path_factory.mktemp("ready") / "my project")
    executable(project / "tools" / "uv", UV)
    executable(project / "tools" / "docker", DOCKER)
    assert run(project, "true")[0] == 0
    return project


@pytest.fixture
def docker(fresh: Path) -> Path:
    """A project on a machine whose Docker client is the stand-in."""
    executable(fresh / "tools" / "docker", DOCKER)
    return fresh


def docker_calls(project: Path) -> list[list[str]]:
    return [line.split("\037")[:-1] for line in (project / "docker.log").read_text().splitlines()]


def docker_run(project: Path, *command: str, engine: str = "28.0 [] runtime=runc .", **variables: str) -> list[str]:
    code, _, errors = run(project, *command, RUNNER="", ENGINE=engine, **variables)
    assert code == 7, errors
    return docker_calls(project)[-1]


# ---- the lists of packages


def direct_dependencies() -> list[Requirement]:
    table = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    project = table["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), table["dependency-groups"]["dev"]]
    return [Requirement(text) for texts in lists for text in texts]


def test_lock_satisfies_every_direct_dependency() -> None:
    versions = dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", LOCK, re.MULTILINE))
    unmet = [str(need) for need in direct_dependencies() if not need.specifier.contains(versions.get(need.name, "0"))]
    assert unmet == []
    assert {need.name for need in direct_dependencies()} <= set(versions)


@pytest.mark.parametrize("lock", ["requirements.txt", "docker/uv.txt"])
def test_locks_have_hashes_for_all_and_no_address(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    entries = re.split(r"\n(?=\S)", text)
    assert [e for e in entries if not e.startswith("#") and "--hash=sha256:" not in e] == []
    assert "://" not in text
    assert "index" not in re.sub(r"# .*", "", text)


def test_conda_environment_names_the_same_packages_and_bounds() -> None:
    table = yaml.safe_load((PROJECT / "environment.yml").read_text())
    assert (table["name"], table["channels"]) == ("reproai", ["conda-forge", "nodefaults"])
    *packages, of_pip = table["dependencies"]
    *not_of_conda, ours = of_pip["pip"]
    assert ours == "-e ."
    conda = {need.name: need.specifier for need in map(Requirement, packages + not_of_conda)}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert conda.pop("python") == project["requires-python"]
    assert conda.pop("pip") == ""
    assert {CONDA_NAMES.get(name, name): bound for name, bound in conda.items()} == {
        need.name: need.specifier for need in direct_dependencies()
    }


# ---- what git ignores


def names_in_documents() -> set[str]:
    """Files and folders that the documents' code names and git does not keep, without Python files: users' own code."""
    kept = subprocess.check_output(["git", "-C", PROJECT, "ls-files"], text=True).splitlines()
    pages = [page for pattern in ("*.md", "docs/*.md", "step_*/*.md") for page in sorted(PROJECT.glob(pattern))]
    code = "\n".join(c for page in pages for c in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL))
    path = r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:csv|db|ipynb|npz|png|txt)\b|(?<=--data )\w+|(?<=--logdir )\w+"
    named = set(re.findall(rf"(?<![\w/.:~$<{{-])({path})", code))
    written = {name for name in named if not name.endswith(".py")}
    return {n for n in written if not any(k == n or k.startswith(f"{n.rstrip('/')}/") for k in kept)}


@pytest.mark.hostile("what the documents tell users to make is ignored by git", cases=20)
def test_git_ignores_what_the_documents_tell_users_to_make() -> None:
    named = names_in_documents() | {f"step_{step}/outputs/" for step in range(1, 6)}
    assert {"scans", "logs", "out.ipynb", "mlruns/", "data/waves.npz"} <= named
    seen = []
    for name in sorted(named - set().union(*ELSEWHERE.values())):
        path = name if Path(name).suffix else f"{name}/any.png"
        if subprocess.run(["git", "-C", PROJECT, "check-ignore", "--no-index", "--quiet", path]).returncode:
            seen.append(name)
    assert seen == []


# ---- commands


def test_command_gets_its_arguments_and_the_project_folder_and_gives_its_exit_code(ready: Path, tmp_path: Path) -> None:
    show = "import os, sys; print(sys.argv[1:], os.getcwd()); os.chdir('/'); import common"
    show += "; print(common.__file__, sys.prefix); sys.exit(41)"
    with contextlib.chdir(tmp_path):
        code, output, errors = run(ready, "python", "-c", show, "a b", "", "*")
    assert (code, errors) == (41, "")
    assert output == f"['a b', '', '*'] {ready}\n{ready}/common/__init__.py {ready}/.venv\n"


def test_ctrl_c_reaches_the_command_and_its_exit_code_comes_back(ready: Path) -> None:
    program = "import sys, time\ntry:\n    print('ready', flush=True)\n    time.sleep(60)\n"
    program += "except KeyboardInterrupt:\n    sys.exit(130)\n"
    process = start(ready, "python", "-c", program)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_unusable_calls_are_one_line_and_exit_code_2(ready: Path) -> None:
    for command, runner, told in [
        ([], "venv", "usage: "),
        (["true"], "podman", "error: RUNNER is 'podman': expected docker, venv"),
        (["true"], "docker", "error: RUNNER=docker, but no Docker engine answers"),
    ]:
        code, output, errors = run(ready, *command, RUNNER=runner)
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith(told)


# ---- .venv


@pytest.mark.slow
@pytest.mark.hostile("packages that a user adds survive, or are refused in one line", cases=6)
def test_first_use_installs_the_hashed_lock_and_ones_own_packages_and_a_change_of_either_installs_again(
    tmp_path: Path,
) -> None:
    project = copy_of_project(tmp_path / "my project")
    lock, own = project / "requirements.txt", project / "requirements-own.txt"
    lock.write_text(locked("threadpoolctl"))
    code, _, errors = run(project, "python", "-c", "import threadpoolctl")
    if re.search(r"(?i)connection|dns|resolution|timed out|network", errors):
        pytest.skip(f"no package registry in reach: {errors.splitlines()[-2]}")
    assert (code, errors.count("\n")) == (0, 1), errors
    assert run(project, "python", "-c", "import threadpoolctl") == (0, "", "")

    if (uv := project / ".venv" / "bin" / "uv").exists():  # from now on it is found on PATH
        shutil.copy(uv, project / "tools")
    lock.write_text(packaging := locked("packaging"))
    own.write_text("# mine\niniconfig")
    code, _, errors = run(project, "python", "-c", "import iniconfig, packaging, threadpoolctl")
    assert code == 1 and "No module named 'threadpoolctl'" in errors
    lock.write_text(f"# changed\n{packaging}")
    assert run(project, "python", "-c", "import iniconfig, packaging")[0] == 0

    for wrong, wrong_own, told in [
        (re.sub("sha256:....", "sha256:0000", packaging), "", "Hash mismatch"),
        (packaging.split(" ")[0], "", "hash"),
        (packaging, "iniconfig\nno-such-package-of-anyone\n", "no-such-package-of-anyone was not found"),
        (packaging, "packaging<20\n", "you require packaging<20 and packaging=="),
    ]:
        lock.write_text(wrong)
        own.write_text(wrong_own)
        code, _, errors = run(project, "true")
        assert (code, told in errors, " + packaging==" in errors) == (1, True, False), errors  # before all is installed
        assert errors.splitlines()[-1].startswith("error: setting up .venv failed")
        assert not (project / ".venv").exists()

    own.unlink()
    code, _, errors = run(project, "python", "-c", "import packaging, iniconfig")
    assert code == 1 and "No module named 'iniconfig'" in errors


def test_moved_project_is_set_up_again(fresh: Path) -> None:
    assert run(fresh, "true")[0] == 0
    moved = fresh.rename(fresh.with_name("moved"))
    code, output, errors = run(moved, "python", "-c", "import common; print(common.__file__)")
    assert (code, output) == (0, f"{moved}/common/__init__.py\n")
    assert errors.startswith("setting up .venv")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_interrupted_set_up_is_never_used(fresh: Path, name: str) -> None:
    (fresh / "hold").touch()
    process = start(fresh, "true")
    wait_for(fresh / "installs")
    installer = int((fresh / "installs").read_text())
    os.killpg(process.pid, signal.Signals[name])
    if name == "SIGKILL":
        os.kill(installer, signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]
    assert (process.returncode, errors.count("\n")) == (-signal.Signals[name], 1), errors
    assert name == "SIGKILL" or not (fresh / ".venv").exists()
    (fresh / "hold").unlink()
    code, _, errors = run(fresh, "python", "-c", "import common")
    assert (code, errors.count("setting up .venv from")) == (0, 1), errors
    assert name == "SIGKILL" or "waiting" not in errors  # no installer was left behind


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock, which this machine lacks")
def test_two_first_calls_at_once_set_up_once(fresh: Path) -> None:
    (fresh / "hold").touch()
    first = start(fresh, "python", "-c", "import common")
    wait_for(fresh / "installs")
    second = start(fresh, "python", "-c", "import common")
    assert second.stderr.readline().startswith("waiting for another call")
    (fresh / "hold").unlink()
    for process in [first, second]:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len((fresh / "installs").read_text().split()) == 1


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("exit 1", "no Python 3.11 to 3.14 on PATH: install one"),
        ("case $2 in *ensurepip*) exit 1 ;; *print*) echo python3.11-venv ;; esac", "sudo apt install python3.11-venv"),
    ],
)
def test_unusable_python_is_told_with_the_remedy(fresh: Path, python: str, told: str) -> None:
    (fresh / "tools" / "uv").unlink()
    executable(fresh / "tools" / "python3", f"#!/bin/sh\n{python}\n")
    for name in ["bash", "cat", "cut", "dirname", "flock", "mktemp", "readlink", "rm", "sha256sum", "shasum", "tail"]:
        if found := shutil.which(name):
            (fresh / "tools" / name).symlink_to(found)
    code, _, errors = run(fresh, "true", PATH=f"{fresh}/tools")
    assert (code, errors.count("\n")) == (1, 3)
    assert told in errors


# ---- Docker


def test_container_is_the_callers_own_and_holds_the_project_at_its_path(docker: Path) -> None:
    call = docker_run(docker, "python", "step_4/train.py", "a b", CI="true", MLFLOW_TRACKING_URI="x", SECRET="y")
    assert call[-4:] == [docker_calls(docker)[-2][2], "python", "step_4/train.py", "a b"]
    pairs = set(pairwise(call))
    assert {
        ("--user", f"{os.getuid()}:{os.getgid()}"),
        ("--workdir", str(docker)),
        ("--mount", f'type=bind,"source={docker}","target={docker}"'),
        *(("--env", name) for name in ("CI", "MLFLOW_TRACKING_URI", f"PYTHONPATH={docker}")),
    } <= pairs
    home = Path(next(b for a, b in pairs if a == "--env" and b.startswith("HOME=")).removeprefix("HOME="))
    assert home.is_dir() and home.is_relative_to(docker)
    assert {"--rm", "--init", "--ipc=host", "--interactive"} <= set(call)
    assert not {"--tty", "--gpus", "--publish", "SECRET"} & set(call)
    assert not (docker / ".venv").exists()


def test_container_gets_gpus_with_the_nvidia_runtime_and_no_user_from_a_rootless_engine(docker: Path) -> None:
    call = docker_run(docker, "true", engine="28.0 [] runtime=nvidia runtime=runc .")
    assert call[call.index("--gpus") + 1] == "all"
    assert "--user" not in docker_run(docker, "true", engine="28.0 [name=rootless] runtime=runc .")


def test_container_sees_named_data_outside_the_project_read_only(docker: Path, tmp_path: Path) -> None:
    photos, pets, weights = tmp_path / "photos, 2024", tmp_path / "pets", tmp_path / "weights"
    photos.mkdir()
    pets.mkdir()
    (passwords := tmp_path / "pgpass").touch()
    paths = [str(photos), f"--weights={pets}/", "../pets", "/no/such", "/bin", str(docker / "common")]
    variables = {"PETS_DIR": str(pets), "TORCH_HOME": str(weights), "PGPASSFILE": str(passwords)}
    call = docker_run(docker, "train", "--data", *paths, **variables)
    assert ("--env", "PGPASSFILE") in pairwise(call)
    assert [b for a, b in pairwise(call) if a == "--mount"] == [
        f'type=bind,"source={docker}","target={docker}"',
        f'type=bind,"source={weights}","target={weights}"',
        f'type=bind,"source={pets}","target={pets}",readonly',
        f'type=bind,"source={passwords}","target={passwords}",readonly',
        f'type=bind,"source={photos}","target={photos}",readonly',
    ]


def test_image_is_built_once_and_again_when_a_file_in_it_or_ones_own_packages_change(docker: Path) -> None:
    sent = re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (.+) \S+$", (PROJECT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(sent) == sorted(" ".join(copied).replace("[t]", "t").split())
    images = [docker_run(docker, "true")[-2]]
    for name in [*sent, "requirements-own.txt"]:
        assert docker_run(docker, "true")[-2] == images[-1]
        with (docker / name).open("a") as file:
            file.write("# changed\n")
        images.append(docker_run(docker, "true")[-2])
    assert [call[2] for call in docker_calls(docker) if call[0] == "build"] == images
    assert len(set(images)) == len(images)


def test_container_has_a_terminal_where_the_caller_has_one(docker: Path) -> None:
    terminal, inside = pty.openpty()
    command = ["bash", docker / "run_script.bash", "true"]
    variables = environment(docker, RUNNER="docker", ENGINE="28.0 [] .")
    subprocess.run(command, env=variables, stdin=inside, stdout=inside, stderr=inside, timeout=60, check=False)
    os.close(terminal)
    os.close(inside)
    assert {"--interactive", "--tty"} <= set(docker_calls(docker)[-1])


def test_inside_the_image_commands_run_as_they_are(docker: Path) -> None:
    assert run(docker, "pwd", REPROAI_IMAGE="1", RUNNER="docker") == (0, f"{docker}\n", "")
    assert not (docker / ".venv").exists() and not (docker / "docker.log").exists()


# ---- the tracking UI


def test_ui_tells_what_is_missing_in_one_line(ready: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        for port, results, told in [
            ("5000x", True, "'5000x': expected a folder with results, or a port from 1 to 65535"),
            ("65536", True, "expected a whole number from 1 to 65535"),
            (str(taken), True, f"port {taken} is taken"),
            ("5000", False, "no results yet (mlflow.db): 'bash run_script.bash python step_2/train.py'"),
        ]:
            (ready / "mlflow.db").touch() if results else (ready / "mlflow.db").unlink()
            code, output, errors = run(ready, port, script="run_mlflow_ui.bash")
            assert (code, output, errors.count("\n")) == (2, "", 1)
            assert told in errors


def test_ui_in_a_container_is_published_to_this_machine_alone(docker: Path) -> None:
    (docker / "mlflow.db").touch()
    call = docker_run(docker, "47113", script="run_mlflow_ui.bash")
    published = {("--publish", "127.0.0.1:47113:47113"), ("--env", "REPROAI_LISTEN=0.0.0.0")}
    assert published <= set(pairwise(call)) and call[-1] == "47113"


def test_ui_of_a_folder_in_a_container_may_mend_that_folder_alone(docker: Path, tmp_path: Path) -> None:
    folder, disk = tmp_path / "results, of HOST", tmp_path / "a disk"
    for new in (folder, disk, docker / "within"):
        new.mkdir()
        (new / "mlflow.db").touch()
    (folder / "mlruns").symlink_to(disk)
    call = docker_run(docker, str(folder), "47113", script="run_mlflow_ui.bash")
    assert [b for a, b in pairwise(call) if a == "--mount"] == [
        f'type=bind,"source={docker}","target={docker}"',
        f'type=bind,"source={folder}","target={folder}"',
        f'type=bind,"source={disk}","target={disk}",readonly',
    ]
    assert call[-2:] == [str(folder), "47113"]
    call = docker_run(docker, str(docker / "within"), script="run_mlflow_ui.bash")
    assert call.count("--mount") == 1 and call[-2:] == [str(docker / "within"), "5000"]
