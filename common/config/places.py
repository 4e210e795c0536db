"""Where spaces stand in a config: the names of their parameters, and a trial's values in their place."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import partial
from typing import Any

from common.config.spaces import Categorical, FieldError, Space


def find_spaces(config: Any) -> dict[str, Space]:
    """All spaces of a config by the name of their parameter, in the order in which :func:`resolve` asks.

    The name is the explicit one, or the path: ``optimizer.learning_rate`` for a field of a nested dataclass,
    ``layers.0.width`` for an element of a list, ``params.batch_size`` for a key of a dict, ``model.width`` for an
    argument of a ``functools.partial``. Below a choice the path goes
    on with the label of the alternative, ``optimizer.SGD.momentum``, so alternatives never share a parameter.

    Raises
    ------
    FieldError
        If a space is wrong in itself, two have one name, or a name holds other characters than MLflow takes.
    """
    owner = type(config).__name__ if is_dataclass(config) else ""
    found: dict[str, Space] = {}
    for path, space in _spaces(config, "", owner):
        place, name = _join(owner, path), _name(space, path)
        if not isinstance(name, str) or not re.fullmatch(r"(?!\.\.|\.$)[\w.\- ]{1,250}", name):
            raise FieldError(
                place,
                f"expected up to 250 letters, digits, spaces and _ . - as name of {space!r:.500}, found {name!r:.300}",
            )
        if name in found:
            raise FieldError(
                place, f"expected a name of its own, found {name!r} in {space!r:.500} and in {found[name]!r:.500}"
            )
        found[name] = space
    return found


def first_values(config: Any) -> Any:
    """The config with the first value of each space: the low end, or the first choice."""
    return resolve(config, _FirstValues())


class _FirstValues:
    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> float:
        return low

    suggest_int = suggest_float

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[0]


def resolve(config: Any, trial: Any) -> Any:
    """The config with every space replaced by the trial's value.

    Parameters
    ----------
    config : dataclass, dict, list or tuple
        May hold spaces at any depth.
    trial : optuna Trial, FrozenTrial or FixedTrial
        ``FixedTrial(study.best_params)`` gives the winning config.

    Returns
    -------
    Same type as `config`
        Parts without spaces are not copied.

    Raises
    ------
    FieldError
        As :func:`find_spaces`.
    """
    find_spaces(config)

    def fill(value: Any, path: str) -> Any:
        if isinstance(value, Categorical):
            label = value.suggest(trial, _name(value, path))
            return fill(value.choices[value.labels.index(label)], _join(path, label))
        if isinstance(value, Space):
            return value.suggest(trial, _name(value, path))
        old = _items(value)
        new = {key: fill(item, _join(path, key)) for key, item in old.items()}
        if all(new[key] is item for key, item in old.items()):
            return value
        if is_dataclass(value):
            return dataclasses.replace(value, **new)
        if isinstance(value, partial):
            return partial(value.func, *value.args, **new)
        if hasattr(value, "_replace"):
            return value._replace(**new)
        return type(value)(new if isinstance(value, dict) else new.values())

    return fill(config, "")


def _spaces(value: Any, path: str, owner: str) -> Iterator[tuple[str, Space]]:
    if isinstance(value, Space):
        problem = value.problem()
        if problem:
            raise FieldError(_join(owner, path), f"{problem}, found {value!r:.500}")
        yield path, value
        if isinstance(value, Categorical):
            for label, choice in zip(value.labels, value.choices, strict=True):
                yield from _spaces(choice, _join(path, label), owner)
    else:
        for key, item in _items(value).items():
            yield from _spaces(item, _join(path, key), owner)


def _items(value: Any) -> dict[Any, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, dict):
        return value
    if isinstance(value, partial):
        return value.keywords
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}


def _name(space: Space, path: str) -> str:
    return path if space.name is None else space.name


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
