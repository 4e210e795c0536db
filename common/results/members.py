"""What the JSON members of an archive must hold, and whether they do: each field by the type hints of this room."""

from __future__ import annotations

import re
from typing import Annotated, Any

from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
)
from pydantic import AfterValidator, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from common.cli import UserError, escaped, reason_of
from common.results.archive import Archive
from common.results.trees import STRICT, KeptModel
from common.search.kept import StudyRecord, check_study


@with_config(STRICT)
class AboutTree(TypedDict):
    """``tree.json``: what an archive says of a root run beside its runs."""

    experiment: str
    models: list[KeptModel]


@with_config(STRICT)
class Version(TypedDict):
    """A registered version, in ``versions.json``."""

    name: str
    version: str
    source: str
    model_id: str | None
    tags: dict[str, str]
    aliases: list[str]


def _check_names(version: Version) -> Version:
    try:
        _validate_model_name(version["name"])
        for alias in version["aliases"]:
            _validate_model_alias_name(alias)
            _validate_model_alias_name_reserved(alias)
    except MlflowException as error:
        raise ValueError(reason_of(error)) from None
    return version


VERSIONS = list[Annotated[Version, AfterValidator(_check_names)]]
"""Whose names and aliases MLflow takes."""
STUDIES = list[Annotated[StudyRecord, AfterValidator(check_study)]]
"""That Optuna takes."""


def read_member(archive: Archive, name: str, kind: Any) -> Any:
    """What a JSON member holds, a list of its lines where it is ``.jsonl``.

    Parameters
    ----------
    kind : type hint
        As pydantic takes it.

    Raises
    ------
    UserError
        When the member is missing, is no JSON, or has a field that is not as the hint says.
    """
    content = archive.read(name)
    if name.endswith(".jsonl"):
        content = b"[%s]" % b",".join(content.splitlines())
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = re.sub(r"\.(\d+)", r"[\1]", "".join(f".{key}" for key in first["loc"])).lstrip(".")
        said = first["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
        found = "" if first["type"] in ("value_error", "json_invalid") else f", found {first['input']!r:.60}"
        raise UserError(f"{archive.path}: {name}: {place}{': ' * bool(place)}{escaped(said + found)}") from None
