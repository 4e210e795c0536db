"""A run is closed with the right status, whatever happens."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mlflow.entities import RunStatus

from common.cli import KilledError, UserError
from common.interrupting import uninterrupted
from common.tracking.outbox import outbox_of
from common.tracking.store import UnreachableError

if TYPE_CHECKING:
    from common.tracking.runs import Run

PATIENCE = 30
"""Seconds for which an interrupted process waits for its tracking server: after about as many it is killed."""


@contextlib.contextmanager
def closing(create: Callable[[], Run], wait: bool) -> Iterator[Run]:
    """Create a run, and close it at the end with its status, whatever happens and whenever it is interrupted.

    With `wait` all that there is to send has arrived then: so it is but for runs of outer folds, whose root run waits.
    """
    run, status = None, RunStatus.FINISHED
    try:
        with uninterrupted():
            run = create()
        with run.heard():
            yield run
    except (KeyboardInterrupt, SystemExit, KilledError):
        status = RunStatus.KILLED
        raise
    except UnreachableError as error:
        status = RunStatus.FAILED
        if run is not None:
            outbox_of(run.uri).give_up(error)
        raise
    except Exception as error:
        status = RunStatus.FAILED
        if run is not None:
            with contextlib.suppress(UserError):
                run.tags(error=f"{type(error).__name__}: {error}"[:5000])
        raise
    finally:
        if run is not None:
            # an error that is on its way already says more than one while closing
            with contextlib.suppress(*[] if status == RunStatus.FINISHED else [UserError]), uninterrupted():
                _close(run, RunStatus.to_string(status), wait)


def _close(run: Run, status: str, wait: bool) -> None:
    if not run.is_over:
        outbox_of(run.uri).call(lambda: run.end(status))
    if wait:
        outbox_of(run.uri).drain(PATIENCE if status == "KILLED" else math.inf)
