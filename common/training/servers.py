"""The server from which processes for fits are forked; it imports what they need while the script begins."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START = "forkserver" if sys.platform == "linux" else "spawn"
ROOMS = [
    "common.training.served",
    "common.evaluation.predictions",
    "common.training.engine",
    "common.training.networks",
    "common.training.workers",
]
"""What a server imports once, for all the processes that it forks."""

_is_prepared = False


def context(also: Sequence[str] = ()) -> Any:
    """How processes are started; a server that is not there yet imports `also` some modules."""
    made = multiprocessing.get_context(START)
    if START == "forkserver":
        made.set_forkserver_preload([*ROOMS, *also])
    return made


def is_ready() -> bool:
    """Whether there is a server, and this process can do without what the server imports.

    With a GPU it cannot: it computes one fit at a time itself.
    """
    return _is_prepared and START == "forkserver" and not Path("/proc/driver/nvidia").exists()


def prepare(also: Sequence[str] = ()) -> None:
    """Begin to import what processes need, and `also` some modules, in a server, unless there is one.

    So a script gets on, and each of its processes has them without an import of its own.
    """
    global _is_prepared
    _is_prepared = True
    context(also)
    if START == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        # of what killed processes have left behind it tells nobody; it removes that
        sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
        resource_tracker.ensure_running()  # by itself, as it would let a Ctrl-C through again
        # a Ctrl-C is the script's to handle: the server would end in the middle of an import, with a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
