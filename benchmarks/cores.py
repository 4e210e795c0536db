"""Row cores: step 3 in two processes against one."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, alternate, at_least, minima, progress
from benchmarks.limit import figure_of, limit_and_aim, loops
from common.state import PROJECT

NORMAL = (1, ["--root-splits", "8", "--inner-splits", "4"])
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": (1, ["--fast"])}
SECONDS = {"normal": 5.0, "full": 5.0, "fast": 0.2}
"""Of each loop that measures the machine's limit."""


def measure(size_name: str, source: Path) -> list[Figure]:
    """Time by the script and of the whole process, and whether both give one score."""
    repetitions, flags = SIZES[size_name]
    outcomes: dict[str, dict] = {}
    inside: dict[str, list[float]] = {"1 job": [], "2 jobs": []}

    def run(name: str, n_jobs: int, bar, *more: str) -> float:
        command = [sys.executable, "step_3/train.py", "--n-jobs", n_jobs, "--json", *flags, *more]
        seconds, printed = scratch.run(command, PROJECT, bar)
        outcomes[name] = json.loads(printed.strip().splitlines()[-1])
        inside[name].append(outcomes[name]["seconds"])
        return seconds

    with progress("cores", 2 * repetitions + 1) as bar:
        run("2 jobs", 2, bar, "--root-splits", "1")  # draws the images, fills the caches
        inside["2 jobs"].clear()
        bar.update()
        measured_loops = [loops(SECONDS[size_name])]
        sides = {name: partial(run, name, number, bar) for number, name in enumerate(inside, start=1)}
        whole = minima(alternate(sides, repetitions, bar))
        measured_loops.append(loops(SECONDS[size_name]))
    script = minima(inside)
    scores = {name: outcomes[name]["test_roc_auc"] for name in inside}
    same = scores["1 job"] == scores["2 jobs"]
    taken = f"minima of {repetitions}"
    note = f"{outcomes['1 job']['fits']} fits of step 3, one thread each"
    _, aim = limit_and_aim(measured_loops)
    figures = [figure_of("cores", measured_loops, note)]
    for what, seconds in (("seconds by the script", script), ("whole process", whole)):
        ratio = at_least(seconds["1 job"] / seconds["2 jobs"], aim)
        figures.append(Figure("cores", f"1 / 2 processes: {what}", seconds, "s", **ratio, taken=taken, note=note))
    ratio = scores["2 jobs"] / scores["1 job"]
    return [*figures, Figure("cores", "1 / 2 processes: test ROC AUC", scores, "", ratio, "equal", same, "last run")]
