"""Row first: step 4 with its defaults, from the command line to its table."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, at_most, progress
from common.state import PROJECT

MOST_SECONDS = 60
BEFORE, AFTER = "no images yet", "images and caches there"
SIZES = {"normal": [], "full": [], "fast": ["--fast", "--n-trials", "1", "--root-splits", "1"]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Seconds to the table with nothing there but the environment, and with images and caches there."""
    found = {}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "run_script.bash", "python", "step_4/train.py", *SIZES[size_name]]
    for name in ("data", "cache"):
        shutil.rmtree(PROJECT / name, ignore_errors=True)
    with progress("first", 2) as bar:
        for state in (BEFORE, AFTER):
            found[state], _ = scratch.run(command, PROJECT, bar, RUNNER="none", PATH=paths)
            bar.update()
    return [
        Figure(
            "first",
            f"step 4 / {MOST_SECONDS} s: {state}",
            {"": seconds},
            "s",
            **(at_most(seconds / MOST_SECONDS, 1) if state == AFTER else {"ratio": seconds / MOST_SECONDS}),
            note="the aim is for a quiet machine with 2 cores",
        )
        for state, seconds in found.items()
    ]
