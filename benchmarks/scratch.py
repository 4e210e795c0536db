"""A copy of the project that a row runs in, so that the user's runs, caches and data stay as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from common.cli import UserError
from common.state import PROJECT

FOLDERS = ("common", "benchmarks", *(f"step_{step}" for step in range(1, 6)))
FILES = ("requirements.txt", "run_script.bash", ".gitignore")
IDENTITY = ("-c", "user.name=benchmarks", "-c", "user.email=benchmarks@localhost")


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as path:
        yield Path(path).resolve()


@contextmanager
def copied_project(drawn: Path | None) -> Iterator[Path]:
    """A copy of the code in a git repository of its own, with `drawn` as its drawn pets and nothing in its caches."""
    ignored = shutil.ignore_patterns("outputs", "results", "__pycache__", "*.ipynb")
    with folder() as parent:
        copy = parent / "project"
        copy.mkdir()
        for name in FOLDERS:
            shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
        for name in FILES:
            shutil.copy(PROJECT / name, copy)
        if drawn is not None:
            shutil.copytree(drawn, copy / "data" / "drawn", ignore=shutil.ignore_patterns("*.json"))
        with suppress(OSError, subprocess.CalledProcessError):
            for command in (["init"], ["add", "--all"], [*IDENTITY, "commit", "--message", "copy"]):
                subprocess.run(["git", *command], cwd=copy, check=True, capture_output=True)
        yield copy


def run(
    command: Sequence[object],
    project: Path,
    bar: tqdm | None = None,
    show_errors: bool = False,
    **variables: str,
) -> tuple[float, str]:
    """Run a command in a copy of the project; returns its wall time in seconds and what it printed.

    Parameters
    ----------
    bar : tqdm, optional
        Its clock goes on meanwhile.
    show_errors : bool
        Whether the command's standard error, with its progress bars, is this process's.
    variables : str
        Of the environment.

    Raises
    ------
    UserError
        When the command fails.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_", "GIT_"))}
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=project,
        env={**kept, "PYTHONPATH": str(project), "MLFLOW_DISABLE_TELEMETRY": "true", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if show_errors else subprocess.PIPE,
        text=True,
    )
    try:
        printed, errors = _communicate(process, bar)
    except BaseException:
        process.terminate()
        process.communicate()
        raise
    seconds = time.perf_counter() - started
    if process.returncode:
        last = (errors or "its error is above").strip().splitlines()[-1]
        raise UserError(f"{' '.join(map(str, command))}: exit code {process.returncode}: {last}")
    return seconds, printed


def _communicate(process: subprocess.Popen, bar: tqdm | None) -> tuple[str, str | None]:
    while True:
        try:
            return process.communicate(timeout=1 if bar is not None and os.isatty(2) else None)
        except subprocess.TimeoutExpired:
            bar.refresh()
