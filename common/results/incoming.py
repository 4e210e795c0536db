"""What comes in with a root run beside its rows: artifacts, models, splits and registered versions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.cli import UserError, escaped
from common.results.trees import Tree, Trees, with_ids
from common.state import data_folder, whole_file
from common.tracking.runs import Run

ELSEWHERE = "ledger_elsewhere.jsonl"
"""Artifact of a run that came from another machine: the lines that the record there has of it."""
Extract = Callable[[str, Path], None]


class Incoming(NamedTuple):
    """One root run that comes in: its tree, and what else an archive has of it.

    Attributes
    ----------
    tree : Tree
    studies, versions : list of dict
    ledger : bytes
    files : list of str
        ``artifacts/<run id>/…``, ``models/<model id>/…``, ``splits/<data>/…``.
    extract : callable
        Writes one of the files to a path.
    """

    tree: Tree
    studies: list[dict[str, Any]]
    versions: list[dict[str, Any]]
    ledger: bytes
    files: list[str]
    extract: Extract


def put_files(trees: Trees, source: Incoming, new: dict[str, str]) -> None:
    """Copy artifacts and the files of models to where the store keeps them."""
    its = {run.run_id for run in source.tree.runs}
    models = {model.model_id for model in source.tree.models}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for kind, ids, files_of in (("artifacts", its, trees.artifacts), ("models", models, trees.model_files)):
            for each, names in _by_id(source.files, kind):
                now = with_ids(each, new)
                if now not in ids:
                    continue
                for name in names:
                    path = folder / now / with_ids(name, new)
                    source.extract(f"{kind}/{each}/{name}", path)
                    if path.name == "MLmodel" and new:
                        path.write_text(with_ids(path.read_text(), new))
                if kind == "artifacts" and now == source.tree.root.run_id and source.ledger:
                    (folder / now / ELSEWHERE).write_bytes(source.ledger)
                files_of(now).log_artifacts(str(folder / now))
                shutil.rmtree(folder / now)


def _by_id(files: Sequence[str], kind: str) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for file in files:
        top, _, rest = file.partition("/")
        each, _, name = rest.partition("/")
        if top == kind and name:
            found.setdefault(each, []).append(name)
    yield from sorted(found.items())


def put_splits(source: Incoming) -> None:
    """Splits that are not here; others of the same images stay, and a line says so."""
    with tempfile.TemporaryDirectory() as temporary:
        for file in (name for name in source.files if name.startswith("splits/")):
            source.extract(file, part := Path(temporary) / "splits.json")
            _, data, name = file.split("/")
            content, target = part.read_bytes(), data_folder() / data / name
            fingerprint = _fingerprint_in(content)
            if target.exists() and target.read_bytes() != content:
                here = _fingerprint_in(target.read_bytes())
                target = target.with_name(f"dataset_splits-{fingerprint[:12]}.json")
                if here == fingerprint or (target.exists() and target.read_bytes() != content):
                    print(escaped(f"splits of {data}: there are others of the same images, which stay"))
                    continue
            if not target.exists():
                with whole_file(target) as whole:
                    whole.write(content)


def _fingerprint_in(splits: bytes) -> str:
    """The fingerprint that a splits file has; of a damaged one its own digest."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        if re.fullmatch("[0-9a-f]{12,}", found := json.loads(splits)["fingerprint"]):
            return found
    return hashlib.sha256(splits).hexdigest()


def put_versions(trees: Trees, source: Incoming, new: dict[str, str]) -> None:
    """Register the versions that the run had, where this registry has none of it."""
    if not source.versions:
        return
    client, root_id = trees.client, source.tree.root.run_id
    known = {version.name for version in client.search_model_versions(f"run_id = '{root_id}'")}
    for version in source.versions:
        if version["name"] in known:
            continue
        with contextlib.suppress(UserError):  # there is one already
            client.create_registered_model(version["name"])
        tags = {key: with_ids(value, new) for key, value in version["tags"].items()}
        taken = client.get_registered_model(version["name"]).aliases
        if taken:  # what is in production here stays
            tags |= {"stage": "Archived", "promotion": f"imported; there: {tags.get('promotion', '')}"}
        source_uri, model_id = with_ids(version["source"], new), with_ids(version["model_id"] or "", new)
        experiment = client.get_run(root_id).info.experiment_id
        with Run(trees.uri, experiment, root_id)._fluent():  # MLflow looks for the model there
            made = client.create_model_version(version["name"], source_uri, root_id, tags, model_id=model_id or None)
        for alias in version["aliases"]:
            if alias not in taken:
                client.set_registered_model_alias(version["name"], alias, made.version)
