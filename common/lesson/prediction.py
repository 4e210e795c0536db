"""Predict, run, explain: a number is typed before the lesson shows it."""

from __future__ import annotations

import numpy as np

from common.cli import escaped


class NoPredictionError(Exception):
    """A cell stops until a prediction is typed; it shows as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def predict(guess: object) -> None:
    """Show a prediction again, or ask for one. Where nobody is at the notebook, such as in CI, it goes on without.

    Parameters
    ----------
    guess : number, str or None
        None when it is not typed yet.

    Raises
    ------
    NoPredictionError
        When a person is at the notebook and `guess` is None: "Run all" stops there.
    """
    if guess is not None:
        print(f"your prediction: {_shown(guess)}")
    elif _somebody_is_here():
        raise NoPredictionError("type your prediction in place of None, then run this cell again")
    else:
        print("no prediction: nobody is at the keyboard")


def compare(guess: object, value: object, name: str, digits: int = 2) -> None:
    """Show a result beside its prediction; the last line of the cell that computes the result.

    Parameters
    ----------
    guess : number, str or None
        As :func:`predict` had it.
    value : number or str
    name : str
        Of the value, such as ``ROC AUC``.
    digits : int
        Decimals shown of a value that is no whole number.

    Raises
    ------
    NoPredictionError
        As :func:`predict`, before the value is shown.
    """
    if guess is None and _somebody_is_here():
        raise NoPredictionError(
            "type your prediction in the cell above in place of None, and run that cell; then run this one again"
        )
    said = "" if guess is None else f"you predicted {_shown(guess, digits)}; "
    print(f"{said}{name} is {_shown(value, digits)}")


def _shown(value: object, digits: int | None = None) -> str:
    """A whole number or a text as it is, another number with so many decimals, or with those that it was typed with."""
    if isinstance(value, str):
        return escaped(value)
    try:
        number = np.asarray(value).item()
    except (TypeError, ValueError, RuntimeError):  # several numbers, or a tensor that needs its gradient
        return escaped(str(value))
    return f"{number:.{digits}f}" if isinstance(number, float) and digits is not None else escaped(str(number))


def _somebody_is_here() -> bool:
    """Whether the one who runs the cells can be asked: papermill, nbconvert and nbval cannot, and scripts not."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))
