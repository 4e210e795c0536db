"""Finished runs, found again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from common.cli import UserError
from common.tracking.at_work import folder_id
from common.tracking.runs import Run
from common.tracking.seam import read_on_record
from common.tracking.store import Connection, open_store, open_tracking

if TYPE_CHECKING:
    import pandas as pd


def whole_id(client: Connection, text: str) -> str:
    """The id of the one root run whose id begins with a text of at least 4 digits; the text where there is none.

    Raises
    ------
    UserError
        When there are more.
    """
    if not re.fullmatch("[0-9a-f]{4,31}", text):
        return text
    everywhere = [known.experiment_id for known in client.search_experiments()]
    begins = f"attributes.run_id LIKE '{text}%' and tags.run_level = 'root'"
    found = client.search_runs(everywhere, begins, max_results=2)
    if len(found) > 1:
        raise UserError(f"run {text}: more than one root run begins so; expected more of its id")
    return found[0].info.run_id if found else text


def find_root(run_id: str) -> Run:
    """The finished root run of that id, of any step, or whose id begins so. For reading only.

    Raises
    ------
    UserError
        When there is none, or more than one.
    """
    run = Run(open_tracking(), "", run_id)
    run.run_id = run_id = whole_id(run.client, run_id)
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
    """A finished root run of a step: the one named, by its id or how that begins, or the newest. For reading only.

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
    run_id = whole_id(run.client, run_id)
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


def show_scores(run: Run, predictions: pd.DataFrame, reason: str) -> str:
    """Put on the record that a run's test scores are shown; returns the line that goes with them.

    Parameters
    ----------
    run : Run
        A root run. One from before step 4, or of a version without a ledger, has no record: then the line is empty.
    predictions : DataFrame
        Its artifact ``predictions.csv``.
    reason : str
        Why, or where.

    Raises
    ------
    UserError
        When the predictions are not those on the record, see :func:`common.evidence.ledger.read_scores`.
    """

    def predictions_of(run_id: str) -> pd.DataFrame | None:
        with contextlib.suppress(UserError):
            return Run(run.uri, "", run_id).read_table("predictions.csv")
        return None

    if "recorded" not in run.client.get_run(run.run_id).data.tags:
        return ""
    return read_on_record(run.run_id, predictions, reason, predictions_of, run.read_text("ledger.jsonl"))


def texts_on_record() -> Iterator[tuple[str, str]]:
    """The root runs of this folder that are on the record, and their artifacts ``ledger.jsonl``; oldest first."""
    run = Run(open_tracking(), "", "")
    everywhere = [known.experiment_id for known in run.client.search_experiments()]
    ours = f"tags.recorded = 'yes' and tags.folder = '{folder_id()}'"
    kept = f"attributes.status = 'FINISHED' and tags.run_level = 'root' and {ours}"
    for found in run.client.search_runs(everywhere, kept, max_results=10_000, order_by=["attributes.start_time"]):
        yield found.info.run_id, Run(run.uri, found.info.experiment_id, found.info.run_id).read_text("ledger.jsonl")


def setting_of(run: Run, name: str) -> str:
    """A setting of a root run, as its parameter of that name has it."""
    return run.client.get_run(run.run_id).data.params[name]


def data_of(run: Run) -> str | None:
    """What ``--data`` of a root run was: a name, or the whole path of a folder; None where it is not recorded."""
    words = json.loads(run.client.get_run(run.run_id).data.tags.get("command", "[]"))
    return dict(pairwise(words)).get("--data")
