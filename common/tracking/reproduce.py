"""Repeats a finished run with its own code, data and command, and says whether the results are the same.

``python -m common.tracking.reproduce RUN_ID [--only root_split=0] [--in-place]``
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from common import cli
from common.cli import PROJECT, UserError
from common.tracking.identity import differences
from common.tracking.runs import Run
from common.tracking.store import Connection, open_store
from common.tracking.upkeep import store_uri

VERDICTS = ("bitwise identical", "within tolerance", "differs")


def main(argv=None) -> int:
    """Print and track the verdict; returns the exit code: 0, or 1 when the results differ."""
    flags = cli.parser(__doc__)
    flags.add_argument("run_id")
    flags.add_argument("--only", metavar="root_split=K", help="repeat one outer fold alone")
    flags.add_argument("--in-place", action="store_true", help="with the code as it is now, not as it was")
    args = flags.parse_args(argv)
    only = _root_split(args.only)
    uri, _ = open_store("step_2")
    first = _finished(Connection(uri), args.run_id)
    print(f"repeating run {args.run_id}: python {' '.join(json.loads(first.data.tags['command']))}", flush=True)
    with tempfile.TemporaryDirectory() as folder, _code_of(uri, first, Path(folder), args.in_place) as project:
        store = Path(folder) / "mlflow.db"
        again = _repeat(first, project, store, only)
        verdict, report = compare(uri, first, store_uri(store), again, only)
    print("\n".join([f"verdict: {verdict}", *report]))
    run = Run(uri, first.info.experiment_id, args.run_id, {"root_run_id": args.run_id})
    with run.child("reproduction", run_level="reproduction", verdict=verdict) as tracked:
        tracked.text("\n".join([verdict, *report, ""]), "reproduction.txt")
    return VERDICTS.index(verdict) // 2


def compare(uri: str, first, again_uri: str, again, only: int | None) -> tuple[str, list[str]]:
    """The verdict on two root runs, and lines that say why.

    The mean test ROC AUC is within tolerance when it differs by at most its standard error over the first run's folds;
    with one fold, by at most sqrt(a (1 - a) / n) for a ROC AUC of a on n test images.
    """
    clients = Connection(uri), Connection(again_uri)
    tables = [_results(client, run.info.run_id) for client, run in zip(clients, (first, again), strict=True)]
    if only is not None:
        tables[0] = tables[0][tables[0]["root_split"] == str(only)].reset_index(drop=True)
    scores = [table["test_roc_auc"].astype(float) for table in tables]
    if len(scores[0]) > 1:
        tolerance, of = scores[0].sem(), f"the standard error over its {len(scores[0])} folds"
    else:
        area, n_test = scores[0][0], int(tables[0]["n_test"][0])
        tolerance, of = (area * (1 - area) / n_test) ** 0.5, f"the standard error with {n_test} test images"
    means = [float(score.mean()) for score in scores]
    gap = abs(means[0] - means[1])
    parting = _first_difference(_histories(clients[0], first, only), _histories(clients[1], again, only))
    report = [f"mean test ROC AUC {means[0]!r} then, {means[1]!r} now"]
    report += _changes(clients, first, again)
    if tables[0].equals(tables[1]) and parting is None:
        return VERDICTS[0], report
    report.append(f"they part at {parting or 'the test predictions'}")
    report.append(f"tolerance {tolerance:.4f} ({of}), difference {gap:.4f}")
    return VERDICTS[1 if gap <= tolerance else 2], report


def _root_split(only: str | None) -> int | None:
    if only is None:
        return None
    name, _, number = only.partition("=")
    if name != "root_split" or not number.isdigit():
        raise UserError(f"--only {only}: expected root_split=K")
    return int(number)


def _finished(client: Connection, run_id: str):
    try:
        run = client.get_run(run_id)
    except UserError as error:
        raise UserError(f"run {run_id}: no such run") from error
    level = run.data.tags.get("run_level", "other")
    if (run.info.status, level) != ("FINISHED", "root"):
        raise UserError(f"run {run_id}: {run.info.status} {level} run; expected a FINISHED root run of step 2 to 5")
    if "command" not in run.data.tags:
        raise UserError(f"run {run_id}: it does not say how it was started (tag 'command')")
    return run


@contextmanager
def _code_of(uri: str, run, folder: Path, in_place: bool) -> Iterator[Path]:
    """A folder with the code that the run had: its commit and what was not committed then."""
    commit = run.data.params.get("git_commit", "")
    if in_place:
        yield PROJECT
        return
    project = folder / "project"
    known = subprocess.run(["git", "-C", str(PROJECT), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True)
    if known.returncode != 0:
        raise UserError(f"its code is not here (commit {commit}); fetch it, or try the present code with --in-place")
    _git("worktree", "add", "--detach", str(project), commit)
    try:
        diff = folder / "uncommitted.diff"
        diff.write_bytes(_artifact(Connection(uri), run.info.run_id, "provenance/uncommitted.diff"))
        if diff.stat().st_size:
            _git("apply", "--whitespace=nowarn", str(diff), folder=project)
        if not (project / "data").exists() and (PROJECT / "data").exists():
            (project / "data").symlink_to(PROJECT / "data")
        yield project
    finally:
        _git("worktree", "remove", "--force", str(project))


def _repeat(first, project: Path, store: Path, only: int | None):
    """Run the command again, with a tracking store and studies of its own; returns the new root run."""
    script, *arguments = json.loads(first.data.tags["command"])
    if only is not None:
        arguments += ["--only-root-split", str(only)]
    own = {"MLFLOW_TRACKING_URI": store_uri(store), "OPTUNA_STORAGE": f"sqlite:///{store.with_name('optuna.db')}"}
    done = subprocess.run(
        [sys.executable, str(project / script), *arguments, "--fresh"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        if done.returncode in (130, 143, -2):
            raise KeyboardInterrupt
        raise UserError(f"run {first.info.run_id} cannot be repeated: its command ended with {done.returncode}")
    client = Connection(store_uri(store))
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(everywhere, "tags.run_level = 'root'")[0]


def _changes(clients, first, again) -> list[str]:
    """What a result depends on, and has changed."""
    then, now = (json.loads(run.data.tags["identity"]) for run in (first, again))
    changed = differences(now, then)
    if "packages" in changed:
        packages = [
            set(_artifact(client, run.info.run_id, "provenance/packages.txt").decode().split())
            for client, run in zip(clients, (first, again), strict=True)
        ]
        named = ", ".join(sorted(packages[1] - packages[0])) + f" (was {', '.join(sorted(packages[0] - packages[1]))})"
        changed[changed.index("packages")] = f"packages: {named}"
    if "--only-root-split" in " ".join(changed):  # what --only asks for
        changed = [part for part in changed if part != "splits" and not part.startswith("--only-root-split")]
    return [f"changed: {part}" for part in changed] or ["changed: nothing that results depend on"]


def _results(client: Connection, run_id: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(_artifact(client, run_id, "results.csv")), dtype=str)


def _histories(client: Connection, root, only: int | None) -> dict[tuple, list[tuple]]:
    """Metric values by the place of a fit and its epoch, in the order in which they were made."""
    below = f"tags.root_run_id = '{root.info.run_id}' and tags.run_level = 'phase' and attributes.status = 'FINISHED'"
    found = {}
    for run in client.search_runs([root.info.experiment_id], below, max_results=50_000):
        tags = run.data.tags
        if only is not None and tags.get("root_split") != str(only):
            continue
        place = tuple(int(tags.get(name, 0)) for name in ("root_split", "trial", "inner_split"))
        for name in sorted(run.data.metrics):
            for metric in client.get_metric_history(run.info.run_id, name):
                if not name.startswith("batch_"):
                    found[(*place, tags["phase"] != "warm-up", metric.step, name)] = (tags["phase"], metric.value)
    return found


def _first_difference(then: dict, now: dict) -> str | None:
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            root, trial, inner, _, epoch, name = key
            phase = (then.get(key) or now.get(key))[0]
            return (
                f"root split {root}, trial {trial}, inner split {inner}, {phase}, epoch {epoch}: {name} "
                f"{then.get(key, (None, 'missing'))[1]!r} then, {now.get(key, (None, 'missing'))[1]!r} now"
            )
    return None


def _artifact(client: Connection, run_id: str, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()


def _git(*arguments: str, folder: Path = PROJECT) -> None:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"git {' '.join(arguments[:2])}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    cli.run(lambda: sys.exit(main()))
