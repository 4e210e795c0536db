"""How far the fits of a script are: whoever finishes one says so here, and whoever shows a bar listens."""

from __future__ import annotations

from collections.abc import Callable

_show: Callable[[int], object] = lambda fits: None  # noqa: E731


def advance(fits: int) -> None:
    """Say that some more fits are done."""
    _show(fits)


def listen(show: Callable[[int], object]) -> None:
    """Have `show` called with the number of fits at each :func:`advance`, in this process."""
    global _show
    _show = show
