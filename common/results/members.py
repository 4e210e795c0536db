"""What the JSON members of an archive must hold, and whether they do: each field by the type hints of this room."""

from __future__ import annotations

from functools import cache
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
        content = b"[%s]" % b",\n".join(content.splitlines())
    try:
        return _adapter(kind).validate_json(content)
    except ValidationError as error:
        raise UserError(f"{archive.path}: {name}: {escaped(_told(error))}") from None


_adapter = cache(TypeAdapter)
EXPECTED = {
    "missing": "expected this field",
    "extra_forbidden": "expected no such field",
    "unexpected_keyword_argument": "expected no such field",
}


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    kind = first["type"]
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"]).lstrip(".")
    said = EXPECTED.get(kind) or first["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
    has_found = kind not in (*EXPECTED, "value_error", "json_invalid")
    return f"{place}{': ' * bool(place)}{said}" + (f", found {first['input']!r:.60}" if has_found else "")
