"""What a name in the registry stands for: its versions tell the same classes apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow import MlflowClient

from common.cli import UserError, escaped
from common.production.promotion import registry_at, versions_of

CLASSES = "classes"
"""A tag of each version."""


class Data(Protocol):
    """What is kept of the data of a version; a :class:`common.data.ImageTable` has it."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def example(self) -> Any: ...


@dataclass(frozen=True)
class StoredData:
    """The same, as a run has recorded it."""

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    _example: bytes

    def example(self) -> bytes:
        """The first image file."""
        return self._example


def check_scope(uri: str, name: str, data: Data) -> None:
    """Refuse data of other classes than a registered model has.

    Raises
    ------
    UserError
    """
    with registry_at(uri) as registry:
        check_classes_of(registry, name, data)


def check_classes_of(registry: MlflowClient, name: str, data: Data) -> None:
    """The same, of a registry that is open."""
    classes = list(map(escaped, data.classes))
    for version in versions_of(registry, name):
        known = json.loads(version.tags.get(CLASSES, "null"))
        if known not in (None, classes):
            raise UserError(
                f"--register {name}: its versions tell {', '.join(known)} apart, the data {data.name} have the classes "
                f"{', '.join(classes)}; expected the same, or another name"
            )
