"""Many fits side by side: outer folds in processes, with one progress bar over all fits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from common.training import compute as computing
from common.training.compute import Compute

Item = TypeVar("Item")
Result = TypeVar("Result")

START = "forkserver" if sys.platform == "linux" else "spawn"
ROOMS = [
    "common.evaluation.predictions",
    "common.search.studies",
    "common.tracking.runs",
    "common.training.engine",
]
"""What a server imports once, for all the processes that it forks."""

_busy = _interrupted = False
_tick: Callable[[int], object] = lambda fits: None  # noqa: E731


def counted(fits: Sequence[Item]) -> Iterator[Item]:
    """Go through `fits`, moving the progress bar of :func:`run_jobs` on after each; those skipped count as done."""
    done = 0
    try:
        for fit in fits:
            yield fit
            done += 1
            _tick(1)
    finally:
        _tick(len(fits) - done)


def run_jobs(
    function: Callable[[Item], Result], items: Iterable[Item], compute: Compute, n_jobs: int | None, n_fits: int
) -> list[Result]:
    """``[function(item) for item in items]``, in up to `n_jobs` processes; the results do not depend on their number.

    Parameters
    ----------
    function : callable
        Picklable, as its items and results.
    compute : Compute
        Applied in every process.
    n_jobs : int or None
        None: on a CPU one per core, on another device 1.
    n_fits : int
        How many fits :func:`counted` will see, all in all.
    """
    global _tick
    items = list(items)
    if n_jobs is None:
        n_jobs = computing.cores() // compute.threads if compute.device == "cpu" else 1
    n_jobs = min(n_jobs, len(items))
    with tqdm(total=n_fits, desc="fits", unit="fit", mininterval=0.5 if os.isatty(2) else 15) as bar:
        if n_jobs <= 1:
            _tick = bar.update
            return [function(item) for item in items]
        context = multiprocessing.get_context(START)
        if START == "forkserver":
            context.set_forkserver_preload(ROOMS)
        ticks = context.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(ticks, bar), daemon=True)
        listener.start()
        others = set(multiprocessing.active_children())
        try:
            with ProcessPoolExecutor(n_jobs, context, _set_up_worker, (compute, ticks)) as pool:
                try:
                    return list(pool.map(partial(_run_in_worker, function), items))
                except BaseException:
                    for worker in set(multiprocessing.active_children()) - others:
                        os.kill(worker.pid, signal.SIGINT)
                    raise
        finally:
            ticks.put(None)
            listener.join()


def _listen(ticks, bar: tqdm) -> None:
    while (fits := ticks.get()) is not None:
        bar.update(fits)


def _set_up_worker(compute: Compute, ticks) -> None:
    global _tick
    os.environ["TQDM_DISABLE"] = "1"
    _tick = ticks.put
    signal.signal(signal.SIGINT, _interrupt)
    computing.apply(compute)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _interrupt(signal_number: int, frame: object) -> None:
    """Interrupt this worker's work, once, so that what is open is closed in peace; nothing more is started."""
    global _interrupted
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _interrupted = True
    if _busy:
        raise KeyboardInterrupt


def _run_in_worker(function: Callable[[Item], Result], item: Item) -> Result:
    global _busy
    _busy = True
    try:
        if _interrupted:
            raise KeyboardInterrupt
        return function(item)
    finally:
        _busy = False


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
