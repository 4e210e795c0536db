"""Runs of the project's own store, such as those of a machine without a network, into a tracking server later."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.cli import UserError, masked
from common.locks import locked
from common.progress import one_by_one
from common.results.deleting import root_ids
from common.results.exporting import tree_files
from common.results.importing import known_roots, take_in
from common.results.incoming import Incoming
from common.results.opening import trees_at
from common.results.trees import RootRun, Trees
from common.state import state_folder, work_folder
from common.tracking.at_work import kept_from_work
from common.tracking.upkeep import look_after, store_uri


def sync_runs(uri: str, run_ids: Sequence[str] = (), database: Path | None = None) -> list[str]:
    """Bring root runs of a database to a tracking server, or into another database, each thing once.

    What is there already stays; a run that has gone on since, or has new runs below it, is brought up to date.

    Parameters
    ----------
    uri : str
        Of MLflow's server, or a database.
    run_ids : sequence of str, optional
        Of root runs, or how each begins; by default all.
    database : Path, optional
        By default ``mlflow.db`` of the project.

    Returns
    -------
    list of str
        A line for each root run.

    Raises
    ------
    UserError
        When there is no such run, or the server cannot be used.
    """
    own = (database or state_folder() / "mlflow.db").absolute()
    if not own.is_file():
        raise UserError(f"{own}: there is no such database, so there are no runs to sync")
    look_after(own)
    here, there = trees_at(store_uri(own)), trees_at(uri)
    if here.uri.split("?")[0] == there.uri.split("?")[0]:
        raise UserError(f"{masked(uri)}: that is where the runs are; expected another store")
    wanted = root_ids(here, run_ids) or [root.run_id for root in here.roots()][::-1]
    with locked(work_folder("mlflow") / "import"):
        known = known_roots(there)
        return [_sync(here, there, run_id, known) for run_id in one_by_one(wanted, "syncing", "run")]


def _sync(here: Trees, there: Trees, run_id: str, known: list[RootRun]) -> str:
    try:
        with kept_from_work(run_id), tempfile.TemporaryDirectory() as folder:
            files = dict(tree_files(here, run_id, Path(folder)))
            ledger = files["ledger.jsonl"]

            def extract(name: str, to: Path) -> None:
                content = files[name]
                to.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    to.write_bytes(content)
                else:
                    shutil.copyfile(content, to)

            kept = [name for name in files if name.startswith(("artifacts/", "models/"))]
            versions = json.loads(files["versions.json"] if isinstance(files["versions.json"], bytes) else b"[]")
            source = Incoming(
                here.tree(run_id), [], versions, ledger if isinstance(ledger, bytes) else b"", kept, extract
            )
            return take_in(there, source, known, run_id)
    except UserError as error:
        if "process is working" in str(error) or "has not ended" in str(error):
            return f"run {run_id}: has not ended, so it stays here for now"
        raise
