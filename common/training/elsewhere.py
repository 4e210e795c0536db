"""One call in a process of its own, so that a script gets on without what the call imports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import cloudpickle

from common.training import servers
from common.training.workers import Worker, pickled


def elsewhere(call: Callable[[], Any], meanwhile: Callable[[], object] | None = None) -> Any:
    """What a picklable function returns in a process of its own, while this one does something else.

    Without a server it is called here, and nothing is done meanwhile.

    Raises
    ------
    Exception
        What one of them raised.
    """
    if not servers.is_ready():
        return call()
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

    threading.Thread(target=ask, daemon=True).start()  # after a Ctrl-C nothing waits for a server that still imports
    try:
        if meanwhile is not None:
            meanwhile()
        return cloudpickle.loads(answer.result())
    except BaseException:
        if not answer.done():
            worker.interrupt()
        raise
