"""Fixtures: tiny pictures, the real photos, and a copy of the project that scripts run in."""

import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_pets import make_tiny_pets

PROJECT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    help_dir = "a step's folder for test_step_contract.py to check; a relative path starts at the project folder"
    parser.addoption("--step-dir", action="append", default=[], metavar="FOLDER", help=help_dir)
    help_step = "which step's behaviours it promises, where its train.py does not say so"
    parser.addoption("--step", type=int, metavar="N", help=help_step)


def pytest_configure(config):
    for name in config.getoption("--step-dir"):
        if not (PROJECT / name / "train.py").is_file():
            found = "no train.py in it" if (PROJECT / name).is_dir() else "no such folder"
            start = "" if Path(name).is_absolute() else f" (a relative path starts at {PROJECT})"
            raise pytest.UsageError(f"--step-dir {name}: {found}{start}; expected the folder of a step")
        config.option.verbose = max(1, config.option.verbose)


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("hostile"):  # reports carry properties to the process that sums up, not markers
            item.user_properties.append(("promise", [mark.args[0], mark.kwargs.get("cases", 1)]))


def pytest_terminal_summary(terminalreporter, config):
    """The table of promises, when they are what was asked for: ``pytest -m hostile``."""
    if "hostile" not in config.option.markexpr:
        return
    counts = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for promise, cases in (value for name, value in report.user_properties if name == "promise"):
                counts.setdefault(promise, Counter())[outcome] += cases
    terminalreporter.section("promises: cases tried, held")
    for promise, found in sorted(counts.items()):
        skipped = f", {found['skipped']} skipped" if found["skipped"] else ""
        terminalreporter.line(f"{found.total() - found['skipped']:5} {found['passed']:5}  {promise}{skipped}")


@pytest.fixture(scope="session")
def project(empty_stores, tmp_path_factory):
    """A copy of the code, so that the scripts' state (runs, caches, data) is not the developer's."""
    folder = copy_code(tmp_path_factory.mktemp("project") / "with a space")
    put_stores(empty_stores, folder)
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, make)`` is a folder that `make` has filled, once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def made(name, make):
        folder = shared / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                part = tmp_path_factory.mktemp(name)
                make(part)
                part.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def empty_stores(once):
    """A folder with empty databases of MLflow and Optuna, which take seconds to make."""

    def make(folder):
        from common.search.studies import connect
        from common.tracking.upkeep import look_after

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REPROAI_STATE", str(folder))
            patch.delenv("OPTUNA_STORAGE", raising=False)
            connect()
        look_after(folder / "mlflow.db")

    return once("empty_stores", make)


def put_stores(empty, folder):
    """Databases into a folder that has none yet; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow.db", "optuna.db"):
        if not (folder / name).exists():
            shutil.copy(empty / name, folder)


@pytest.fixture(scope="session")
def blank_home(once, empty_stores):
    """A folder with empty databases that know the experiment of step 5, as :mod:`kept_results` adds runs to it."""

    def make(folder):
        from common.tracking.store import open_store

        put_stores(empty_stores, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REPROAI_STATE", str(folder))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            open_store("step_5")
        for name in ("cache", "mlruns"):
            shutil.rmtree(folder / name, ignore_errors=True)

    return once("blank_home", make)


@pytest.fixture
def new_home(blank_home, monkeypatch):
    """``new_home(folder)`` makes a folder the one that keeps results; if there is none, a copy of `blank_home`."""

    def home(folder):
        if not folder.exists():
            shutil.copytree(blank_home, folder)
        monkeypatch.setenv("REPROAI_STATE", str(folder))
        return folder

    return home


@pytest.fixture
def home(new_home, tmp_path, monkeypatch):
    """The folder that keeps results: new, with empty databases, and nothing kept elsewhere."""
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "REPROAI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return new_home(tmp_path / "home")


def copy_code(folder):
    """Copy what scripts need into a new folder, with what Python has compiled of it already; returns it."""
    for name in ("common", *(f"step_{i}" for i in range(1, 6))):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("outputs", "*.pyc.*"))
    shutil.copy(PROJECT / "requirements.txt", folder)
    return folder


@pytest.fixture(scope="session")
def forks():
    """Runs scripts in processes that have imported the libraries already."""
    from forking import Forks

    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def run_script(project, empty_stores, forks):
    """Runs ``python <script> <arguments>`` of the copied project, from another folder, as a user would."""

    def run(script, *arguments, folder=None, prefix=(), **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_"))}
        path, env = (folder or project) / script, {**kept, "PYTHONPATH": str(folder or project), **environment}
        if "REPROAI_STATE" in environment and "MLFLOW_TRACKING_URI" not in environment:
            put_stores(empty_stores, Path(environment["REPROAI_STATE"]))
        if not prefix:
            return forks.run(path, arguments, project.parent, env)
        command = [*prefix, sys.executable, str(path), *map(str, arguments)]
        return subprocess.run(command, cwd=project.parent, env=env, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def killer(few_pets, empty_stores, tmp_path_factory):
    """Runs scripts that are ended at any moment, in a copy of the project of its own."""
    from killing import Killer

    killer = Killer(tmp_path_factory.mktemp("killed"), few_pets, empty_stores)
    yield killer
    killer.close()


@pytest.fixture(scope="session")
def undisturbed(once, killer):
    """``undisturbed(step)`` is what a run of the killer leaves that nobody disturbs."""

    def of(step):
        make = lambda folder: (folder / "left").write_bytes(pickle.dumps(killer.undisturbed(step)))  # noqa: E731
        return pickle.loads((once(f"undisturbed_{step}", make) / "left").read_bytes())

    return of


@pytest.fixture
def slurm(slurm_of_all_tests):
    """A SLURM with two idle nodes; one for all tests, so jobs have numbers that go on."""
    yield slurm_of_all_tests
    slurm_of_all_tests.mend()


@pytest.fixture(scope="session")
def slurm_of_all_tests():
    import tempfile

    from slurm_cluster import Slurm, why_not

    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Slurm(Path(folder)) as slurm:
        yield slurm


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium that fetches nothing but what it is sent to."""
    from browsing import chromium

    with chromium(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture(scope="session")
def tiny_pets(tmp_path_factory):
    """24 pictures in Oxford layout, 40 px, each of another animal: cats are bright at the top, dogs at the bottom."""
    return make_tiny_pets(tmp_path_factory.mktemp("tiny") / "tiny_pets")


@pytest.fixture(scope="session")
def few_pets(tmp_path_factory):
    """80 of them: enough for scores that differ in their digits."""
    return make_tiny_pets(tmp_path_factory.mktemp("few") / "few_pets", n_per_class=40)


@pytest.fixture(scope="session")
def pets_dir():
    """The folder of real photos."""
    if not os.environ.get("PETS_DIR"):
        pytest.skip("PETS_DIR is not set: it names a folder of Oxford-IIIT Pet photos (images/Breed_1.jpg, …)")
    return Path(os.environ["PETS_DIR"])
