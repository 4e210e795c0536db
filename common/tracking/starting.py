"""How a script begins to track: it goes on with its own interrupted run, or starts a new one."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, Timeout

from common.cli import KilledError, UserError, command_of, escaped, masked
from common.config.places import find_spaces
from common.config.settings import model_name
from common.data.chosen import tested_elsewhere
from common.locks import holder_of, locked
from common.state import state_folder, whole_file, work_folder
from common.tracking import identity as identities
from common.tracking.closing import closing
from common.tracking.interruptions import uninterrupted
from common.tracking.outbox import outbox_of, try_again
from common.tracking.provenance import dataset_of, provenance, source_tags
from common.tracking.runs import Run
from common.tracking.seam import (
    audited,
    check_registration,
    check_space,
    describe,
    lines_on_record,
    on_record,
    tell_networks,
    telling,
)
from common.tracking.store import Connection, open_store

NEWEST_FIRST = "attributes.start_time DESC"
KEPT = 30 * 24 * 3600
"""Seconds for which what is left of runs that nobody went on with is kept."""
ROOT = "tags.run_level = 'root' and attributes.status != 'FINISHED'"


class HasFinished(Exception):
    """A run of this identity has finished; the text is its id."""


@contextlib.contextmanager
def start(step: int, args: argparse.Namespace, n_fits: int, table, folds, config, compute, stream) -> Iterator[Run]:
    """The root run of a script, with its settings, :func:`provenance` and a summary of its network recorded.

    Its experiment is ``step_N``, or what ``--experiment`` names, where strftime codes stand for the time of now.

    An unfinished run whose results would be the same (see :func:`common.tracking.identity.identity`) is resumed,
    unless ``--fresh``; with others it says what differs from the last one.

    In step 5 a run of one fit in one phase, without a search, has no runs below it, and the events of runs go to the
    brokers that the environment names, see :mod:`common.events.sending`.

    Parameters
    ----------
    n_fits : int
        Fits there are to do, for people to read.
    table : common.data.ImageTable
    folds : nested lists of common.data.Fold
    config : common.training.TrainingConfig
        Its summary is printed, too.
    compute : common.training.Compute
    stream : common.seeds.Stream
        The root of all random streams.

    Raises
    ------
    HasFinished
        When a run whose results would be the same has finished, and the flags ask for ``--repeats``, not ``--fresh``.
    UserError
        When the server or the folder cannot be used, another process works on this run, the data differ from the
        version that they should be or cannot be registered under that name, or a broker's topic does not exist.
    """
    came_from = provenance(table, stream, compute, getattr(args, "allow_changed_data", False))
    audit = audited(table, folds, args)
    summary = config.summary(table.pixels.shape[1:], len(table.classes))
    most = check_space(folds, n_fits, summary)
    uri, experiment_id = open_store(datetime.now().strftime(getattr(args, "experiment", None) or f"step_{step}"))
    client = Connection(uri)
    try_again(uri)
    if getattr(args, "register", None):
        check_registration(uri, args.register, table)
    config_file = getattr(args, "config", None)
    of = [table.name, *([config_file.stem] if config_file else []), model_name(config), f"seed {stream.root_seed}"]
    name = escaped(" ".join([*of, *(["own splits"] if getattr(args, "resplit", False) else [])]))
    parts = identities.identity(step, args, table, folds, config, compute)
    if config_file and (warning := tested_elsewhere(config_file, table, folds)):
        print(warning)
    recorded = on_record(args, parts, str(came_from[0]["git_commit"]))
    if getattr(args, "repeats", None) and not args.fresh:
        _check_unfinished(client, step, parts)
    with contextlib.ExitStack() as held:
        about = {"step": step, "name": name, "fits": n_fits, "command": " ".join(command_of(step, args))}
        begin = held.enter_context(telling(**about)) if step == 5 else None

        def create() -> Run:
            _sweep()
            if (found := _unfinished(client, f"step_{step}", parts, args.fresh, held)) is not None:
                run = Run.again(uri, found, {"root_run_id": found.info.run_id})
                print(f"resuming run {run.run_id}: {_fits_done(run)} of {n_fits} fits done")
                return run
            tags = {
                "run_level": "root",
                "step": f"step_{step}",
                **source_tags(f"step_{step}/train.py", came_from[0]),
                "command": json.dumps([masked(word) for word in command_of(step, args)]),
                "fingerprint": identities.fingerprint(parts),
                "folder": folder_id(),
                "identity": json.dumps(parts),
                **({"recorded": "yes"} if recorded else {}),
            }
            made = client.create_run(experiment_id, tags=tags, run_name=name).info
            twins = f"tags.fingerprint = '{tags['fingerprint']}' and attributes.start_time = {made.start_time}"
            _delete_doubles(client, experiment_id, twins, made.run_id)
            held.enter_context(_lock(made.run_id))
            return Run(uri, experiment_id, made.run_id, {"root_run_id": made.run_id})

        with locked(work_folder("checkpoints") / ".start"), uninterrupted():
            run = held.enter_context(closing(create, wait=True))
            held.push(_say_how_to_go_on)
        if begin:
            begin(run)
        _tell_who_started(run)
        run.verbose, run.recorded = getattr(args, "verbose", False), recorded
        run.n_networks = identities.count_folds(folds)
        _limit(run.checkpoint.with_name("most"), most)
        one_fit = step == 5 and n_fits == 1 and not config.warmup_epochs and not find_spaces(config)
        run.alone = one_fit and not args.register
        print(summary)
        outbox_of(uri).call(lambda: _record(run, config, summary, table, audit, *came_from))
        try:
            yield run
        except KilledError:  # the process that was killed has closed nothing
            with contextlib.suppress(UserError):
                mark_killed(client, client.get_run(run.run_id))
            raise
        if recorded:
            run.text(lines_on_record(run.run_id), "ledger.jsonl")
        describe(run, args, step)
        outbox_of(uri).drain()
        tell_networks(run)
        _delete_doubles(client, experiment_id, f"tags.root_run_id = '{run.run_id}' and attributes.status = 'RUNNING'")
    shutil.rmtree(work_folder("checkpoints") / run.run_id, ignore_errors=True)
    (work_folder("checkpoints") / f"{run.run_id}.lock").unlink(missing_ok=True)


def _limit(path: Path, most: int | None) -> None:
    """Say where fits are computed how many bytes the checkpoints of the run may take."""
    path.unlink(missing_ok=True)
    if most is not None:
        with whole_file(path, "w") as file:
            file.write(str(most))


def _check_unfinished(client, step: int, parts: dict[str, str]) -> None:
    same = f"tags.step = 'step_{step}' and tags.fingerprint = '{identities.fingerprint(parts)}'"
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    finished = f"tags.run_level = 'root' and attributes.status = 'FINISHED' and {same}"
    if found := client.search_runs(everywhere, finished, max_results=1, order_by=[NEWEST_FIRST]):
        raise HasFinished(found[0].info.run_id)


def _tell_who_started(run: Run) -> None:
    """Write the run's id where :mod:`common.production.watch` looks for it."""
    if name := os.environ.get("REPROAI_RUN_ID_FILE"):
        try:
            Path(name).write_text(run.run_id)
        except OSError as error:
            raise UserError(f"REPROAI_RUN_ID_FILE {name}: cannot be written ({error.strerror})") from error


def _record(run: Run, config, summary: str, table, audit: dict[str, str], params: dict[str, object], artifacts) -> None:
    """What is not recorded yet: a run that goes on keeps what it said at its start."""
    known = run.client.get_run(run.run_id).data.params
    params = params | identities.flatten(asdict(config))
    run.params({name: value for name, value in params.items() if name not in known})
    texts = {f"provenance/{name}": content for name, content in artifacts.items()}
    texts |= {f"audit/{name}": content for name, content in audit.items()}
    texts[name := f"model_summary_{run.run_id}.txt"] = f"{summary}\n"
    if not (path := state_folder() / "models" / name).exists():
        try:
            with whole_file(path, "w") as file:
                file.write(texts[name])
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    there = {
        file.path for folder in (None, "audit", "provenance") for file in run.client.list_artifacts(run.run_id, folder)
    }
    for artifact in sorted(texts.keys() - there):
        run.text(texts[artifact], artifact)
    run.client.log_inputs(run.run_id, datasets=[dataset_of(table)])


def _unfinished(client, step: str, parts: dict[str, str], fresh: bool, held: contextlib.ExitStack):
    """The newest unfinished run of this folder and identity, locked; its others that nobody works on become killed."""
    resumable, last, ours = None, None, folder_id()
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    for found in client.search_runs(everywhere, f"{ROOT} and tags.step = '{step}'", order_by=[NEWEST_FIRST]):
        if client.uri.startswith("http") and found.data.tags.get("folder", ours) != ours:
            continue  # another folder's on the same server: its locks are there, so it may be at work
        is_same = found.data.tags.get("fingerprint") == identities.fingerprint(parts)
        lock = _lock(found.info.run_id)
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
            _free(lock)
            continue
        if is_same and not fresh and resumable is None:
            resumable = found
            held.callback(lock.release)
            continue
        _free(lock)
        last = last or found
        mark_killed(client, found)
    if resumable is None and last is not None and not fresh and "identity" in last.data.tags:
        differs = identities.differences(parts, json.loads(last.data.tags["identity"]))
        print(f"a new run: the unfinished run {last.info.run_id} differs in {', '.join(differs) or 'nothing'}")
    return resumable


def mark_killed(client, root) -> None:
    """Close a root run, and those below it, that a process which was killed has left open."""
    below = f"tags.root_run_id = '{root.info.run_id}' and attributes.status = 'RUNNING'"
    found = client.search_runs([root.info.experiment_id], below) if root.info.status == "RUNNING" else []
    for run in [*found, *([root] if root.info.status == "RUNNING" else [])]:
        client.set_terminated(run.info.run_id, "KILLED")


def _delete_doubles(client, experiment_id: str, which: str, but: str | None = None) -> None:
    """Delete runs that a server made twice: MLflow's client repeats a request whose answer was lost."""
    if client.uri.startswith("http"):
        for run in client.search_runs([experiment_id], which):
            if run.info.run_id != but:
                try:
                    client.delete_run(run.info.run_id)
                except UserError:  # which only those may who made the experiment
                    client.set_tag(run.info.run_id, "fingerprint", "double")
                    client.set_terminated(run.info.run_id, "KILLED")


def _sweep() -> None:
    """Remove locks that nobody holds, and checkpoints of runs that nobody went on with."""
    for name in {path.name.removesuffix(".lock") for path in work_folder("checkpoints").iterdir()} - {".start"}:
        lock = _lock(name)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            if _is_old(work_folder("checkpoints") / name):
                shutil.rmtree(work_folder("checkpoints") / name, ignore_errors=True)
            _free(lock)


def _is_old(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime > KEPT


def _fits_done(run: Run) -> int:
    ended = f"tags.root_run_id = '{run.run_id}' and tags.phase = 'fine-tuning' and attributes.status = 'FINISHED'"
    return len(run.client.search_runs([run.experiment_id], ended, max_results=10_000))


def _lock(run_id: str) -> BaseFileLock:
    return locked(work_folder("checkpoints") / run_id)


def folder_id() -> str:
    """A random name of the folder whose locks tell which of its runs are at work."""
    path = work_folder("folder_id")
    if not path.exists():
        with whole_file(path, "w") as file:
            file.write(uuid.uuid4().hex)
    return path.read_text()


def _free(lock: BaseFileLock) -> None:
    """Release a lock and remove its file: whoever takes a lock, except its run, holds the start's lock."""
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _say_how_to_go_on(kind, error, traceback) -> None:
    if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
        print("the same command goes on from here; --fresh starts anew", file=sys.stderr)
