"""A call in a process of its own, so that a script gets on without what the call imports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import cloudpickle

from common.training import servers
from common.training.workers import Worker, pickled

Result = TypeVar("Result")


def elsewhere(call: Callable[[], Result]) -> Callable[[], Result]:
    """Begin a picklable call in a process of its own; returns a function that waits for what it returns or raises.

    Without a server that function makes the call itself.
    """
    if not servers.is_ready():
        return call
    worker = Worker(None, {})
    answer: Future[bytes] = Future()

    def ask() -> None:
        try:
            worker.start()
            answer.set_result(worker.run(pickled(call), lambda said: None))
        except BaseException as error:
            answer.set_exception(error)
        finally:
            worker.close()

    def wait() -> Result:
        try:
            return cloudpickle.loads(answer.result())
        except BaseException:
            if not answer.done():
                worker.interrupt()
            raise

    threading.Thread(target=ask, daemon=True).start()  # after a Ctrl-C nothing waits for a server that still imports
    return wait
