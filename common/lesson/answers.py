"""Learners' answers: read in whatever form they come, and held against what is right and against known mistakes."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np


def one_number(answer: object) -> float | None:
    """The answer as a finite number: a Python, NumPy or PyTorch one, an array of one, or a text; None if it is none."""
    if isinstance(answer, bool | np.bool_ | bytes):
        return None
    found = math.nan
    with contextlib.suppress(TypeError, ValueError, ArithmeticError, RuntimeError):
        if isinstance(answer, str):
            text = answer.strip().removesuffix("%")
            text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
            found = float(Decimal(text) / 100 if answer.strip().endswith("%") else text)
        else:
            value = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
            if value.size == 1 and value.dtype.kind in "iufO":
                item = value.reshape(-1)[0]
                found = float(str(item) if value.dtype.kind == "f" else item)  # 0.1 of float32 is 0.1
    return found if math.isfinite(found) else None


def numbers(answer: object, count: int) -> list[float] | None:
    """The answer as `count` finite numbers in their order; None if it is anything else."""
    given = parts(answer) or []
    if len(given) == 1 < count:  # an array of one row
        given = parts(given[0]) or []
    found = [one_number(part) for part in given]
    return [value for value in found if value is not None] if len(found) == count and None not in found else None


def parts(answer: object) -> list | None:
    """The answer, a sequence, an array or a text of one, as a list; None if it has no order or no parts."""
    answer = meant(answer)
    if isinstance(answer, str | bytes | set | frozenset | Mapping) or not isinstance(answer, Iterable):
        return None
    with contextlib.suppress(TypeError):  # such as an array of no dimension
        return list(answer)
    return None


def meant(answer: object) -> object:
    """What a text says where it is Python's for numbers, a list, a dict or the like; any other answer as it is."""
    if isinstance(answer, str):
        with contextlib.suppress(ValueError, SyntaxError):
            return ast.literal_eval(answer.strip())
    return answer


def truth(answer: object) -> bool | None:
    """The answer as True or False: also NumPy's, a tensor of one, or a text; None if it is neither."""
    if isinstance(answer, str):
        return {"true": True, "yes": True, "false": False, "no": False}.get(answer.strip().casefold())
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        value = np.asarray(answer)
        return bool(value.item()) if value.dtype == bool and value.size == 1 else None
    return None


def agrees(found: float, expected: float, decimals: int = 2) -> bool:
    """Whether a number is the expected one, rounded to so many decimals or more, of which four count."""
    exponent = Decimal(repr(float(found))).as_tuple().exponent
    typed = -exponent if isinstance(exponent, int) else 0
    return abs(found - expected) <= 0.5 * 10.0 ** -min(max(typed, decimals), 4) + 1e-9


def mistake(found: float, wrong: Mapping[str, Sequence[float]], decimals: int = 2) -> str | None:
    """What a wrong number comes from: the text whose number is nearest among those that agree."""
    known = [(abs(found - value), text) for text, values in wrong.items() for value in values]
    near = [(gap, text) for gap, text in known if gap <= 1e-9 or agrees(found, found - gap, decimals)]
    return min(near)[1] if near else None


def called(answer: object, *arguments: object) -> tuple[object, str | None]:
    """What the answer, a function, returns for the arguments; and a hint where it cannot be called, or returns None."""
    if not callable(answer):
        return None, f"Give a function, without calling it; this is of class {type(answer).__name__}."
    try:
        found = answer(*arguments)
    except Exception as error:  # whatever a learner's function raises is for the learner to read
        return None, f"Your function raises {type(error).__name__}: {error}"
    return found, "Your function returns nothing: end it with return." if found is None else None


def names_found(answer: object, cases: Iterable[tuple]) -> list[set[str]] | str:
    """The names that the answer, a function, returns for each case in any collection; or what is wrong with it."""
    found = []
    for case in cases:
        result, problem = called(answer, *case)
        names = list(result) if isinstance(result, set | frozenset) else parts(result)
        if problem or names is None:
            return problem or f"It returns {result!r:.60}, a {type(result).__name__}; expected a set of group names."
        found.append(set(map(str, names)))
    return found


def same(results: Sequence[object], wrong: Mapping[str, Callable], cases: Sequence[tuple]) -> str | None:
    """The mistake whose function gives the same results for all cases as the learner's, or None."""
    return next(
        (text for text, act in wrong.items() if all(r == act(*c) for r, c in zip(results, cases, strict=True))), None
    )
