"""Row first: step 4 with its defaults, from the command line to its table."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

from benchmarks import scratch
from benchmarks.engines import times_of_fits
from benchmarks.figures import Figure, at_most, progress
from common.state import PROJECT

MOST_SECONDS = 60
MOST_BEFORE_FITS, MOST_AFTER_FITS, MOST_FOR_FITS = 5, 1.5, 1.25
BEFORE, AFTER = "no images yet", "images and caches there"
SIZES = {"normal": [], "full": [], "fast": ["--fast", "--n-trials", "1", "--root-splits", "1"]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Seconds to the table with nothing there but the environment, and with images and caches there."""
    found, fits = {}, {}
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "run_script.bash", "python", "step_4/train.py", "--json", *SIZES[size_name]]
    for name in ("data", "cache"):
        shutil.rmtree(PROJECT / name, ignore_errors=True)
    with progress("first", 2) as bar:
        for state in (BEFORE, AFTER):
            began = time.time()
            found[state], printed = scratch.run(command, PROJECT, bar, RUNNER="none", PATH=paths)
            fits[state] = [moment - began for moment in times_of_fits(json.loads(printed.splitlines()[-1])["run_id"])]
            bar.update()
    begin, end = fits[AFTER]
    whole, rest = found[AFTER], found[AFTER] - end
    parts = (
        ("until the first fit begins", begin, MOST_BEFORE_FITS),
        ("from the last fit's end to the command's", rest, MOST_AFTER_FITS),
    )
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
    ] + [
        *(
            Figure("first", f"{what} / {most:g} s", {"": part}, "s", **at_most(part / most, 1))
            for what, part, most in parts
        ),
        Figure(
            "first",
            f"step 4 / its fits: {AFTER}",
            {"step 4": whole, "fits": end - begin},
            "s",
            **at_most(whole / (end - begin), MOST_FOR_FITS),
            note="fits: from the first one's begin to the last one's end",
        ),
    ]
