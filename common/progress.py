"""How far a script is: whoever finishes a fit says so here, whoever shows a bar listens, and files have one too."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_lock = threading.Lock()
_show: Callable[[int], object] = lambda fits: None  # noqa: E731
_early: set[Callable[[], object]] = set()
_later: set[Callable[[], object]] = set()


def advance(fits: int) -> None:
    """Say that some more fits are done; from any thread."""
    with _lock:
        _show(fits)


def listen(show: Callable[[int], object]) -> None:
    """Have `show` called with the number of fits at each :func:`advance`, in this process."""
    global _show
    _show = show


def before_fits(do: Callable[[], object]) -> None:
    """Have something done that the first fit waits for, while another process says what fits run on."""
    _early.add(do)


def do_before_fits() -> None:
    """Do it now."""
    while _early:
        _early.pop()()


def meanwhile(do: Callable[[], object]) -> None:
    """Have something done while the first fits are computed elsewhere, such as an import of what comes later."""
    _later.add(do)


def do_meanwhile() -> None:
    """Do it now, in a thread of its own."""
    while _later:
        threading.Thread(target=_later.pop(), daemon=True).start()


def say(line: str) -> None:
    """Print a line, above the bars of this process."""
    with tqdm.external_write_mode():
        sys.stderr.flush()
        print(line, flush=True)


def one_by_one(items: Collection[Item], description: str, unit: str) -> Iterator[Item]:
    """The items, with a bar where there is a terminal."""
    yield from tqdm(items, description, unit=unit, leave=False, disable=None)


def in_threads(function: Callable, items: Sequence, description: str) -> Iterator:
    """The results of a function for each of many files, in their order, as they come; with a bar."""
    workers = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(items), desc=description, unit="file", leave=False, disable=None) as bar,
    ):
        for start in range(0, len(items), 1000):  # a future for each of a million files would fill the memory
            for result in pool.map(function, items[start : start + 1000]):
                bar.update()
                yield result
