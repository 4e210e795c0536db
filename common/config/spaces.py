"""Search spaces: what may stand in place of a value in a config."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Any

from common.cli import UserError

LARGEST = 2**53
"""Up to here a float, which is what Optuna's database keeps, holds every whole number."""


class FieldError(UserError, ValueError):
    """A wrong value in a config.

    Parameters
    ----------
    field : str
        Class and path, such as ``TrainingConfig.optimizer.momentum``.
    message : str
        What was expected and what was found.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field

    def __str__(self) -> str:
        return ": ".join(self.args)


class Space(ABC):
    """Base of :class:`Float`, :class:`Int` and :class:`Categorical`.

    A space is checked by :func:`common.config.places.find_spaces`, not when it is made: there its field is known.
    """

    name: str | None

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING:
                shown.append(repr(value))
            elif value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @abstractmethod
    def problem(self) -> str | None:
        """What is wrong with the space itself, as "expected …"; None if nothing is."""

    @abstractmethod
    def extremes(self) -> list[tuple[str, Any]]:
        """The values to check in place of all others, each with its role, such as ``("low", 0.0)``."""

    @abstractmethod
    def suggest(self, trial: Any, name: str) -> Any:
        """The trial's value of the parameter `name`: a number, or a label of :class:`Categorical`."""


class _Interval(Space):
    def problem(self) -> str | None:
        is_number, words = (_whole, "whole") if isinstance(self, Int) else (_finite, "finite")
        stepped = self.step != type(self).step
        if not (is_number(self.low) and is_number(self.high)):
            return f"expected {words} numbers as bounds"
        if self.low > self.high:
            return "expected low of at most high"
        if stepped and not (is_number(self.step) and self.step > 0):
            return f"expected a {words} step above 0"
        if not isinstance(self.log, bool):
            return "expected log to be True or False"
        if self.log and stepped:
            return "expected either log or step, not both"
        if self.log and self.low <= 0:
            return "expected low above 0 with log=True"
        return self._too_far()

    @abstractmethod
    def _too_far(self) -> str | None:
        """What Optuna's sampler or database cannot hold."""


@dataclass(frozen=True, repr=False)
class Float(_Interval):
    """A real number from `low` to `high`, both included, as Optuna's ``suggest_float``.

    Parameters
    ----------
    low, high : float
        Of a size from 1e-300 to 1e300, or 0; ``low <= high``, and not almost equal.
    log : bool
        Search on a logarithmic scale; `low` must then be above 0, and `step` None.
    step : float, optional
        Distance between allowed values, above 0; at most 2**53 of them fit between the bounds.
    name : str, optional
        Name of the parameter; by default its path in the config.
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    name: str | None = None

    def _too_far(self) -> str | None:
        size, range_ = max(abs(self.low), abs(self.high)), self.high - self.low
        if size > 1e300 or any(0 < abs(bound) < 1e-300 for bound in (self.low, self.high)):
            return "expected bounds that are 0 or of a size from 1e-300 to 1e300"
        if 0 < range_ < 1e-12 * size:
            return "expected bounds that are equal, or differ by more than 1e-12 of their size"
        if self.step and range_ > self.step * LARGEST:
            return "expected a step of which at most 2**53 fit between the bounds"
        return None

    def extremes(self) -> list[tuple[str, Any]]:
        return [("low", float(self.low)), ("high", float(self.high))]

    def suggest(self, trial: Any, name: str) -> float:
        return float(trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step))


@dataclass(frozen=True, repr=False)
class Int(_Interval):
    """A whole number from `low` to `high`, both included, as Optuna's ``suggest_int``.

    Parameters
    ----------
    low, high : int
        From -2**53 to 2**53, ``low <= high``.
    log : bool
        Search on a logarithmic scale; `low` must then be above 0, and `step` 1.
    step : int
        Distance between allowed values, from 1 to 2**53.
    name : str, optional
        Name of the parameter; by default its path in the config.
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int = 1
    name: str | None = None

    def _too_far(self) -> str | None:
        fits = max(abs(self.low), abs(self.high), self.step) <= LARGEST
        return None if fits else "expected bounds from -2**53 to 2**53, and a step of at most that"

    def extremes(self) -> list[tuple[str, Any]]:
        return [("low", self.low), ("high", self.high)]

    def suggest(self, trial: Any, name: str) -> int:
        return int(trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step))


@dataclass(frozen=True, repr=False)
class Categorical(Space):
    """One of several values, as Optuna's ``suggest_categorical``, but of any kind: also whole sub-configs.

    Parameters
    ----------
    choices : sequence
        Distinct values, which may hold spaces themselves. Only those of the chosen value are asked for.
    name : str, optional
        Name of the parameter; by default its path in the config.
    """

    choices: Sequence[Any]
    _: KW_ONLY
    name: str | None = None

    @property
    def labels(self) -> tuple[Any, ...]:
        """What stands for each choice in a study, in the order of the choices.

        A scalar (None, bool, int, float, str) stands for itself, a class or function goes by its name, a list, tuple or
        dict of scalars by its repr, a partial by its call, anything else by the name of its class. A name met twice
        ends with its index.
        """
        names = [choice if _scalar(choice) else _label(choice) for choice in self.choices]
        counts = Counter(names)
        return tuple(
            name if _scalar(choice) or counts[name] == 1 else f"{name}_{i}"
            for i, (choice, name) in enumerate(zip(self.choices, names, strict=True))
        )

    def problem(self) -> str | None:
        if not isinstance(self.choices, (list, tuple)):
            return "expected a list of choices"
        if not self.choices:
            return "expected at least one choice"
        if any(isinstance(choice, float) and math.isnan(choice) for choice in self.choices):
            return "expected choices other than nan"
        if any(isinstance(label, str) and re.search("[\ud800-\udfff]", label) for label in self.labels):
            return "expected text that UTF-8 can hold"
        for values in (self.choices, self.labels):
            seen = set()
            for value in values:
                if (key := _key(value)) in seen:
                    return f"expected distinct choices ({value!r:.80} is repeated)"
                seen.add(key)
        return None

    def extremes(self) -> list[tuple[str, Any]]:
        return [(f"choice {i}", choice) for i, choice in enumerate(self.choices)]

    def suggest(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.labels)


def HyperParameter(method: str | Callable, name: str, kwargs: dict[str, Any]) -> Space:
    """The older form of a space.

    Parameters
    ----------
    method : str or callable
        ``suggest_float``, ``suggest_int`` or ``suggest_categorical``, or Optuna's method of that name.
    name : str
        Name of the parameter.
    kwargs : dict
        What that method takes: ``low``, ``high``, ``log``, ``step``, or ``choices``.

    Raises
    ------
    FieldError
        If the method is another.
    """
    spaces = {"suggest_float": Float, "suggest_int": Int, "suggest_categorical": Categorical}
    kind = spaces.get(getattr(method, "__name__", method)) if isinstance(method, str) or callable(method) else None
    if kind is None:
        raise FieldError("HyperParameter.method", f"expected one of {', '.join(spaces)}, found {method!r}")
    return kind(**kwargs, name=name)


def _label(choice: Any) -> str:
    if isinstance(choice, Enum):
        return choice.name
    if isinstance(choice, PurePath):
        return str(choice)
    if _plain(choice):
        return repr(choice)
    if isinstance(choice, partial):
        values = [_label(value) for value in choice.args]
        values += [f"{name}={_label(value)}" for name, value in choice.keywords.items()]
        return f"{_label(choice.func)}({', '.join(values)})"
    if isinstance(choice, (list, tuple)):
        return ", ".join(map(_label, choice))
    return getattr(choice, "__name__", type(choice).__name__)


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return all(map(_plain, value.values() if isinstance(value, dict) else value))
    return _scalar(value)


def _scalar(value: Any) -> bool:
    return value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, Enum))


def _key(value: Any) -> Any:
    """What can be hashed, and is equal for equal values."""
    if isinstance(value, (list, tuple)):
        return type(value), *map(_key, value)
    if isinstance(value, dict):
        return dict, frozenset((name, _key(item)) for name, item in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), *(_key(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare)
    return value if isinstance(value, Hashable) else id(value)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
