"""Every way that a learner's `suggest` may go: a trial that tries each choice, and each end of each range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST = 200
"""Ways that are tried."""


@dataclass
class Tried:
    """A trial that answers as told beforehand, by place in what is offered, and keeps what it was asked.

    Attributes
    ----------
    told : dict from name to int
        Which of the values offered; the first where nothing is told.
    asked : dict from name to list
        The values that each parameter offered.
    result : object
        What the learner's function returned.
    """

    told: dict[str, int]
    asked: dict[str, list] = field(default_factory=dict)
    result: Any = None
    number: int = 0

    def _answer(self, name: str, values: list) -> object:
        if self.asked.setdefault(name, values) != values:
            raise ValueError(f"the parameter {name} is asked for twice, with other values")
        return values[min(self.told.get(name, 0), len(values) - 1)]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False):
        """As Optuna's: the low end, the middle or the high end."""
        if low > high or (log and low <= 0):
            raise ValueError(f"{name}: no range from {low} to {high}{' on a logarithmic scale' if log else ''}")
        return self._answer(name, [float(low), (low + high) / 2, float(high)])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False):
        """As Optuna's: the low end, the middle or the high end."""
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_categorical(self, name: str, choices: Sequence):
        """As Optuna's: each of the choices, which are None, or of class bool, int, float or str."""
        for choice in choices:
            if not isinstance(choice, bool | int | float | str | None):
                raise ValueError(
                    f"{name}: a study stores texts and numbers, no {type(choice).__name__}: choose by name"
                )
        return self._answer(name, list(choices))


def tried_all(suggest: Callable[[Tried], tuple[object, str | None]]) -> tuple[list[Tried], str | None]:
    """The trials of all ways through a function, or the first problem with what the trial had said.

    Parameters
    ----------
    suggest : callable
        Of a trial: returns a result, and a problem or None.
    """
    todo: list[dict[str, int]] = [{}]
    done: list[Tried] = []
    while todo and len(done) < MOST:
        trial = Tried(todo.pop())
        trial.result, problem = suggest(trial)
        new = next((name for name in trial.asked if name not in trial.told), None)
        if problem:
            return done, problem
        if new is None:
            done.append(trial)
        else:
            todo += [trial.told | {new: place} for place in reversed(range(len(trial.asked[new])))]
    return done, None
