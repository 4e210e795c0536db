"""Wings can be left out: without their folders the steps run, and what needs one says so in a line."""

import os
import shutil
import subprocess
import sys

import pytest

from common.cli import WINGS
from conftest import PROJECT, copy_code, make_tiny_pets

QUICK = ("--fast", "--root-splits", "1", "--inner-splits", "1", "--device", "cpu", "--precision", "fp32")
PARAMS = "from step_5.configs.fashion_mnist import params  # noqa: F401\n"
QUICK_TESTS = ("test_seeds.py", "test_spaces.py", "test_transforms.py", "test_predictions.py")
EVERY = (*WINGS, "lesson")


@pytest.fixture
def without(tmp_path):
    """A copy of the project less some wings; a function that runs a script in it."""

    def leave_out(*wings):
        copy = copy_code(tmp_path / "project")
        for wing in wings:
            shutil.rmtree(copy / "common" / wing)
        make_tiny_pets(copy / "tiny", n_per_class=20)
        return copy

    return leave_out


def run(folder, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_"))}
    environment = {**kept, "PYTHONPATH": str(folder), **environment}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def refusal(folder, wing):
    """What a user sees who asks for what needs a wing."""
    step = ("step_5/train.py", "--data", "tiny", *QUICK)
    if wing == "eeg":
        done = run(folder, "step_5/train.py", "--data", "eeg", *QUICK)
    elif wing == "engines":
        done = run(folder, *step, "--engine", "tcp://127.0.0.1:1")
    elif wing == "events":
        done = run(folder, *step, KAFKA_HOST="127.0.0.1:1", KAFKA_TOPIC="training")
    elif wing == "evidence":
        done = run(folder, *step, "--waive", "shortcuts", "of no matter")
    elif wing == "medical":
        for name in ("healthy/1.dcm", "lesion/1.dcm"):
            (folder / "scans" / name).parent.mkdir(parents=True)
            (folder / "scans" / name).touch()
        done = run(folder, "step_5/train.py", "--data", "scans", *QUICK)
    elif wing == "params":
        (folder / "my_params.py").write_text(PARAMS)
        done = run(folder, "step_5/train.py", "my_params.py", "--data", "tiny", *QUICK)
    elif wing == "production":
        done = run(folder, *step, "--register", "pets")
    elif wing == "results":
        done = run(folder, *step, REPROAI_DISK="1TB")
    else:
        (folder / "tiny.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: tiny\n")
        done = run(folder, *step)
        (folder / "tiny.dvc").unlink()
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, lines[-1:], len(lines)


def check(folder, wings):
    done = run(folder, "step_5/train.py", "--data", "tiny", "--n-trials", "1", *QUICK)
    assert done.returncode == 0, done.stderr
    for wing in wings:
        if wing != "lesson":
            line = f"error: {WINGS[wing]} needs common/{wing}, which is not here"
            assert refusal(folder, wing) == (2, [line], 1)


@pytest.mark.slow
def test_without_any_wing_step_5_runs_and_what_needs_one_says_which(without):
    check(without(*EVERY), EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("wing", EVERY)
def test_without_one_wing_the_core_holds(wing, without, tmp_path):
    folder = without(wing)
    check(folder, [wing])
    shutil.copytree(PROJECT / "tests", folder / "tests")
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    files = [f"tests/core/{name}" for name in QUICK_TESTS]
    done = run(folder, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, done.stdout
