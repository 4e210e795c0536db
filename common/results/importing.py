"""Root runs from an archive, into the tracking store that is here: each once, and whole or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag

from common.cli import UserError, reason_of
from common.cli.converters import experiment
from common.locks import locked
from common.progress import one_by_one
from common.results.archive import Archive, open_archive
from common.results.deleting import remove_tree, remove_work_of
from common.results.incoming import Incoming, put_files, put_splits, put_versions
from common.results.members import STUDIES, VERSIONS, AboutTree, read_member
from common.results.opening import open_trees
from common.results.trees import ADDING, ORIGIN, ROOT, KeptRun, RootRun, Tree, Trees, line_key, with_ids
from common.search.kept import delete_studies, put_studies, study_names
from common.state import work_folder
from common.tracking.at_work import kept_from_work
from common.tracking.pages import TAGS
from common.tracking.recorded_code import put_code
from common.tracking.store import place_of_artifacts


def import_results(path: str | Path) -> list[str]:
    """Add the root runs of an archive to the tracking store, with all that is theirs.

    All of the archive is checked before anything is written. Ids are kept where they are free, else others are given,
    and the tag ``origin`` of each run keeps the first one. A run that is here already stays as it is; runs below it
    that are not, such as an analysis made since, are added. What was interrupted is finished by the same call.

    Parameters
    ----------
    path : str or Path
        What ``export`` wrote.

    Returns
    -------
    list of str
        A line for each root run.

    Raises
    ------
    UserError
        When the archive is none, is damaged, of a newer version or not harmless, or the store cannot be used.
    """
    with open_archive(Path(path).expanduser()) as archive:
        sources = [source_of(archive, run_id) for run_id in _runs_of(archive)]
        trees = open_trees()
        for name in archive.names("code"):
            put_code(name.removesuffix(".pack"), archive.read(f"code/{name}"))
        with locked(work_folder("mlflow") / "import"):
            known = known_roots(trees)
            return [take_in(trees, source, known) for source in one_by_one(sources, "adding", "run")]


def _runs_of(archive: Archive) -> list[str]:
    found = archive.manifest.get("runs")
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise UserError(f"{archive.path}: names no runs; expected what common.results export wrote")
    return list(dict.fromkeys(found))


def source_of(archive: Archive, run_id: str) -> Incoming:
    """One root run of an archive.

    Raises
    ------
    UserError
        When a part is missing, or is not as expected.
    """
    about = read_member(archive, f"{run_id}/tree.json", AboutTree)
    runs = read_member(archive, f"{run_id}/runs.jsonl", list[KeptRun])
    studies = read_member(archive, f"{run_id}/studies.json", STUDIES)
    versions = read_member(archive, f"{run_id}/versions.json", VERSIONS)
    try:
        tree = Tree(experiment(about["experiment"]), runs, about["models"])
        _check_names(run_id, tree, studies, archive.names(run_id))
    except (ValueError, ArgumentTypeError) as error:
        raise UserError(f"{archive.path}: run {run_id!r:.40} is not as expected ({reason_of(error)})") from None
    extract = lambda name, to: archive.extract(f"{run_id}/{name}", to)  # noqa: E731
    return Incoming(tree, studies, versions, archive.read(f"{run_id}/ledger.jsonl"), archive.names(run_id), extract)


def _check_names(run_id: str, tree: Tree, studies: list[dict], files: list[str]) -> None:
    """Names become paths here, and those of studies say whose they are: each must be what ``export`` calls it."""
    if not tree.runs or tree.root.run_id != run_id:
        raise ValueError(f"expected it as the first of its runs, found {[run.run_id for run in tree.runs[:1]]}")
    ids = [run.run_id for run in tree.runs] + [model.model_id.removeprefix("m-") for model in tree.models]
    splits = [name for name in files if name.startswith("splits/")]
    for name, expected in (
        *((each, "[0-9a-f]{32}") for each in ids),
        *((str(study["name"]), f"{tree.root.run_id} root .*") for study in studies),
        *((name, r"splits/[^/]+/dataset_splits[^/]*\.json") for name in splits),
    ):
        if not re.fullmatch(expected, name):
            raise ValueError(f"{name!r:.80} is no name of its kind")
    if twice := [each for each, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"{twice[0]} is there twice")


def known_roots(trees: Trees) -> list[RootRun]:
    """The root runs of a store, also those that are on their way in."""
    return [root for level in (ADDING, ROOT) for root in trees.roots(level)]


def take_in(trees: Trees, source: Incoming, known: list[RootRun], held_id: str = "") -> str:
    """Add one root run, unless it is one of the `known`, which it joins; returns a line that says so.

    The runs are shown when all else is there: until then the root's level is :data:`ADDING`. Of `held_id` the caller
    keeps others from work.
    """
    before = source.tree.root
    there = _there(known, source.tree)
    if there is not None:
        with contextlib.ExitStack() as held:
            if there != held_id:
                held.enter_context(kept_from_work(there))
            level = trees.client.get_run(there).data.tags["run_level"]
            if level == ROOT:
                added, changed = _add_missing(trees, source, there)
                what = [f"{added} runs below it added"] if added else []
                what += [f"{changed} runs brought up to date"] if changed else []
                return f"run {there}: is here already, {', '.join(what) or 'nothing to add'}"
            _undo(trees, there)
    new = _free_ids(trees, source.tree)
    source = source._replace(tree=source.tree.renamed(new))
    tree = source.tree
    tree.root.tags["run_level"] = ADDING
    got = trees.add(tree, _experiment(trees, tree.experiment))
    source, new = source._replace(tree=tree.renamed(got)), {old: got.get(now, now) for old, now in new.items()} | got
    put_files(trees, source, new)
    put_studies(json.loads(with_ids(json.dumps(source.studies), new)))
    put_splits(source)
    put_versions(trees, source, new)
    root = source.tree.root
    trees.client.set_tag(root.run_id, "run_level", ROOT)
    known.append(RootRun(root.run_id, tree.experiment, root.status, root.start, root.end, root.tags))
    was = "" if root.run_id == before.run_id else f" (it was {before.run_id})"
    return f"run {root.run_id}{was}: added, with {len(tree.runs) - 1} runs below it"


def _experiment(trees: Trees, name: str) -> str:
    found = trees.client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    return trees.client.create_experiment(name, place_of_artifacts(trees.uri, name), TAGS)


def _there(known: Sequence[RootRun], tree: Tree) -> str | None:
    """The id under which a root run is here."""
    names = {tree.root.run_id, tree.root.tags.get(ORIGIN)}
    for root in known:
        same = root.start == tree.root.start and root.tags.get("fingerprint") == tree.root.tags.get("fingerprint")
        if same and ({root.run_id, root.tags.get(ORIGIN)} - {None}) & names:
            return root.run_id
    return None


def _undo(trees: Trees, root_id: str) -> None:
    """Remove the half of a run that an interrupted import left."""
    delete_studies([name for name in study_names() if name.startswith(root_id)])
    for version in trees.client.search_model_versions(f"run_id = '{root_id}'"):
        trees.client.delete_model_version(version.name, version.version)
    remove_work_of(root_id)
    remove_tree(trees, root_id)


def _free_ids(trees: Trees, tree: Tree) -> dict[str, str]:
    """New ids for those that are taken here by other runs or models."""
    ids = {run.run_id for run in tree.runs} | {model.model_id.removeprefix("m-") for model in tree.models}
    if trees.uri.startswith("http"):
        return {}
    return {each: uuid.uuid4().hex for each in ids - trees.free(ids)}


def _add_missing(trees: Trees, source: Incoming, there: str) -> tuple[int, int]:
    """Add what a tree that is here lacks: runs, and what came to those that were interrupted; how many of each."""
    here = {run.run_id: run for run in trees.tree(there).runs}
    known = {run.tags.get(ORIGIN, run.run_id): run_id for run_id, run in here.items()} | {each: each for each in here}
    ids = {run.run_id: known.get(run.run_id) or known.get(run.tags.get(ORIGIN, "")) for run in source.tree.runs}
    new = {old: now for old, now in ids.items() if now is not None}
    changed = [run for run in source.tree.runs if (now := new.get(run.run_id)) and _went_on(run, here[now])]
    for run in changed:
        _update(trees, run, here[new[run.run_id]], new)
    missing = [run for run in source.tree.runs if ids[run.run_id] is None]
    part = Tree(source.tree.experiment, missing, [m for m in source.tree.models if ids.get(m.run_id) is None])
    if missing:
        new |= _free_ids(trees, part)
        got = trees.add(part.renamed(new), trees.client.get_run(there).info.experiment_id)
        new = {old: got.get(now, now) for old, now in new.items()} | got
    if missing or changed:
        part = Tree(part.experiment, [*changed, *missing], part.models)
        put_files(trees, source._replace(tree=part.renamed(new)), new)
        put_studies(json.loads(with_ids(json.dumps(source.studies), new)))
    return len(missing), len(changed)


def _went_on(run: KeptRun, here: KeptRun) -> bool:
    return here.status != "FINISHED" and (run.status, run.end) != (here.status, here.end)


def _update(trees: Trees, run: KeptRun, here: KeptRun, new: dict[str, str]) -> None:
    said = {line_key(line) for line in here.metrics}
    metrics = [Metric(*line) for line in run.metrics if line_key(line) not in said]
    params = [Param(*item) for item in run.params.items() if item[0] not in here.params]
    tags = [RunTag(key, with_ids(value, new)) for key, value in run.tags.items() if key not in here.tags]
    for start in range(0, len(metrics), 1000):
        trees.client.log_batch(here.run_id, metrics=metrics[start : start + 1000])
    for start in range(0, max(len(params), len(tags)), 50):
        trees.client.log_batch(here.run_id, params=params[start : start + 50], tags=tags[start : start + 50])
    trees.client.set_terminated(here.run_id, run.status, run.end)
