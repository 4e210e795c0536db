"""How a lesson starts, and runs the step it is about."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import MutableMapping
from importlib import import_module
from types import ModuleType

from common.cli import UserError
from common.state import PROJECT

_OF_THE_KERNEL = {"In", "Out", "exit", "get_ipython", "lesson", "open", "quit"}
_BEGUN = "_lesson_begun"


def begin(namespace: MutableMapping[str, object], *parameters: str) -> None:
    """Check a lesson's parameters; it is called once, right after the cell (or cells) that set them.

    Parameters
    ----------
    namespace : mapping
        The notebook's ``globals()``.
    parameters : str
        Names that the lesson has.

    Raises
    ------
    UserError
        When papermill was given a parameter that the lesson does not have, or one is missing.
    """
    if _BEGUN not in namespace:
        found = {name for name in namespace if not name.startswith("_")} - _OF_THE_KERNEL
        expected = ", ".join(parameters)
        for name in sorted(found - set(parameters)):
            raise UserError(f"parameter {name}={namespace[name]!r}: this lesson has no such parameter, only {expected}")
        for name in sorted(set(parameters) - found):
            raise UserError(f"parameter {name}: not set; this lesson needs {expected}")
        warnings.filterwarnings("ignore", message="IProgress not found")  # bars of text will do
        namespace[_BEGUN] = True


def run_step(step: int, *flags: object, quiet: bool = False) -> dict[str, object]:
    """Run ``step_<step>/train.py`` in this process; returns what its `main` returns.

    Progress bars do not show: what is printed is the same each time, but for the run's name and the seconds.
    """
    return _main(step, "train", flags, quiet)


def analyse(step: int, *flags: object, quiet: bool = False) -> object:
    """Run ``step_<step>/analyze_predictions.py`` in this process; returns what its `main` returns."""
    return _main(step, "analyze_predictions", flags, quiet)


def module(step: int, name: str) -> ModuleType:
    """A step's script as a module, such as ``step_3.train``."""
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    return import_module(f"step_{step}.{name}")


def _main(step: int, name: str, flags: tuple[object, ...], quiet: bool) -> dict[str, object]:
    words = [str(flag) for flag in flags if flag is not None and flag != ""]
    silence = contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext()
    with contextlib.redirect_stderr(io.StringIO()), silence:
        return module(step, name).main(words)
