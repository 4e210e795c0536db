"""The checks of exercises: each says right, or what is wrong with a hint, and never the answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module

from common.cli import UserError

_CHECKS: dict[str, Callable[[object], str | None]] = {}


def exercise(number: str) -> Callable[[Callable[[object], str | None]], Callable[[object], str | None]]:
    """Register the check of an exercise, such as ``2.3``: it returns None for a right answer, else a hint."""

    def register(judge: Callable[[object], str | None]) -> Callable[[object], str | None]:
        _CHECKS[number] = judge
        return judge

    return register


def answer(number: str, given: object) -> bool:
    """Say whether an answer to an exercise is right; if not, what is wrong and a hint. Returns True if it is.

    An answer of None, as the exercises begin with, is not judged.

    Raises
    ------
    UserError
        When there is no such exercise.
    """
    if re.match(r"[1-5]\.", number := str(number)):
        import_module(f"common.lesson.exercises_{number[0]}")
    if number not in _CHECKS:
        known = ", ".join(sorted(_CHECKS)) or "those of a lesson, such as 2.3"
        raise UserError(f"exercise {number}: no such exercise; expected one of {known}")
    if given is None:
        print(f"exercise {number}: not answered yet")
        return False
    try:
        hint = _CHECKS[number](given)
    except Exception as error:  # the answer may be anything, and a function may raise anything
        hint = f"It ends with {type(error).__name__}: {error}"
    print(f"exercise {number}: right" if hint is None else f"exercise {number}: not yet. {' '.join(hint.split())}")
    return hint is None
