"""A delete, an import or a tidy that is killed at any moment leaves nothing half: the same command finishes it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from kept_results import everything, leave_checkpoint, make_run, of_run
from killing import FORKER

from common import results
from common.results.opening import open_trees
from common.state import state_folder
from common.tracking.upkeep import look_after

IMPORTS = "import common.results.deleting, common.results.importing, common.results.space, common.results.__main__\n"


MANY = 20, 10
"""Moments, and fits of a run."""


class Commands:
    """Runs ``python -m common.results`` in processes forked from one that has imported it all."""

    def __init__(self, folder):
        self.log = folder / "log"
        self._forker = subprocess.Popen(
            [sys.executable, "-c", IMPORTS + FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *argv, after=None):
        """Its exit code, and the seconds that it took; killed after so many."""
        environment = {"REPROAI_STATE": str(state_folder())}
        job = {"module": "common.results.__main__", "argv": [*map(str, argv)], "log": str(self.log), "limit": 0}
        self._forker.stdin.write(json.dumps(job | {"environment": environment}) + "\n")
        self._forker.stdin.flush()
        pid, begin = int(self._forker.stdout.readline()), time.monotonic()
        if after is not None:
            time.sleep(after)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self._forker.stdout.readline()), time.monotonic() - begin

    def close(self):
        self._forker.stdin.close()
        self._forker.wait()


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "REPROAI_CACHE"):
            patch.delenv(name, raising=False)
        commands = Commands(tmp_path_factory.mktemp("commands"))
        yield commands
        commands.close()


@pytest.fixture
def copies(new_home, tmp_path, monkeypatch):
    """Makes a copy of the folder of results the one in use; the first call says what is copied."""
    new_home(tmp_path / "first")
    count = iter(range(1000))

    def copy():
        folder = tmp_path / f"copy {next(count)}"
        shutil.copytree(tmp_path / "first", folder)
        monkeypatch.setenv("REPROAI_STATE", str(folder))
        look_after(folder / "mlflow.db")

    return copy


def moments(commands, copies, number, *argv):
    """So many moments in the time that an undisturbed command takes; a command that was killed is really killed."""
    seconds = 60.0
    for _ in range(2):  # the first one may be slow
        copies()
        code, took = commands.run(*argv)
        assert code == 0, commands.log.read_text()
        seconds = min(seconds, took)
    wanted = everything()
    rng = random.Random(number)
    killed = 0
    for part in range(number):  # one in each part of the time
        copies()
        code, _ = commands.run(*argv, after=seconds * (0.02 + 0.93 * (part + rng.random()) / number))
        killed += code < 0
        yield code, wanted
    assert killed >= number / 2


def without_paths(found):
    """What a folder keeps, but for where it lies and for what says when or by which number a row was made."""
    names = (name for name in found if not name.endswith(".backup"))
    return {name for name in names if not name.startswith(("mlflow.db", "optuna.db"))}


def counts(found):
    """Rows by table."""
    tables = [" ".join(name.split()[:2]) for name in found if name.startswith(("mlflow.db", "optuna.db"))]
    return {table: tables.count(table) for table in tables}


def same(wanted):
    found = everything()
    assert without_paths(found) == without_paths(wanted) and counts(found) == counts(wanted)


@pytest.mark.parametrize(("number", "fits"), [(2, 4), pytest.param(*MANY, marks=pytest.mark.slow)])
def test_a_killed_delete_leaves_a_run_whole_or_is_finished_by_the_same_command(number, fits, commands, copies):
    make_run(1, model=True)
    run_id = make_run(2, "scans", fits=fits, model=True)
    leave_checkpoint(run_id)
    ids, models = open_trees().below(run_id)
    untouched = without_paths({n: 1 for n in everything() if not of_run([n], [*ids, *models]) and "-" not in n})
    for _, wanted in moments(commands, copies, number, "delete", run_id, "--yes"):
        table = results.list_runs()
        if run_id in set(table["run"]):  # not begun: all of it is there
            assert len(open_trees().below(run_id)[0]) == len(ids)
        code, _ = commands.run("delete", run_id, "--yes")
        assert code == 0 or "no such root run" in commands.log.read_text()
        same(wanted)
        assert untouched <= without_paths(everything())


@pytest.mark.slow
def test_a_killed_import_shows_a_run_whole_or_not_at_all(commands, copies, new_home, tmp_path):
    number, fits = MANY
    new_home(tmp_path / "source")
    run_id = make_run(2, "scans", fits=fits, model=True)
    path = results.export_runs([run_id], tmp_path / "results.zip")
    n_runs, n_artifacts = len(open_trees().below(run_id)[0]), len(list(state_folder().rglob("notes.txt")))
    new_home(tmp_path / "first")
    make_run(1, model=True)
    for _, wanted in moments(commands, copies, number, "import", path):
        if run_id in set(results.list_runs()["run"]):
            assert len(open_trees().below(run_id)[0]) == n_runs
            assert len(list(state_folder().rglob("notes.txt"))) == n_artifacts + 6
        assert commands.run("import", path)[0] == 0, commands.log.read_text()
        same(wanted)


@pytest.mark.slow
def test_a_killed_tidy_is_finished_by_the_same_command(commands, copies):
    number, fits = MANY
    for seed in range(3):
        make_run(seed, f"data {seed}", fits=fits)
    for _, wanted in moments(commands, copies, number, "tidy", "--keep-networks", "best", "--yes"):
        assert commands.run("tidy", "--keep-networks", "best", "--yes")[0] == 0
        same(wanted)
        assert len(list(state_folder().rglob("model.safetensors"))) == 3
