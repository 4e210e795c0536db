"""Finished runs, found again."""

from __future__ import annotations

import json
from itertools import pairwise

from common.cli import UserError
from common.tracking.runs import Run
from common.tracking.store import open_store, open_tracking


def find_root(run_id: str) -> Run:
    """The finished root run of that id, of any step. For reading only.

    Raises
    ------
    UserError
        When there is none.
    """
    run = Run(open_tracking(), "", run_id)
    try:
        found = run.client.get_run(run_id)
    except UserError as error:
        raise UserError(f"run {run_id}: no such run") from error
    level = found.data.tags.get("run_level", "other")
    if (found.info.status, level) != ("FINISHED", "root"):
        raise UserError(f"run {run_id}: {found.info.status} {level} run; expected a FINISHED root run of steps 2 to 5")
    run.experiment_id = found.info.experiment_id
    return run


def find_run(experiment: str, run_id: str | None = None) -> Run:
    """A finished root run of a step: the one named, or the newest. For reading only.

    Raises
    ------
    UserError
        When there is none.
    """
    run = Run(*open_store(experiment), "")
    if run_id is None:
        found = run.client.search_runs(
            [known.experiment_id for known in run.client.search_experiments()],
            f"tags.run_level = 'root' and tags.step = '{experiment}' and attributes.status = 'FINISHED'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        if not found:
            raise UserError(f"no finished run in experiment {experiment}; {experiment}/train.py makes one")
        run.run_id, run.experiment_id = found[0].info.run_id, found[0].info.experiment_id
        return run
    try:
        found = run.client.get_run(run_id)
    except UserError as error:
        raise UserError(f"--run-id {run_id}: no such run") from error
    info, level = found.info, found.data.tags.get("run_level", "other")
    name = found.data.tags.get("step", run.client.get_experiment(info.experiment_id).name)
    if (info.status, name, level) != ("FINISHED", experiment, "root"):
        raise UserError(
            f"--run-id {run_id}: {info.status} {level} run of {name}; expected a FINISHED root run of {experiment}"
        )
    run.run_id, run.experiment_id = run_id, info.experiment_id
    return run


def data_of(run: Run) -> str | None:
    """What ``--data`` of a root run was: a name, or the whole path of a folder; None where it is not recorded."""
    words = json.loads(run.client.get_run(run.run_id).data.tags.get("command", "[]"))
    return dict(pairwise(words)).get("--data")
