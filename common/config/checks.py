"""Checks of a config against its annotations: types, ranges, and both for the extremes of every search space."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from common.config.places import find_spaces
from common.config.spaces import FieldError, Space


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field takes, as in ``Annotated[float, Range(ge=0, lt=1)]``.

    Parameters
    ----------
    ge, gt, le, lt : float, optional
        At least, above, at most, below.
    """

    ge: float = -math.inf
    gt: float = -math.inf
    le: float = math.inf
    lt: float = math.inf

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, (int, float)):
            return True
        return self.ge <= value <= self.le and self.gt < value < self.lt

    def __str__(self) -> str:
        words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
        return " and ".join(
            f"{word} {getattr(self, bound)}" for bound, word in words.items() if math.isfinite(getattr(self, bound))
        )


def check_config(config: Any) -> None:
    """Check each field of a dataclass against its annotation, in nested dataclasses, lists and dicts too.

    A bool is no int, an int does for a float and a str for a Path; nan and infinity are refused. A space is checked by
    its bounds, or by each of its choices. Annotations unknown here take anything.

    Raises
    ------
    FieldError
        At the first wrong value, or as :func:`common.config.places.find_spaces`.
    """
    find_spaces(config)
    _check_fields(config, type(config).__name__)


def _check_fields(config: Any, path: str) -> None:
    hints = _hints(type(config))
    for field in fields(config):
        _check(hints[field.name], getattr(config, field.name), f"{path}.{field.name}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _check(hint: Any, value: Any, path: str, role: tuple[str, Space] | None = None) -> None:
    if isinstance(value, Space):
        for part, extreme in value.extremes():
            _check(hint, extreme, path, (part, value))
        return
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        fits = any(_fits(option, value) for option in args)
    elif origin is Annotated:
        fits = _fits(args[0], value) and all(value in bounds for bounds in args[1:] if isinstance(bounds, Range))
    elif origin is Literal:
        fits = any(value == option and type(value) is type(option) for option in args)
    elif origin is type:
        fits = isinstance(value, type) and (args[0] is Any or issubclass(value, args[0]))
    elif origin is tuple and args[-1] is not ...:
        fits = isinstance(value, tuple) and len(value) == len(args)
    else:
        fits = _is_instance(value, origin or hint)
    if not fits:
        found = repr(value)
        found = found if len(found) <= 80 else f"{found[:77]}..."
        where = f" as {role[0]} of {role[1]!r:.500}" if role else ""
        raise FieldError(path, f"expected {_words(hint)}, found {found}{where}")
    for inner, item, place in _contents(origin, args, value, path):
        _check(inner, item, place, role)
    if is_dataclass(value) and not isinstance(value, type):
        _check_fields(value, path)


def _fits(hint: Any, value: Any) -> bool:
    try:
        _check(hint, value, "")
    except FieldError:
        return False
    return True


def _is_instance(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, (str, Path))
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def _contents(origin: Any, args: tuple, value: Any, path: str) -> list[tuple[Any, Any, str]]:
    if not isinstance(origin, type) or not args:
        return []
    if issubclass(origin, Mapping):
        return [(args[1], item, f"{path}.{key}") for key, item in value.items()]
    if origin is tuple and args[-1] is not ...:
        return [(hint, item, f"{path}.{i}") for i, (hint, item) in enumerate(zip(args, value, strict=True))]
    return [(args[0], item, f"{path}.{i}") for i, item in enumerate(value)] if issubclass(origin, Sequence) else []


def _words(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, args))
    if origin is Annotated:
        return " ".join([_words(args[0]), *(str(bounds) for bounds in args[1:] if isinstance(bounds, Range))])
    if origin is Literal:
        return " or ".join(map(repr, args))
    if args:
        return f"{_words(origin)}[{', '.join('...' if arg is ... else _words(arg) for arg in args)}]"
    return {float: "finite float", types.NoneType: "None"}.get(hint, getattr(hint, "__name__", str(hint)))
