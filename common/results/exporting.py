"""Root runs with all that is theirs, as one file that goes to another machine."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.cli import UserError, escaped
from common.progress import one_by_one
from common.results.archive import write_archive
from common.results.deleting import root_ids
from common.results.listing import ledger
from common.results.opening import open_trees
from common.results.sharing import PREDICTIONS, WITHHELD, Shared
from common.results.trees import Tree, Trees, local_folder
from common.search.kept import study_records
from common.state import data_folder
from common.tracking.at_work import all_kept_from_work
from common.tracking.recorded_code import pack_code

Content = Path | bytes


def export_runs(run_ids: Sequence[str], path: str | Path, share: bool = False) -> Path:
    """Write root runs into an archive: all below them, histories, artifacts, models, studies, splits, ledger, and code.

    Parameters
    ----------
    run_ids : sequence of str
        Of root runs, or how each begins.
    path : str or Path
        Of the archive; replaced when all of it is written.
    share : bool
        Leave out what tells of people and machines, see :class:`Shared`, and the code.

    Raises
    ------
    UserError
        When there is no such run, a process works on one, or the archive cannot be written.
    """
    trees = open_trees()
    ids, files = root_ids(trees, run_ids), {}
    with tempfile.TemporaryDirectory() as folder, all_kept_from_work(ids):
        for run_id in one_by_one(ids, "reading", "run"):
            for name, content in tree_files(trees, run_id, Path(folder, run_id), share):
                files[f"{run_id}/{name}"] = content
            commit = trees.client.get_run(run_id).data.params.get("git_commit", "")
            if not share and f"code/{commit}.pack" not in files and (pack := pack_code(commit)) is not None:
                files[f"code/{commit}.pack"] = pack
        write_archive(Path(path), files, {"mlflow": version("mlflow"), "runs": ids, "shared": share})
    return Path(path)


def tree_files(trees: Trees, run_id: str, folder: Path, share: bool = False) -> Iterator[tuple[str, Content]]:
    """All that an archive holds of one root run, by its name there.

    Parameters
    ----------
    folder : Path
        Where artifacts of a server are put; those of this machine are read where they lie.
    share : bool
        As for :func:`export_runs`.
    """
    tree = trees.tree(run_id)
    its_files = [
        found
        for kind, files_of, ids in (
            ("artifacts", trees.artifacts, [run.run_id for run in tree.runs]),
            ("models", trees.model_files, [model.model_id for model in tree.models]),
        )
        for each in ids
        for found in _files(files_of, each, f"{kind}/{each}", folder)
    ]
    shared = None
    if share:
        hosts = {run.tags["host"] for run in tree.runs if "host" in run.tags}
        shared = Shared(hosts, [path for _, path in its_files if path.name == PREDICTIONS])
    if tree.root.status == "RUNNING":
        raise UserError(f"run {run_id}: has not ended; expected one that finished or was interrupted")
    versions = [_of_version(trees, found) for found in trees.client.search_model_versions(f"run_id = '{run_id}'")]
    lines = [line for line in ledger() if line.get("run") == run_id]
    parts: dict[str, Any] = {
        "tree.json": {"experiment": tree.experiment, "models": [asdict(model) for model in tree.models]},
        "studies.json": study_records(run_id),
        "versions.json": versions,
    }
    for name, part in parts.items():
        yield name, _json(shared.cleaned(part) if shared else part)
    runs = [asdict(run) for run in tree.runs]
    yield "runs.jsonl", b"\n".join(_json(shared.of_run(run) if shared else run) for run in runs)
    yield "ledger.jsonl", b"".join(_json(shared.cleaned(line) if shared else line) + b"\n" for line in lines)
    for path in [] if shared else splits_of(tree):
        yield f"splits/{path.parent.name}/{path.name}", path
    for name, path in its_files:
        if shared is None or name.split("/")[2:4] == ["code", "common"]:  # a model's copy of the project's own code
            yield name, path
        elif not name.endswith(WITHHELD):
            yield name, shared.file(path)


def splits_of(tree: Tree) -> list[Path]:
    """The splits files, on this machine, of the data that a root run was made with."""
    fingerprint = tree.root.params.get("data_fingerprint")
    found = []
    for path in sorted((data_folder() / escaped(tree.root.params.get("data_name", "-"))).glob("dataset_splits*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text())["fingerprint"] == fingerprint:
                found.append(path)
    return found


def _of_version(trees: Trees, found: Any) -> dict[str, Any]:
    aliases = trees.client.get_registered_model(found.name).aliases
    own = sorted(alias for alias, number in aliases.items() if str(number) == str(found.version))
    return {
        "name": found.name,
        "version": str(found.version),
        "source": found.source,
        "model_id": found.model_id,
        "tags": dict(found.tags),
        "aliases": own,
    }


def _files(files_of: Callable, each: str, name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    files = files_of(each)
    local = local_folder(files)
    if local is None:
        (local := folder / name).mkdir(parents=True)
        files.download_artifacts("", str(local))
    for path in sorted(local.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"{name}/{path.relative_to(local).as_posix()}", path


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
