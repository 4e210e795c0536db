"""Learners' answers: read as numbers, or called, without falling over what they may be."""

from __future__ import annotations

import math
from collections.abc import Iterable


def numbers(answer: object, count: int) -> list[float] | None:
    """The answer as `count` finite numbers; None if it is anything else."""
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        return None
    try:
        found = [float(value) for value in answer]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def called(answer: object, *arguments: object) -> tuple[object, str | None]:
    """What the answer, a function, returns for the arguments; and a hint where it cannot be called with them."""
    if not callable(answer):
        return None, f"Give a function, without calling it; this is of class {type(answer).__name__}."
    try:
        return answer(*arguments), None
    except Exception as error:  # whatever a learner's function raises is for the learner to read
        return None, f"Your function raises {type(error).__name__}: {error}"
