"""What a name in the registry stands for: its versions tell the same classes apart, and compete on the same data.

A version has the tags ``classes``, ``data_fingerprint`` and ``data_line``. A new version gets the ``data_line`` of the
version in production (without one: of the newest version) when its data have all images of that one, with the same
classes and groups: they are the same data, or an extension of them. Otherwise their test scores cannot be compared, so
it begins a line of its own. Only versions of the line in production get into production by themselves: to change the
line, set the alias ``production`` in MLflow.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from common.cli import UserError, escaped
from common.production.promotion import ALIAS, LINE, registry_at, versions_of

CLASSES, IMAGES = "classes", "registered_images.txt"
"""A tag, and the artifact of a run that has a line, a digest, for each image."""


class Data(Protocol):
    """What is compared of the data of two versions; a :class:`common.data.ImageTable` has it."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def example(self) -> Any: ...
    def image_keys(self) -> Set[str]: ...


@dataclass(frozen=True)
class StoredData:
    """The same, as a run has recorded it."""

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    _example: bytes
    _keys: frozenset[str]

    def example(self) -> bytes:
        """The first image file."""
        return self._example

    def image_keys(self) -> frozenset[str]:
        """As those of a table."""
        return self._keys


def check_scope(uri: str, name: str, data: Data) -> None:
    """Refuse data of other classes than a registered model has; say it where other data will not be in production.

    Raises
    ------
    UserError
    """
    with registry_at(uri) as registry:
        if reason := scope_of(registry, name, data)[1]:
            print(f"--register {name}: the new version will not be in production by itself: {reason}")


def scope_of(registry: MlflowClient, name: str, data: Data) -> tuple[dict[str, str], str | None]:
    """The tags of a new version, and why it cannot be compared with the one in production.

    Raises
    ------
    UserError
        When the classes are others than those of the registered model.
    """
    classes = list(map(escaped, data.classes))
    tags = {CLASSES: json.dumps(classes), "data_fingerprint": data.fingerprint, LINE: uuid4().hex[:12]}
    if (before := _reference(registry, name)) is None:
        return tags, None
    known = json.loads(before.tags.get(CLASSES, "null"))
    if known not in (None, classes):
        raise UserError(
            f"--register {name}: its versions tell {', '.join(known)} apart, the data {data.name} have the classes "
            f"{', '.join(classes)}; expected the same, or another name"
        )
    if reason := _difference(registry, before, data):
        return tags, reason
    return tags | {LINE: before.tags[LINE]}, None


def _reference(registry: MlflowClient, name: str) -> ModelVersion | None:
    """The version that new ones are compared with."""
    try:
        alias = registry.get_registered_model(name).aliases.get(ALIAS)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    versions = {int(version.version): version for version in versions_of(registry, name)}
    return versions.get(int(alias or 0)) or versions.get(max(versions, default=0))


def _difference(registry: MlflowClient, before: ModelVersion, data: Data) -> str | None:
    """Why the data of a version are neither those of a model nor a part of them."""
    if before.tags.get("data_fingerprint") == data.fingerprint:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = registry.download_artifacts(before.tags["run_id"], IMAGES, folder)
        except (KeyError, MlflowException, OSError):
            return f"which data version {before.version} is of is not known"
        known = set(Path(path).read_text().split())
    if missing := len(known - data.image_keys()):
        return f"{missing} of the {len(known)} images of version {before.version} are not in the data {data.name}"
    return None
