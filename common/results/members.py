"""What the JSON members of an archive must hold, and whether they do: each field by the type hints of this room."""

from __future__ import annotations

import json
from functools import cache
from types import UnionType
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
)

from common.cli import UserError, escaped, reason_of
from common.results.archive import Archive
from common.results.trees import KeptModel
from common.search.kept import StudyRecord, check_study

LATEST = 1 << 47
"""The highest whole number: as milliseconds a time in the year 6429."""


class AboutTree(TypedDict):
    """``tree.json``: what an archive says of a root run beside its runs."""

    experiment: str
    models: list[KeptModel]


class Version(TypedDict):
    """A registered version, in ``versions.json``."""

    name: str
    version: str
    source: str
    model_id: str | None
    tags: dict[str, str]
    aliases: list[str]


def read_member(archive: Archive, name: str, kind: Any) -> Any:
    """What a JSON member holds, a list of its lines where it is ``.jsonl``.

    Raises
    ------
    UserError
        When the member is missing, is no JSON, or has a field that is not as the hint `kind` says.
    """
    content, lines = archive.read(name), name.endswith(".jsonl")
    try:
        found = [json.loads(line) for line in content.splitlines()] if lines else json.loads(content)
        check(found, kind)
        json.dumps(found, ensure_ascii=False).encode()  # no database takes half a character
    except (ValueError, RecursionError) as error:
        raise UserError(f"{archive.path}: {name}: {escaped(reason_of(error))}") from None
    return found


def read_studies(archive: Archive, name: str) -> list[dict[str, Any]]:
    """As :func:`read_member`, of studies that Optuna takes."""
    studies = read_member(archive, name, list[StudyRecord])
    for study in studies:
        try:
            check_study(study)
        except ValueError as error:
            raise UserError(f"{archive.path}: {name}: {escaped(reason_of(error))}") from None
    return studies


def read_versions(archive: Archive, name: str) -> list[dict[str, Any]]:
    """As :func:`read_member`, of versions whose names and aliases MLflow takes."""
    versions = read_member(archive, name, list[Version])
    for version in versions:
        try:
            _validate_model_name(version["name"])
            for alias in version["aliases"]:
                _validate_model_alias_name(alias)
                _validate_model_alias_name_reserved(alias)
        except MlflowException as error:
            raise UserError(f"{archive.path}: {name}: {escaped(reason_of(error))}") from None
    return versions


def check(value: Any, kind: Any, where: str = "") -> None:
    """Raise a ValueError, which names the field, where JSON is not as a type hint says.

    Parameters
    ----------
    kind : type hint
        Built of texts, numbers, lists, tuples (lists of that length), dicts, literals, None, dataclasses and typed
        dicts; a whole number is at least 0.
    """
    if kind is str:
        return _expect(isinstance(value, str), value, "a text", where)
    if kind is int:
        return _expect(type(value) is int and 0 <= value <= LATEST, value, "a whole number from 0", where)
    if kind is float:
        return _expect(type(value) in (int, float), value, "a number", where)
    if kind is Any:
        return
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else check(value, inner[0], where)
    if origin is Literal:
        return _expect(isinstance(value, str) and value in inner, value, f"one of {', '.join(inner)}", where)
    if origin in (list, tuple):
        what = "a list" if origin is list else f"a list of {len(inner)}"
        _expect(isinstance(value, list) and (origin is list or len(value) == len(inner)), value, what, where)
        for number, each in enumerate(value):
            check(each, inner[0 if origin is list else number], f"{where}[{number}]")
        return
    _expect(isinstance(value, dict), value, "an object", where)
    fields = dict.fromkeys(value, inner[1]) if origin is dict else _fields(kind)
    _expect(value.keys() == fields.keys(), [*value], f"the fields {', '.join(fields)}", where)
    for name, hint in fields.items():
        check(value[name], hint, f"{where}.{name}")


_fields = cache(get_type_hints)


def _expect(holds: bool, value: Any, expected: str, where: str) -> None:
    if not holds:
        raise ValueError(f"{where.lstrip('.') or 'it'}: expected {expected}, found {value!r:.60}")
