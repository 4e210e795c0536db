"""Root runs that have not finished: which one a command goes on with, and what those that were killed have left."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from filelock import Timeout

from common.cli import UserError
from common.locks import holder_of
from common.state import work_folder
from common.tracking import identity as identities
from common.tracking.at_work import folder_id, let_go, lock_of_run
from common.tracking.runs import Run

NEWEST_FIRST = "attributes.start_time DESC"
KEPT = 30 * 24 * 3600
"""Seconds for which what is left of runs that nobody went on with is kept."""
ROOT = "tags.run_level = 'root' and attributes.status != 'FINISHED'"


class HasFinished(Exception):
    """A run of this identity has finished; the text is its id."""


def check_unfinished(client: Any, step: int, parts: dict[str, str]) -> None:
    """Raise :class:`HasFinished` when a run of these parts has."""
    same = f"tags.step = 'step_{step}' and tags.fingerprint = '{identities.fingerprint(parts)}'"
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    finished = f"tags.run_level = 'root' and attributes.status = 'FINISHED' and {same}"
    if found := client.search_runs(everywhere, finished, max_results=1, order_by=[NEWEST_FIRST]):
        raise HasFinished(found[0].info.run_id)


def unfinished_run(client: Any, step: str, parts: dict[str, str], fresh: bool, held: contextlib.ExitStack) -> Any:
    """The newest unfinished run of this folder and identity, locked; its others that nobody works on become killed.

    Raises
    ------
    UserError
        When another process works on it, unless `fresh`.
    """
    resumable, last, ours = None, None, folder_id()
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    for found in client.search_runs(everywhere, f"{ROOT} and tags.step = '{step}'", order_by=[NEWEST_FIRST]):
        if client.uri.startswith("http") and found.data.tags.get("folder", ours) != ours:
            continue  # another folder's on the same server: its locks are there, so it may be at work
        is_same = found.data.tags.get("fingerprint") == identities.fingerprint(parts)
        lock = lock_of_run(found.info.run_id)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if is_same and not fresh:
                held_by = holder_of(error)
                raise UserError(
                    f"run {found.info.run_id}: another process is working on it{held_by}; wait for it, or use --fresh"
                ) from None
            continue
        if found.info.status == "RUNNING" and client.get_run(found.info.run_id).info.status == "FINISHED":  # just now
            let_go(lock)
            continue
        if is_same and not fresh and resumable is None:
            resumable = found
            held.callback(lock.release)
            continue
        let_go(lock)
        last = last or found
        mark_killed(client, found)
    if resumable is None and last is not None and not fresh and "identity" in last.data.tags:
        differs = identities.differences(parts, json.loads(last.data.tags["identity"]))
        print(f"a new run: the unfinished run {last.info.run_id} differs in {', '.join(differs) or 'nothing'}")
    return resumable


def mark_killed(client: Any, root: Any) -> None:
    """Close a root run, and those below it, that a process which was killed has left open."""
    below = f"tags.root_run_id = '{root.info.run_id}' and attributes.status = 'RUNNING'"
    found = client.search_runs([root.info.experiment_id], below) if root.info.status == "RUNNING" else []
    for run in [*found, *([root] if root.info.status == "RUNNING" else [])]:
        client.set_terminated(run.info.run_id, "KILLED")


def delete_doubles(client: Any, experiment_id: str, which: str, but: str | None = None) -> None:
    """Delete runs that a server made twice: MLflow's client repeats a request whose answer was lost."""
    if client.uri.startswith("http"):
        for run in client.search_runs([experiment_id], which):
            if run.info.run_id != but:
                try:
                    client.delete_run(run.info.run_id)
                except UserError:  # which only those may who made the experiment
                    client.set_tag(run.info.run_id, "fingerprint", "double")
                    client.set_terminated(run.info.run_id, "KILLED")


def sweep() -> None:
    """Remove locks that nobody holds, and checkpoints of runs that nobody went on with."""
    for name in {path.name.removesuffix(".lock") for path in work_folder("checkpoints").iterdir()} - {".start"}:
        lock = lock_of_run(name)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            if _is_old(work_folder("checkpoints") / name):
                shutil.rmtree(work_folder("checkpoints") / name, ignore_errors=True)
            let_go(lock)


def fits_done(run: Run) -> int:
    """How many fits of a root run have finished."""
    ended = f"tags.root_run_id = '{run.run_id}' and tags.phase = 'fine-tuning' and attributes.status = 'FINISHED'"
    return len(run.client.search_runs([run.experiment_id], ended, max_results=10_000))


def _is_old(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime > KEPT
