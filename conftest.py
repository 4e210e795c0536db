"""Lessons: a cell tagged ``close`` holds when its stored numbers are a run's, within a tolerance."""

import functools
import math
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # tests share the cores: threads that wait must not spin
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's do, for 25 ms after each product

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Another processor changes the last bits of a training, and now and then the rank of a picture: a ROC AUC
# of a few hundred pictures then moves by far less than this.
TOLERANCE = 0.05
LONGEST = {"lesson", "test_steps", "test_killed", "test_tracking_server", "test_remote", "test_audit", "test_events"}
LONGEST |= {
    "test_postgresql",
    "test_own_runs",
    "test_report",
    "test_killed_results",
    "test_moved_runs",
    "test_round_trip",
}
"""Files that begin first, so that none is left to one process at the end; lesson 1 draws what the others read."""


MEMORY = Path("/dev/shm")


def pytest_configure():
    """Temporary files lie in memory where there is room and programs may run: databases then wait for no disk."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir() or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 6 * 2**30:
        os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Memory is given back, unless a test failed."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if exitstatus == 0 and factory is not None and not session.config.option.basetemp:
        base = factory.getbasetemp()
        if base.is_relative_to(MEMORY):
            shutil.rmtree(base, ignore_errors=True)


def pytest_xdist_auto_num_workers():
    """Three on two cores, as tests wait for a third of their time; else xdist counts the cores."""
    return 3 if os.cpu_count() == 2 else None


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (item.path.stem not in LONGEST, not item.path.match("step_1/lesson.ipynb")))
    for item in items:
        if "close" in getattr(item, "cell", {}).get("metadata", {}).get("tags", []):
            item.options["check"] = True
            item.compare_outputs = functools.partial(_compare_closely, item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """A lesson has one core, where no fewer tests than cores run at once: threads of a step wait for the last of them.

    Its kernel, which begins with its first cell, keeps the core; other tests go where there is room.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0))
    if not hasattr(item, "cell") or not hasattr(os, "sched_setaffinity") or not workers:
        return (yield)
    cores = sorted(os.sched_getaffinity(0))
    if workers >= len(cores):
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        return (yield)
    finally:
        os.sched_setaffinity(0, cores)


def _compare_closely(item, run, stored, skip_compare=None):
    found, expected = _text(run), _text(stored)
    numbers = list(zip(NUMBER.findall(found), NUMBER.findall(expected), strict=False))
    close = all(math.isclose(float(a), float(b), abs_tol=TOLERANCE, rel_tol=TOLERANCE) for a, b in numbers)
    if close and NUMBER.sub("#", found).split() == NUMBER.sub("#", expected).split():
        return True
    item.comparison_traceback = [f"stored in the notebook:\n{expected}\na run now gives:\n{found}"]
    return False


def _text(outputs):
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)
