"""Repeating a finished run: with its own code and data, and with what has changed named."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from PIL import Image

from common.tracking.upkeep import store_uri
from conftest import PROJECT, copy_code, make_tiny_pets


class Repository:
    """A clone with changes that are not committed, and pictures beside it; Python is forked if `forks` are given."""

    def __init__(self, folder, forks=None):
        self.folder, self.forks = folder / "project", forks
        copy_code(self.folder)
        shutil.copy(PROJECT / ".gitignore", self.folder)
        self.pets = make_tiny_pets(folder / "pets", n_per_class=20)
        self.git("init", "--quiet")
        self.commit("first")
        with (self.folder / "step_3" / "train.py").open("a") as script:
            script.write("# not committed\n")

    def git(self, *arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def python(self, *arguments, cores=None, folder=None):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_", "GIT_"))}
        cwd, env = folder or self.folder.parent, {**kept, "PYTHONPATH": str(self.folder), "TQDM_DISABLE": "1"}
        first, *rest = map(str, arguments)
        if self.forks and not cores:
            return self.forks.run(first, rest[first == "-m" :], cwd, env, rest[0] if first == "-m" else None)
        command, pin = [sys.executable, first, *rest], cores and (lambda: os.sched_setaffinity(0, cores))
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, preexec_fn=pin)

    def train(self, step, *arguments):
        done = self.python(self.folder / f"step_{step}/train.py", "--fast", "--json", "--data", self.pets, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])["run_id"]

    def reproduce(self, run_id, *arguments, **options):
        return self.python("-m", "common.tracking.reproduce", run_id, "--yes", *arguments, **options)

    @property
    def client(self):
        return MlflowClient(store_uri(self.folder / "mlflow.db"))

    def change_training(self):
        optimizers = self.folder / "common" / "training" / "optimizers.py"
        before = optimizers.read_text()
        optimizers.write_text(before.replace('{"lr": learning_rate,', '{"lr": 2 * learning_rate,'))
        assert optimizers.read_text() != before

    def prune_always(self, always=True):
        studies = self.folder / "common" / "search" / "studies.py"
        rules = ["return reachable <= best.value or", "return True or"]
        before = studies.read_text()
        studies.write_text(before.replace(*rules) if always else before.replace(*reversed(rules)))
        assert studies.read_text() != before


@pytest.fixture
def repository(empty_stores, forks, tmp_path):
    repository = Repository(tmp_path, forks)
    shutil.copy(empty_stores / "mlflow.db", repository.folder)
    return repository


def test_a_run_is_repeated_with_its_own_code_and_in_place_with_the_code_of_now(repository):
    run_id = repository.train(3, "--root-splits", 1, "--n-jobs", 1, "--precision", "measure")
    before = repository.client.get_run(run_id).to_dictionary()
    repository.change_training()
    repository.commit("another learning rate")
    done = repository.reproduce(run_id)
    assert (done.returncode, "verdict: bitwise identical" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "changed: nothing" in done.stdout
    assert repository.client.get_run(run_id).to_dictionary() == before
    children = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.run_level = 'reproduction'"
    (tracked,) = repository.client.search_runs([before["info"]["experiment_id"]], children)
    assert (tracked.data.tags["verdict"], tracked.info.status) == ("bitwise identical", "FINISHED")
    assert [path.name for path in (repository.folder / ".git").glob("worktrees/*")] == []

    done = repository.reproduce(run_id, "--in-place", "--only", "root_split=0")
    verdict = done.stdout.split("verdict: ")[1].splitlines()[0]
    assert (done.returncode, verdict) in [(0, "within tolerance"), (1, "differs")]
    assert "changed: code of " in done.stdout
    assert "they part at root split 0, trial 0, inner split 0, warm-up, epoch 1: " in done.stdout
    assert "the standard error over its 2 folds" in done.stdout


@pytest.mark.slow
@pytest.mark.hostile("reproduce finds equal what is equal, and says where two runs part", cases=2)
def test_what_was_pruned_is_compared_as_pruned_however_many_folds_ran_side_by_side(repository):
    repository.prune_always()
    repository.commit("each trial but the first is pruned after one fold")
    run_id = repository.train(4, "--n-trials", 3, "--n-jobs", 2)  # an outer fold a process: its fits one by one
    done = repository.reproduce(run_id, "--only", "root_split=1")  # its fits side by side
    assert (done.returncode, "verdict: bitwise identical" in done.stdout) == (0, True), done.stdout + done.stderr
    assert re.search(r"\nmean test ROC AUC 0\.\d{3} then, 0\.\d{3} now\n", done.stdout)

    repository.prune_always(False)
    done = repository.reproduce(run_id, "--in-place", "--only", "root_split=1")
    parting = (
        r"they part at root split 1, trial [12], inner split 1, warm-up, epoch 0: dev_accuracy pruned then, 0\.\d+ now"
    )
    assert re.search(parting, done.stdout), done.stdout + done.stderr


@pytest.mark.slow
def test_what_cannot_be_repeated_says_what_is_missing(repository):
    run_id = repository.train(2)
    Image.new("RGB", (40, 40), "red").save(repository.pets / "images" / "Bengal_1.jpg")
    done = repository.reproduce("0" * 32)
    assert (done.returncode, done.stderr) == (2, f"error: run {'0' * 32}: no such run\n")
    assert repository.reproduce(run_id, "--only", "fold=1").stderr == "error: --only fold=1: expected root_split=K\n"
    done = repository.reproduce(run_id)
    assert "changed: data\n" in done.stdout, done.stdout + done.stderr
    assert "verdict: bitwise identical" not in done.stdout
    shutil.rmtree(repository.folder / ".git")
    repository.git("init", "--quiet")
    done = repository.reproduce(run_id)
    assert done.returncode == 2
    assert "its code is not here" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 5])
def test_a_run_of_each_step_repeats_bitwise(step, repository):
    run_id = repository.train(step)
    done = repository.reproduce(run_id)
    assert (done.returncode, "verdict: bitwise identical" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.slow
def test_other_threads_and_other_packages_are_named(repository):
    run_id = repository.train(3, "--root-splits", 1, "--inner-splits", 1)
    client = repository.client
    identity = json.loads(client.get_run(run_id).data.tags["identity"]) | {"packages": "other"}
    client.set_tag(run_id, "identity", json.dumps(identity))
    packages = client.download_artifacts(run_id, "provenance/packages.txt")
    with open(packages) as file:
        text = file.read()
    numpy = next(line for line in text.splitlines() if line.startswith("numpy=="))
    client.log_text(run_id, text.replace(numpy, "numpy==1.0"), "provenance/packages.txt")
    done = repository.reproduce(run_id, cores={min(os.sched_getaffinity(0))})
    assert f"changed: packages: {numpy} (was numpy==1.0)\n" in done.stdout, done.stdout + done.stderr
    assert ", 1 threads, cpu" in done.stdout and "changed: machine" in done.stdout


@pytest.mark.slow
def test_a_photo_of_the_splits_that_has_changed_stops_the_repetition(repository):
    run_id = repository.train(3, "--root-splits", 1, "--inner-splits", 1, "--n-jobs", 1)
    Image.new("RGB", (40, 40), "red").save(repository.pets / "images" / "Bengal_1.jpg")
    done = repository.reproduce(run_id)
    assert done.returncode == 2
    assert "Bengal_1.jpg" in done.stderr and f"run {run_id} cannot be repeated" in done.stderr
