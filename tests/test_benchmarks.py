"""Benchmarks: the rows run from end to end, and leave the user's project as it was."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.figures import Figure
from benchmarks.page import PAGE, page_of, stored_page
from conftest import PROJECT, copy_code

ROWS = [
    "usual",
    "bare",
    "tracking",
    "growth",
    "first",
    "precision",
    "pruning",
    "sampler",
    "coverage",
    "idx",
    "engines",
    "leaks",
]


@pytest.fixture
def copy(tmp_path):
    """A project with images, runs and caches that are not to be touched."""
    folder = copy_code(tmp_path / "project")
    shutil.copytree(PROJECT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("*.json"))
    for name in ("run_script.bash", ".gitignore"):
        shutil.copy(PROJECT / name, folder)
    for name in ("mlflow.db", "optuna.db", "cache/images.npy", "data/drawn/images/Bengal_1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("the user's")
    return folder


def benchmarks(folder, *flags):
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "benchmarks", *flags]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def check(folder, rows):
    before = state(folder)
    done = benchmarks(folder, "--fast", "--rows", ",".join(rows))
    assert done.returncode == 0, done.stderr
    new = {path: stamp for path, stamp in state(folder).items() if before.get(path) != stamp}
    (path,) = new
    assert path.parent == folder / "benchmarks" / "results" and len(state(folder)) == len(before) + 1

    table = done.stdout.splitlines()
    assert table[0].split()[:4] == ["row", "measured", "values", "ratio"]
    assert list(dict.fromkeys(line.split()[0] for line in table[2 : table.index("")])) == rows
    assert table[-1].startswith(f"done: {len(rows)} of {len(rows)} rows in ") and table[-1].endswith(path.name)

    results = json.loads(path.read_text())
    assert results["machine"].keys() > {"torch", "bf16_instructions"} and results["machine"]["cores"] >= 1
    assert list(dict.fromkeys(figure["row"] for figure in results["figures"])) == rows
    assert all(isinstance(figure["ratio"], float) for figure in results["figures"])


@pytest.mark.slow
def test_rows_end_with_a_table_and_a_file_and_touch_nothing_of_the_users(copy):
    check(copy, ["bare"])


@pytest.mark.slow
def test_all_rows_run(copy):
    check(copy, ROWS)


def test_the_page_of_measurements_is_made_from_the_stored_run():
    figures = [Figure("bare", "a | b", {"a": 1234.5, "b": 2.0}, "s", 617.25, "at least 2", True, note="two sides")]
    figures += [Figure("first", "step 4 / 60 s", {"": 70.0}, "s", 1.1667, "at most 1", False)]
    machine = {"cores": 2, "cpu": "some", "memory_gib": 24.0, "gpu": None, "python": "3.12", "torch": "2.13"}
    results = {"began": "2026-01-02T03:04:05", "seconds": {"bare": 60, "first": 90.0}, "machine": machine}
    results["machine"]["load_average"] = 0.5
    results["figures"] = [vars(figure) for figure in figures]
    later = {**results, "began": "2026-01-03T03:04:05", "seconds": {"first": 90.0}, "figures": results["figures"][1:]}
    later["machine"] = {**machine, "cpu": "other"}
    page = page_of(results, [later]).splitlines()
    assert "- Aims met: 1 of 2." in page
    assert "- When, and how long: 2026-01-02, 2 minutes. Load when it ended: 0.5." in page
    assert page[page.index("## Alone: first") + 2 :][:4] == [
        "`python -m benchmarks --rows first`",
        "",
        "- On: 2 cores (other), 24 GiB of memory, no GPU, Python 3.12, PyTorch 2.13.",
        "- When, and how long: 2026-01-03, 2 minutes. Load when it ended: 0.5.",
    ]
    assert page[page.index("## bare") + 2 :][:3] == [
        "| measured | values | ratio | aim | met | values are |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a / b | a 1,234, b 2 s | 617 | at least 2 | yes | one run each |",
    ]
    assert "Two sides." in page and "| step 4 / 60 s | 70 s | 1.17 | at most 1 | no | one run each |" in page
    assert PAGE.read_text() == stored_page()


def test_help_lists_the_rows_and_loads_nothing_heavy():
    code = "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('benchmarks', run_name='__main__')"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], cwd=PROJECT, capture_output=True, text=True)
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert done.returncode == 0 and all(row in done.stdout for row in ROWS)
    assert "benchmarks" in loaded and not loaded & {"torch", "torchvision", "mlflow", "optuna", "pandas", "PIL"}


@pytest.mark.parametrize(("flags", "found"), [("--rows bare,usualy", "'usualy'"), ("--data nowhere", "'nowhere'")])
def test_a_wrong_flag_is_refused_in_one_line(flags, found):
    done = benchmarks(PROJECT, *flags.split())
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and found in done.stderr
