"""Many fits side by side: the script's threads wait for them, an engine computes them, and one bar shows them all."""

from __future__ import annotations

import argparse
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
from common.tracking.runs import deliver
from common.training.compute import Compute
from common.training.local import Engine, Running, engine_for

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

    The results do not depend on where, nor on how many fits are computed at once.

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
    with (
        tqdm(total=n_fits, desc="fits", unit="fit", mininterval=0.5 if os.isatty(2) else 15) as bar,
        engine_for(args, compute) as engine,
    ):
        progress.listen(bar.update)
        if engine is None:
            return [function(item) for item in items]
        _queue = queue = _Queue(engine)
        room = threading.Semaphore(engine.most)

        def run(item: Item) -> Result:
            with room:
                if queue.is_over:
                    raise KeyboardInterrupt
                return function(item)

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


class _Queue:
    """Gives fits to an engine, as many at a time as it has room for: first those that are needed in any case."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._groups: list[_Group] = []
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._n_running = 0
        self.is_over = False

    def start(self, call: Callable[[], None]) -> None:
        thread = threading.Thread(target=call, daemon=True)
        self._threads.append(thread)
        thread.start()

    def map(self, calls: list[Callable[[], Any]]) -> Iterator[Any]:
        group = _Group(calls)
        with self._changed:
            self._groups.append(group)
        try:
            for number, result in enumerate(group.results):
                with self._changed:
                    group.need(number)
                    while not result.done():
                        if self.is_over:
                            raise KeyboardInterrupt
                        self._fill()
                        self._changed.wait(1.0)  # an engine may have grown
                yield cloudpickle.loads(result.result())
        finally:
            with self._changed:
                self._groups.remove(group)
                running = list(group.running.values())
                self._fill()
            for fit in running:
                fit.interrupt()

    def _fill(self) -> None:
        while self._n_running < self.engine.slots:
            waiting = [(number, group) for group in self._groups if (number := group.next()) is not None]
            if not waiting:
                return
            number, group = min(waiting, key=lambda pair: pair[0] - pair[1].needed)
            self._n_running += 1
            hear = partial(self._hear, group, number)
            group.running[number] = self.engine.submit(group.calls[number], hear)
            group.running[number].result.add_done_callback(partial(self._take, group, number))

    def _hear(self, group: _Group, number: int, said: list) -> None:
        with self._changed:
            group.hear(number, said)

    def _take(self, group: _Group, number: int, result: Future[bytes]) -> None:
        with self._changed:
            self._n_running -= 1
            group.running.pop(number, None)
            error = result.exception()
            if error is None:
                group.results[number].set_result(result.result())
            else:
                group.results[number].set_exception(error)
            self._fill()
            self._changed.notify_all()

    def end(self) -> None:
        """Interrupt what runs, and wait until the threads have closed what they have open."""
        with self._changed:
            self.is_over = True
            running = [fit for group in self._groups for fit in group.running.values()]
            self._changed.notify_all()
        for fit in running:
            fit.interrupt()
        for thread in self._threads:
            thread.join()
