"""How a script begins to track: it goes on with its own interrupted run, or starts a new one."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from common.cli import KilledError, UserError, command_of, escaped, masked, writing
from common.config.places import find_spaces
from common.config.settings import model_name
from common.data.chosen import tested_elsewhere
from common.interrupting import uninterrupted
from common.state import state_folder, whole_file, work_folder
from common.tracking import identity as identities
from common.tracking.at_work import folder_id, lock_of_run, lock_of_start
from common.tracking.closing import closing
from common.tracking.code import code_digests
from common.tracking.identity import packages
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
from common.tracking.store import Connection, open_store, open_tracking
from common.tracking.unfinished import (
    check_unfinished,
    delete_doubles,
    fits_done,
    mark_killed,
    sweep,
    unfinished_run,
)


def prepare_start() -> None:
    """Do what a start takes whatever is trained, and what is then there for it: something else may be waited for.

    Raises
    ------
    UserError
        When the tracking store cannot be used.
    """
    packages()
    if script := getattr(sys.modules["__main__"], "__file__", None):
        code_digests([Path(script)])
    Connection(open_tracking(waits=True)).search_experiments(max_results=1)


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
    summed_up = compute.begin(partial(config.summary, table.pixels.shape[1:], len(table.classes)))
    audit = audited(table, folds, args)
    summary = summed_up()
    most = check_space(folds, n_fits, summary)
    experiment = datetime.now().strftime(getattr(args, "experiment", None) or f"step_{step}")
    uri, experiment_id = open_store(experiment, waits=True)
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
        check_unfinished(client, step, parts)
    with contextlib.ExitStack() as held:
        about = {"step": step, "name": name, "fits": n_fits, "command": " ".join(command_of(step, args))}
        begin = held.enter_context(telling(**about)) if step == 5 else None

        def create() -> Run:
            sweep()
            if (found := unfinished_run(client, f"step_{step}", parts, args.fresh, held)) is not None:
                run = Run.again(uri, found, {"root_run_id": found.info.run_id})
                print(f"resuming run {run.run_id}: {fits_done(run)} of {n_fits} fits done")
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
            delete_doubles(client, experiment_id, twins, made.run_id)
            held.enter_context(lock_of_run(made.run_id))
            return Run(uri, experiment_id, made.run_id, {"root_run_id": made.run_id})

        with lock_of_start(), uninterrupted():
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
        delete_doubles(client, experiment_id, f"tags.root_run_id = '{run.run_id}' and attributes.status = 'RUNNING'")
    shutil.rmtree(work_folder("checkpoints") / run.run_id, ignore_errors=True)
    (work_folder("checkpoints") / f"{run.run_id}.lock").unlink(missing_ok=True)


def _limit(path: Path, most: int | None) -> None:
    """Say where fits are computed how many bytes the checkpoints of the run may take."""
    path.unlink(missing_ok=True)
    if most is not None:
        with whole_file(path, "w") as file:
            file.write(str(most))


def _tell_who_started(run: Run) -> None:
    """Write the run's id where :mod:`common.production.watch` looks for it."""
    if name := os.environ.get("REPROAI_RUN_ID_FILE"):
        with writing(f"REPROAI_RUN_ID_FILE {name}"):
            Path(name).write_text(run.run_id)


def _record(run: Run, config, summary: str, table, audit: dict[str, str], params: dict[str, object], artifacts) -> None:
    """What is not recorded yet: a run that goes on keeps what it said at its start."""
    known = run.client.get_run(run.run_id).data.params if run.resumed else {}
    params = params | identities.flatten(config)
    run.params({name: value for name, value in params.items() if name not in known})
    texts = {f"provenance/{name}": content for name, content in artifacts.items()}
    texts |= {f"audit/{name}": content for name, content in audit.items()}
    texts[name := f"model_summary_{run.run_id}.txt"] = f"{summary}\n"
    if not (path := state_folder() / "models" / name).exists():
        with writing(path), whole_file(path, "w") as file:
            file.write(texts[name])
    folders = (None, "audit", "provenance") if run.resumed else ()
    there = {file.path for folder in folders for file in run.client.list_artifacts(run.run_id, folder)}
    for artifact in sorted(texts.keys() - there):
        run.text(texts[artifact], artifact)
    run.client.log_inputs(run.run_id, datasets=[dataset_of(table)])


def _say_how_to_go_on(kind, error, traceback) -> None:
    if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
        print("the same command goes on from here; --fresh starts anew", file=sys.stderr)
