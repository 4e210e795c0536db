"""Many fits side by side: outer folds in processes, with one progress bar over all fits."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.process import BaseProcess
from typing import TypeVar

from tqdm import tqdm

from common import cli, progress
from common.cli import KilledError
from common.training import compute as computing, servers
from common.training.compute import Compute

Item = TypeVar("Item")
Result = TypeVar("Result")

_busy = _interrupted = False
_fit_workers: _Workers | None = None


def run_fits(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Like ``map(function, items)``, moving the progress bar of :func:`run_jobs` on after each item.

    Where :func:`run_jobs` has more processes than items of its own, these run side by side too. Those that are not
    asked for any more, after a ``break``, are interrupted, and count as done.
    """
    done = 0
    workers = _fit_workers if len(items) > 1 else None
    try:
        for result in workers.map(function, items) if workers else map(function, items):
            done += 1
            progress.advance(1)
            yield result
    finally:
        progress.advance(len(items) - done)
        if workers and done < len(items):
            workers.interrupt()


def run_jobs(
    function: Callable[[Item], Result], items: Iterable[Item], compute: Compute, n_jobs: int | None, n_fits: int
) -> list[Result]:
    """``[function(item) for item in items]``, in up to `n_jobs` processes; the results do not depend on their number.

    Processes that `items` leave free run what `function` gives to :func:`run_fits`.

    Parameters
    ----------
    function : callable
        Picklable, as its items and results.
    compute : Compute
        Applied in every process.
    n_jobs : int or None
        None: on a CPU as many as its cores have room for, on another device 1.
    n_fits : int
        How many fits :func:`run_fits` will see, all in all.

    Raises
    ------
    KilledError
        When a process is ended from outside, as the system does when memory runs out.
    """
    items = list(items)
    if n_jobs is None:
        n_jobs = computing.cores() // compute.threads if compute.device == "cpu" else 1
    n_here = max(1, min(n_jobs, len(items)))
    with tqdm(total=n_fits, desc="fits", unit="fit", mininterval=0.5 if os.isatty(2) else 15) as bar:
        if n_here == 1:
            progress.listen(bar.update)
            with _workers_for_fits(n_jobs, compute):
                return [function(item) for item in items]
        ticks = servers.context().SimpleQueue()
        listener = threading.Thread(target=_listen, args=(ticks, bar), daemon=True)
        listener.start()
        workers = _Workers(n_here, compute, ticks, n_jobs // n_here)
        is_whole = True
        try:
            return list(workers.map(function, items))
        except BaseException as error:
            is_whole = not isinstance(error, KilledError)  # who was killed may have held the lock of `ticks`
            workers.interrupt()
            raise
        finally:
            workers.close()
            if is_whole:
                ticks.put(None)
                listener.join()


class _Workers:
    """Processes that are started when there is work, and again when there is more after an `interrupt`."""

    def __init__(self, number: int, compute: Compute, ticks=None, fits_each: int = 1):
        self.number = number
        self.arguments = (compute, ticks, fits_each)
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()
        self._started: set[BaseProcess] = set()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Raises KilledError when a process is ended from outside; the others are then ended too."""
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            self._pool = ProcessPoolExecutor(self.number, servers.context(), _set_up_worker, self.arguments)
        try:
            results = self._pool.map(partial(_run_in_worker, function), items)
            self._started |= set(multiprocessing.active_children()) - self._others
            yield from results
        except BrokenProcessPool:
            raise KilledError(
                f"a process of this run ended in the middle of its work ({self._close_broken()}), perhaps killed "
                "because memory ran out; the same command goes on from here"
            ) from None

    def _close_broken(self) -> str:
        """End what is left, and say how the first process ended."""
        processes = self._started
        self.close()  # ends the others by SIGTERM, and waits for them
        codes = {process.exitcode for process in processes}
        for process in processes:
            if process.exitcode == 255:  # it may live on: the server was killed, which tells how processes end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        names = {code: f"signal {-code}" if code < 0 else f"exit code {code}" for code in sorted(codes)} | {
            255: "with its server"
        }
        return ", ".join(names[code] for code in sorted(codes - {-signal.SIGTERM} or codes))

    def interrupt(self) -> None:
        """End the processes in the middle of their work, with what is open closed in peace."""
        if self._pool is not None:
            for worker in set(multiprocessing.active_children()) - self._others:
                os.kill(worker.pid, signal.SIGINT)
        self.close()

    def close(self) -> None:
        """End the processes after what they are working on."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._started = set()


@contextlib.contextmanager
def _workers_for_fits(number: int, compute: Compute) -> Iterator[None]:
    global _fit_workers
    _fit_workers = _Workers(number, compute) if number > 1 else None
    try:
        yield
    finally:
        if _fit_workers:
            _fit_workers.close()
        _fit_workers = None


def _listen(ticks, bar: tqdm) -> None:
    while (fits := ticks.get()) is not None:
        bar.update(fits)


def _set_up_worker(compute: Compute, ticks, fits_each: int) -> None:
    global _fit_workers
    cli.keep_going_without_reader()
    os.environ["TQDM_DISABLE"] = "1"
    if ticks is not None:
        progress.listen(ticks.put)
    _fit_workers = _Workers(fits_each, compute) if fits_each > 1 else None
    signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the server has it blocked
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
        if _fit_workers:
            _fit_workers.close()
        _busy = False


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
