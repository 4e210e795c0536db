"""Many fits side by side: the script's threads wait for them, an engine computes them, and one bar shows them all."""

from __future__ import annotations

import argparse
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from typing import Any, TypeVar

import cloudpickle
from tqdm import tqdm

from common import progress
from common.interrupting import uninterrupted
from common.tracking.runs import deliver
from common.training.compute import Compute
from common.training.local import Engine, Running, engine_for
from common.training.outer_folds import once

Item = TypeVar("Item")
Result = TypeVar("Result")

_queue: _Queue | None = None


def run_fits(function: Callable[..., Result], *items: Sequence) -> Iterator[Result]:
    """Like ``map(function, *items)``, where the engine of :func:`run_jobs` computes; it moves its bar on.

    What is pickled with `function` and goes elsewhere opens no database: a run that it holds is a
    :class:`common.tracking.FitRun` there. What is not asked for any more, after a ``break``, is interrupted, and counts
    as done.
    """
    done = 0
    try:
        for result in run_tests(function, *items):
            done += 1
            progress.advance(1)
            yield result
    finally:
        progress.advance(len(items[0]) - done)


def run_tests(function: Callable[..., Result], *items: Sequence) -> Iterator[Result]:
    """As :func:`run_fits`, of what the bar does not count, such as the tests of networks."""
    calls = [partial(function, *each) for each in zip(*items, strict=True)]
    yield from _queue.map(calls) if _queue else (call() for call in calls)


def run_jobs(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    compute: Compute,
    args: argparse.Namespace,
    n_fits: int,
) -> list[Result]:
    """``[function(item) for item in items]``, where what `function` gives to :func:`run_fits` is computed elsewhere.

    The results do not depend on where, nor on how many fits are computed at once. Outer folds that have ended are not
    computed again by a root run that goes on, see :func:`common.training.outer_folds.once`.

    Parameters
    ----------
    function : callable
        Called in a thread of this process for as many items at once as there are fits at once.
    compute : Compute
        Applied wherever there are fits.
    args : Namespace
        With `n_jobs`: how many fits at once; None: on a CPU as many as its cores have room for, on a GPU one for each.
    n_fits : int
        How many fits :func:`run_fits` will see, all in all.

    Raises
    ------
    KilledError
        When a process is ended from outside, as the system does when memory runs out.
    """
    global _queue
    items = list(items)
    call = partial(once, function, n_fits=n_fits // max(1, len(items)))
    with (
        tqdm(total=n_fits, desc="fits", unit="fit", mininterval=0.5 if os.isatty(2) else 15) as bar,
        engine_for(args, compute) as engine,
    ):
        progress.listen(bar.update)
        if engine is None:
            return [call(item) for item in items]
        _queue = queue = _Queue(engine, min(len(items), engine.most))
        room = threading.Semaphore(engine.most)

        def run(item: Item) -> Result:
            with room:
                if queue.is_over:
                    raise KeyboardInterrupt
                return call(item)

        try:
            jobs = [beside(run, item) for item in items]
            wait(jobs, return_when=FIRST_EXCEPTION)
            return [job.result() for job in sorted(jobs, key=lambda job: not (job.done() and job.exception()))]
        finally:
            queue.end()
            _queue = None


def beside(function: Callable[..., Result], *items: object) -> Future[Result]:
    """Call a function in a thread of its own, which mostly waits for fits; without an engine, now and here."""
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(function(*items))
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:
            future.set_exception(error)
            if _queue is None:
                raise

    if _queue is None:
        call()
    else:
        _queue.start(call)
    return future


_TAKEN: Future[bytes] = Future()
_TAKEN.set_result(b"")


class _Group:
    """Fits whose results are taken in order; whether those after the first that is not taken are needed is open."""

    def __init__(self, calls: list[Callable[[], Any]]):
        self.calls = calls
        self.results: list[Future[bytes]] = [Future() for _ in calls]
        self.running: dict[int, Running] = {}
        self.said: dict[int, list] = defaultdict(list)
        self.needed = 0

    def hear(self, number: int, said: list) -> None:
        """What a fit says counts when it is known to be needed: so what is recorded does not depend on who was idle."""
        if number <= self.needed:
            deliver(said)
        else:
            self.said[number] += said

    def need(self, number: int) -> None:
        """Another fit is needed."""
        self.needed = number
        if said := self.said.pop(number, None):
            deliver(said)

    def next(self) -> int | None:
        """The next fit to start: the one that is needed, or while that one runs one that may be."""
        if self.results[self.needed].done():
            return None
        numbers = range(self.needed, len(self.calls))
        return next((n for n in numbers if n not in self.running and not self.results[n].done()), None)

    def take(self, number: int) -> bytes:
        """A result, once it is there; it is not kept."""
        content = self.results[number].result()
        self.results[number] = _TAKEN
        return content


class _Queue:
    """Gives fits to an engine, as many at a time as it has room for: first those that are needed in any case."""

    def __init__(self, engine: Engine, n_at_once: int):
        self.engine, self.n_at_once = engine, n_at_once
        self._groups: list[_Group] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._n_running = 0
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def start(self, call: Callable[[], None]) -> None:
        thread = threading.Thread(target=call, daemon=True)
        with uninterrupted():  # a thread that has not begun cannot be joined
            self._threads.append(thread)
            thread.start()

    def map(self, calls: list[Callable[[], Any]]) -> Iterator[Any]:
        group = _Group(calls)
        with self._lock:
            self._groups.append(group)
        try:
            for number in range(len(calls)):
                with self._lock:
                    if self.is_over:
                        raise KeyboardInterrupt
                    group.need(number)
                    self._fill()
                yield cloudpickle.loads(group.take(number))
        finally:
            with self._lock:
                self._groups.remove(group)
                running = list(group.running.values())
                self._fill()
            for fit in running:
                fit.interrupt()

    def _fill(self) -> None:
        while self._n_running < self.engine.slots and (found := self._next()):
            number, group = found
            self._n_running += 1
            try:
                hear = partial(self._hear, group, number)
                group.running[number] = self.engine.submit(group.calls[number], hear)
            except Exception as error:
                self._n_running -= 1
                group.results[number].set_exception(error)
            else:
                group.running[number].result.add_done_callback(partial(self._take, group, number))
        if self._n_running >= self.n_at_once:  # now the script has time
            progress.do_meanwhile()

    def _next(self) -> tuple[int, _Group] | None:
        found, least = None, math.inf
        for group in self._groups:
            number = group.next()
            if number is not None and number - group.needed < least:
                found, least = (number, group), number - group.needed
                if least == 0:
                    break
        return found

    def _hear(self, group: _Group, number: int, said: list) -> None:
        with self._lock:
            group.hear(number, said)

    def _take(self, group: _Group, number: int, result: Future[bytes]) -> None:
        with self._lock:
            self._n_running -= 1
            group.running.pop(number, None)
            if not group.results[number].done():  # as it is when all is over
                error = result.exception()
                if error is None:
                    group.results[number].set_result(result.result())
                else:
                    group.results[number].set_exception(error)
            self._fill()

    def _look(self) -> None:
        """See whether the engine has grown."""
        while not self._over.wait(1.0):
            with self._lock:
                self._fill()

    def end(self) -> None:
        """Interrupt what runs, and wait until the threads have closed what they have open."""
        with self._lock:
            self._over.set()
            running = [fit for group in self._groups for fit in group.running.values()]
            for group in self._groups:
                for result in group.results:
                    if not result.done():
                        result.set_exception(KeyboardInterrupt())
        for fit in running:
            fit.interrupt()
        for thread in self._threads:
            thread.join()
