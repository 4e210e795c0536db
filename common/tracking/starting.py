"""How a script begins to track: it goes on with its own interrupted run, or starts a new one."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict

from filelock import FileLock, Timeout

from common.cli import UserError, command_of
from common.tracking import identity as identities
from common.tracking import runs
from common.tracking.interruptions import uninterrupted
from common.tracking.outbox import send_leftovers
from common.tracking.provenance import provenance
from common.tracking.runs import Run, closing
from common.tracking.store import Connection, open_store

ROOT = "tags.run_level = 'root' and attributes.status != 'FINISHED'"


@contextlib.contextmanager
def start(step: int, args: argparse.Namespace, n_fits: int, table, folds, config, compute, stream) -> Iterator[Run]:
    """The root run of a script in the experiment ``step_N``, with its settings and :func:`provenance` recorded.

    An unfinished run whose results would be the same (see :func:`common.tracking.identity.identity`) is resumed,
    unless ``--fresh``; with others it says what differs from the last one.

    Parameters
    ----------
    n_fits : int
        Fits there are to do, for people to read.
    table : common.data.ImageTable
    folds : nested lists of common.data.Fold
    config : common.training.TrainingConfig
    compute : common.training.Compute
    stream : common.seeds.Stream
        The root of all random streams.

    Raises
    ------
    UserError
        When the server or the folder cannot be used, or another process works on this run.
    """
    uri, experiment_id = open_store(f"step_{step}")
    client = Connection(uri)
    name = f"{table.name} {config.backbone} seed {stream.root_seed}"
    parts = identities.identity(step, args, table, folds, config, compute)
    with contextlib.ExitStack() as held:

        def create() -> Run:
            send_leftovers(client)
            if (found := _unfinished(client, experiment_id, parts, args.fresh, held)) is not None:
                run = Run.again(uri, found, {"root_run_id": found.info.run_id})
                print(f"resuming run {run.run_id}: {_fits_done(run)} of {n_fits} fits done")
                return run
            tags = {
                "run_level": "root",
                "command": json.dumps(command_of(step, args)),
                "fingerprint": identities.fingerprint(parts),
                "identity": json.dumps(parts),
            }
            run_id = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
            held.enter_context(_lock(run_id))
            return Run(uri, experiment_id, run_id, {"root_run_id": run_id})

        runs.CHECKPOINTS.mkdir(parents=True, exist_ok=True)
        with FileLock(runs.CHECKPOINTS / ".start.lock"), uninterrupted():
            run = held.enter_context(closing(create, wait=True))
            held.push(_say_how_to_go_on)
        _record(run, config, *provenance(table, stream, compute))
        yield run
    shutil.rmtree(runs.CHECKPOINTS / run.run_id, ignore_errors=True)
    (runs.CHECKPOINTS / f"{run.run_id}.lock").unlink(missing_ok=True)


def _record(run: Run, config, params: dict[str, object], artifacts: dict[str, bytes]) -> None:
    """What is not recorded yet: a run that goes on keeps what it said at its start."""
    known = run.client.get_run(run.run_id).data.params
    params = params | identities.flatten(asdict(config))
    run.params({name: value for name, value in params.items() if name not in known})
    there = {file.path for file in run.client.list_artifacts(run.run_id, "provenance")}
    for artifact, content in artifacts.items():
        if f"provenance/{artifact}" not in there:
            run.text(content, f"provenance/{artifact}")


def _unfinished(client, experiment_id: str, parts: dict[str, str], fresh: bool, held: contextlib.ExitStack):
    """The newest unfinished run of this identity, locked; the others that nobody works on are marked as killed."""
    resumable, last = None, None
    for found in client.search_runs([experiment_id], ROOT, order_by=["attributes.start_time DESC"]):
        is_same = found.data.tags.get("fingerprint") == identities.fingerprint(parts)
        lock = _lock(found.info.run_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if is_same and not fresh:
                raise UserError(
                    f"run {found.info.run_id}: another process is working on it; wait for it, or use --fresh"
                ) from None
            continue
        if is_same and not fresh and resumable is None:
            resumable = found
            held.callback(lock.release)
            continue
        lock.release()
        last = last or found
        _mark_killed(client, experiment_id, found)
    if resumable is None and last is not None and not fresh and "identity" in last.data.tags:
        differs = identities.differences(parts, json.loads(last.data.tags["identity"]))
        print(f"a new run: the unfinished run {last.info.run_id} differs in {', '.join(differs) or 'nothing'}")
    return resumable


def _mark_killed(client, experiment_id: str, root) -> None:
    below = f"tags.root_run_id = '{root.info.run_id}' and attributes.status = 'RUNNING'"
    found = client.search_runs([experiment_id], below) if root.info.status == "RUNNING" else []
    for run in [*found, *([root] if root.info.status == "RUNNING" else [])]:
        client.set_terminated(run.info.run_id, "KILLED")


def _fits_done(run: Run) -> int:
    ended = f"tags.root_run_id = '{run.run_id}' and tags.phase = 'fine-tuning' and attributes.status = 'FINISHED'"
    return len(run.client.search_runs([run.experiment_id], ended, max_results=10_000))


def _lock(run_id: str) -> FileLock:
    return FileLock(runs.CHECKPOINTS / f"{run_id}.lock")


def _say_how_to_go_on(kind, error, traceback) -> None:
    if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
        print("the same command goes on from here; --fresh starts anew", file=sys.stderr)
