"""Root runs that go for good, with all that is theirs and nothing else."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from common.cli import SOURCES, UserError, reason_of
from common.results.listing import ledger
from common.results.opening import open_trees
from common.results.trees import ADDING, DELETING, LEVELS, ROOT, Trees, local_folder
from common.search.kept import delete_studies, study_names
from common.state import cache_folder, state_folder, work_folder
from common.tracking.at_work import all_kept_from_work, folder_id
from common.tracking.finding import data_of
from common.tracking.runs import Run
from common.tracking.seam import deleted_on_record

PREFIXES = ("images", "features", "copies", "arrays", "audit")
"""Of cached files, whose names go on with 24 digits of their data's fingerprint."""


def delete_runs(run_ids: Sequence[str], force: bool = False) -> list[str]:
    """Remove root runs for good: rows, artifacts, models, studies, checkpoints and what is cached for them alone.

    Nothing is removed unless all of them may go. What was interrupted is finished by the same call. Of a run that the
    ledger names, its lines stay, and one more says that it was deleted.

    Parameters
    ----------
    run_ids : sequence of str
        Of root runs, or how each begins.
    force : bool
        Delete runs that a report names, whose test scores were shown (but of data that come with the project), or that
        have a version in production.

    Returns
    -------
    list of str
        A line for each run: what went, and what is left to do on a server.

    Raises
    ------
    UserError
        When there is no such run, a process works on one, or one may not go.
    """
    trees = open_trees()
    ids = root_ids(trees, run_ids, LEVELS)
    with all_kept_from_work(ids):
        for run_id in ids:
            _check(trees, run_id, force)
        return [_delete(trees, run_id) for run_id in ids]


def root_ids(trees: Trees, texts: Sequence[str], levels: Sequence[str] = (ROOT,)) -> list[str]:
    """The ids of the root runs that are, or begin with, some texts, each once.

    Raises
    ------
    UserError
        When of a text there is none, or more than one.
    """
    known = {root.run_id for level in levels for root in trees.roots(level)} if texts else set()
    return list(dict.fromkeys(_id_of(text, known) for text in texts))


def _id_of(text: str, known: Collection[str]) -> str:
    found = [text] if text in known else [run_id for run_id in known if text and run_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"run {text}: {len(found)} root runs begin so; expected more of its id")
    raise UserError(f"run {text}: no such root run; python -m common.results list shows those there are")


def _check(trees: Trees, run_id: str, force: bool) -> None:
    run = trees.client.get_run(run_id)
    if run.data.tags["run_level"] == DELETING:
        return
    if run.info.status == "RUNNING" and run.data.tags.get("folder", folder_id()) != folder_id() and not force:
        raise UserError(f"run {run_id}: runs in another folder; expected one that ended, or --force")
    if (reason := _needed_for(trees, run_id)) and not force:
        raise UserError(f"run {run_id}: {reason}; --force deletes it, and the ledger says so")


def _needed_for(trees: Trees, run_id: str) -> str:
    """Why a run is deleted with ``--force`` alone; empty for one that nobody has used."""
    for name, version in versions_in_production(trees, run_id):
        return f"version {version} of {name} is in production"
    lines = [line for line in ledger() if line.get("run") == run_id]
    for line in lines:
        if line.get("what") == "reported":
            return f"{line.get('reason')} names it"
    reads = [line for line in lines if line.get("what") == "read"]
    its = Run(trees.uri, "", run_id)
    if reads and (data_of(its) or SOURCES[0]) not in SOURCES:  # data that come with the project are for learning
        return f"its test scores were shown ({len(reads)} lines of ledger.jsonl: {reads[0].get('reason')})"
    return ""


def versions_in_production(trees: Trees, run_id: str) -> list[tuple[str, str]]:
    """Registered versions of a run that are in production: model and version."""
    found = []
    for version in trees.client.search_model_versions(f"run_id = '{run_id}'"):
        aliases = trees.client.get_registered_model(version.name).aliases
        if str(aliases.get("production")) == str(version.version):
            found.append((version.name, str(version.version)))
    return found


def _delete(trees: Trees, run_id: str) -> str:
    """The root's row goes last: as long as it is there, the same command goes on."""
    client, run = trees.client, trees.client.get_run(run_id)
    if run.data.tags["run_level"] != DELETING:
        reason = _needed_for(trees, run_id)
        if reason or any(line.get("run") == run_id for line in ledger()):
            deleted_on_record(run_id, f"although {reason}" if reason else "")
        if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
            client.set_tag(run_id, "run_level", DELETING)
    fingerprint = run.data.params.get("data_fingerprint", "")
    delete_studies([name for name in study_names() if name.startswith(run_id)])
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)
    remove_work_of(run_id)
    if fingerprint and not any(
        root.params.get("data_fingerprint") == fingerprint and root.run_id != run_id
        for level in (ROOT, ADDING)
        for root in trees.roots(level)
    ):
        for path in cached_for(fingerprint):
            path.unlink(missing_ok=True)
    run_ids = remove_tree(trees, run_id)
    said = f"deleted: run {run_id}, with {len(run_ids) - 1} runs below it"
    kept = sum(line.get("run") == run_id for line in ledger())
    said += f"; the ledger keeps its {kept} lines, and the last says so" if kept else ""
    if trees.uri.startswith("http"):
        again = f"mlflow gc --backend-store-uri DATABASE --run-ids {','.join(run_ids)}"
        said += f"; the server keeps their rows, marked as deleted, until its owner calls: {again}"
    return said


def remove_tree(trees: Trees, root_id: str) -> list[str]:
    """Remove a root run and all below it, files first and the root last; returns their ids."""
    run_ids, model_ids = trees.below(root_id)
    for model_id in model_ids:
        remove_files(trees.model_files, model_id)
    for run_id in run_ids[::-1]:
        remove_files(trees.artifacts, run_id)
    trees.remove(run_ids[:0:-1], model_ids)
    trees.remove([root_id], [])
    return run_ids


def remove_files(files_of: Callable, each: str) -> None:
    """Remove what a store keeps for a run or a model; what is gone already is no error."""
    try:
        files = files_of(each)
        if (folder := local_folder(files)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.name == "artifacts":
                shutil.rmtree(folder.parent, ignore_errors=True)
            if folder.exists():
                raise OSError(f"{folder}: cannot be removed")
        else:
            files.delete_artifacts()
    except (MlflowException, OSError, UserError, NotImplementedError) as error:  # the last of stores that only add
        if getattr(getattr(error, "response", None), "status_code", None) != 404:
            raise UserError(f"artifacts of {each}: cannot be removed ({reason_of(error)})") from None


def remove_work_of(run_id: str) -> None:
    """Remove checkpoints, the counter of events and the summary of the network of a run."""
    counter = hashlib.sha256(run_id.encode()).hexdigest()[:32]
    shutil.rmtree(work_folder("checkpoints") / run_id, ignore_errors=True)
    shutil.rmtree(work_folder("outbox") / run_id, ignore_errors=True)  # of an earlier version
    (work_folder("events") / "numbers" / counter).unlink(missing_ok=True)
    (state_folder() / "models" / f"model_summary_{run_id}.txt").unlink(missing_ok=True)


def cached_for(fingerprint: str) -> list[Path]:
    """What is cached for data of a fingerprint, with the notes and locks beside it."""
    return sorted(
        path
        for path in cache_folder().glob(f"*{fingerprint[:24]}*")
        if path.is_file() and path.name.startswith(PREFIXES)
    )
