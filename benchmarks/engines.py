"""Row engines: a search in one process, in two, on two Dask workers, on two SLURM nodes; and fits that only sleep."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, alternate, at_least, at_most, minima, minima_of, progress
from benchmarks.limit import figure_of, limit_and_aim, loops
from common.cli import UserError
from common.state import PROJECT, state_folder

BEHIND_PROCESSES = 1.05
OWN_CPU = 0.05
BUSY = 0.95
FLAT = 1.1
SEARCH = ("--root-splits", "4", "--inner-splits", "2", "--n-trials", "3")


@dataclass(frozen=True)
class Size:
    """Flags of step 4, how often, seconds of a bare loop, and of the idle fits: workers, fits, seconds, bytes."""

    flags: tuple[str, ...]
    repetitions: int
    loop: float
    idle: tuple[int, int, float, int]


NORMAL = Size(SEARCH, 1, 5.0, (256, 2048, 5.0, 1_000_000))
SIZES = {
    "normal": NORMAL,
    "full": Size(SEARCH, 3, NORMAL.loop, NORMAL.idle),
    "fast": Size(("--fast", "--root-splits", "2", "--inner-splits", "1"), 1, 0.2, (16, 64, 0.2, 1000)),
}


@dataclass
class Searches:
    """What the searches of each side were like.

    Attributes
    ----------
    parts, starts, cpu : dict from side to list of float
        Seconds from the first fit's beginning to the last one's end; before that; and milliseconds of the script's own
        processor time for each fit after the first quarter, when all is imported.
    scores : dict from side to float
    """

    parts: dict[str, list[float]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, flags: tuple[str, ...], bar, cluster: Callable = nullcontext, before=()) -> float:
        """A search; returns the seconds of its fits' part."""
        began = time.time()
        script = [sys.executable, *before, str(PROJECT / "benchmarks" / "engines_script.py")]
        with cluster() as address:
            engine = ["--engine", address] if address else []
            _, printed = scratch.run([*script, "--json", "--fresh", *flags, *engine], PROJECT, bar)
        result, at_fit = map(json.loads, printed.strip().splitlines()[-2:])
        first, last = times_of_fits(result["run_id"])
        self.parts.setdefault(name, []).append(last - first)
        self.starts.setdefault(name, []).append(first - began)
        later = at_fit[len(at_fit) // 4 :]
        self.cpu.setdefault(name, []).append(1000 * (later[-1] - later[0]) / max(1, len(later) - 1))
        self.scores[name] = result["test_roc_auc"]
        return last - first


def measure(size_name: str, source: Path) -> list[Figure]:
    """The searches of each side that this machine has, in turns, and then the idle fits."""
    size, searches = SIZES[size_name], Searches()
    has_dask = find_spec("distributed") is not None
    why_not = {
        "2 Dask workers": None if has_dask else "Dask is not installed, extra `cluster`",
        "2 SLURM nodes": _no_slurm() if has_dask else "it needs Dask, extra `cluster`",
    }
    own = {
        "1 process": {"flags": ("--n-jobs", "1")},
        "2 processes": {"flags": ("--n-jobs", "2")},
        "2 Dask workers": {"cluster": partial(_dask, 2)},
        "2 SLURM nodes": {"before": ("-m", "common.engines", "slurm", "--workers", "2", "--", "python")},
    }
    kinds = ("threads", "dask") if has_dask else ("threads",)
    there = [name for name in own if not why_not.get(name)]
    with progress("engines", 1 + size.repetitions * len(there) + len(kinds)) as bar:
        for name in own.keys() - there:
            bar.write(f"row engines: {name} were not measured: {why_not[name]}", file=sys.stderr)
        Searches().run("caches", (*size.flags, "--root-splits", "1", "--n-trials", "1", "--n-jobs", "1"), bar)
        bar.update()
        measured_loops = [loops(size.loop)]
        sides = {}
        for name in there:
            flags = (*size.flags, *own[name].pop("flags", ()))
            sides[name] = partial(searches.run, name, flags, bar, **own[name])
        alternate(sides, size.repetitions, bar)
        measured_loops.append(loops(size.loop))
        missing = "".join(f"; {name} were not measured: {why}" for name, why in why_not.items() if why)
        found = _of_searches(searches, measured_loops, minima_of(size.repetitions), missing)
        for kind in kinds:
            found += _of_idle_fits(kind, size.idle, bar)
            bar.update()
    return found


def _of_searches(searches: Searches, measured_loops: list[dict[str, float]], taken: str, missing: str) -> list[Figure]:
    parts, starts, cpu = minima(searches.parts), minima(searches.starts), minima(searches.cpu)
    _, aim = limit_and_aim(measured_loops)
    one, many = "1 process", [name for name in parts if name != "1 process"]
    note = f"32 fits of step 4, fewer where trials are pruned, one thread each{missing}"
    found = [figure_of("engines", measured_loops, note)]
    for name in many:
        values = {one: parts[one], name: parts[name]}
        ratio = at_least(parts[one] / parts[name], aim)
        found.append(Figure("engines", f"1 process / {name}: fits", values, "s", **ratio, taken=taken))
    for name in many[1:]:
        values = {many[0]: parts[many[0]], name: parts[name]}
        ratio = at_most(parts[name] / parts[many[0]], BEHIND_PROCESSES)
        found.append(Figure("engines", f"{name} / {many[0]}: fits", values, "s", **ratio, taken=taken))
    found.append(
        Figure("engines", "until the first fit begins", starts, "s", starts[many[-1]] / starts[one], taken=taken)
    )
    for name in many:
        share = at_most(cpu[name] * 100 / 60_000, OWN_CPU)
        what = f"{name}: cores of the script's own process at 100 fits a minute"
        found.append(Figure("engines", what, {name: cpu[name]}, "ms a fit", **share, taken=taken))
    same = len(set(searches.scores.values())) == 1
    ratio = searches.scores[many[-1]] / searches.scores[one]
    return [*found, Figure("engines", "test ROC AUC", searches.scores, "", ratio, "equal", same, "last run")]


def _of_idle_fits(kind: str, idle: tuple[int, int, float, int], bar) -> list[Figure]:
    command = [sys.executable, "-m", "benchmarks.sleeping", kind, *idle]
    measured = json.loads(scratch.run(command, PROJECT, bar)[1].strip().splitlines()[-1])
    n_workers, n_fits, seconds, size = idle
    what = f"{n_workers} idle workers, {n_fits} fits of {seconds:g} s, {kind}"
    note = (
        f"idle fits sleep, and take and give {size / 1e6:g} MB; the script's side is real, with dask the scheduler, too"
    )
    memory = {"after a quarter": measured["mib_after_a_quarter"], "at the end": measured["mib_at_the_end"]}
    return [
        Figure(
            "engines",
            f"{what}: busy",
            {"fits": n_fits * seconds, "workers": n_workers * measured["seconds"]},
            "s",
            **at_least(measured["busy"], BUSY),
            note=note,
            details=measured,
        ),
        Figure(
            "engines",
            f"{what}: most memory of the script",
            memory,
            "MiB",
            **at_most(memory["at the end"] / memory["after a quarter"], FLAT),
        ),
    ]


def times_of_fits(run_id: str) -> tuple[float, float]:
    """When the first fit of a run's trials began and when the last one ended, in seconds since 1970."""
    of_root = "SELECT run_uuid FROM tags WHERE key = 'root_run_id' AND value = ?"
    folds = "SELECT run_uuid FROM tags WHERE key = 'run_level' AND value = 'fold'"
    of_trials = "SELECT run_uuid FROM tags WHERE key = 'trial'"
    fits = f"{of_root} INTERSECT {folds} INTERSECT {of_trials}"
    times = f"SELECT MIN(start_time), MAX(end_time) FROM runs WHERE run_uuid IN ({fits})"
    with closing(sqlite3.connect(state_folder() / "mlflow.db", timeout=60)) as connection:
        first, last = connection.execute(times, (run_id,)).fetchone()
    return first / 1000, last / 1000


@contextmanager
def _dask(n_workers: int) -> Iterator[str]:
    """The address of a scheduler with workers, each a process of this machine."""
    with scratch.folder() as folder:
        file, processes = folder / "scheduler.json", []

        def start(program: str, *flags: str) -> None:
            command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(file), *flags]
            processes.append(
                subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )

        try:
            start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
            for _ in range(n_workers):
                flags = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
                start("dask_worker", "--host", "127.0.0.1", *flags, "--local-directory", str(folder))
            yield _address(file, processes)
        finally:
            for process in reversed(processes):
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()  # a worker of Dask may wait for ever for what it has cancelled
                process.wait()


def _address(file: Path, processes: list[subprocess.Popen]) -> str:
    for _ in range(600):
        if file.exists() and (text := file.read_text()):
            return json.loads(text)["address"]
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.1)
    raise UserError("Dask's scheduler or a worker did not start")


def _no_slurm() -> str | None:
    """Why SLURM is not measured."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return "no SLURM on this machine"
    try:
        done = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "no SLURM answers"
    return None if done.returncode == 0 and done.stdout.strip() else "no SLURM answers"
