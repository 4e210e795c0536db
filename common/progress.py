"""How far the fits of a script are: whoever finishes one says so here, and whoever shows a bar listens."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

_show: Callable[[int], object] = lambda fits: None  # noqa: E731


def advance(fits: int) -> None:
    """Say that some more fits are done."""
    _show(fits)


def listen(show: Callable[[int], object]) -> None:
    """Have `show` called with the number of fits at each :func:`advance`, in this process."""
    global _show
    _show = show


def say(line: str) -> None:
    """Print a line, above the bars of this process."""
    with tqdm.external_write_mode():
        sys.stderr.flush()
        print(line, flush=True)
