"""Which events a run sends to the brokers that the environment names: its start, its epochs, its models, its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from common.cli import KilledError
from common.events import sending as events


class _Run(Protocol):
    """What of a :class:`common.tracking.runs.Run` events are about."""

    run_id: str
    place: dict[str, str]
    resumed: bool
    brokers: tuple[str, ...]


@contextlib.contextmanager
def reporting(**details: object) -> Iterator[Callable[[_Run], None]]:
    """Bring a run's events to the brokers; to be called with the run when it is open, and left when it is closed.

    Parameters
    ----------
    details
        What the first event says beside whether the run is resumed.

    Raises
    ------
    UserError
        As :func:`common.events.sending.open`: when a broker's topic does not exist.
    """
    with events.open() as log:
        opened: list[_Run] = []

        def begin(run: _Run) -> None:
            run.brokers = log.names
            opened.append(run)
            log.send("run_started", run.run_id, resumed=run.resumed, **details)

        end: dict[str, object] = {"status": "FINISHED"}
        try:
            yield begin
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit | KilledError)
            end = {"status": "KILLED"} if killed else {"status": "FAILED", "error": f"{type(error).__name__}: {error}"}
            raise
        finally:
            for run in opened:
                log.send("run_ended", run.run_id, **end)


def report(run: _Run, kind: str, once: str, **payload: object) -> None:
    """Leave an event of a run, or of one below it, to the process that began the root run; nothing without brokers.

    Parameters
    ----------
    once : str
        What it is about: the same run's events of one kind about one thing have the same id.
    """
    if run.brokers:
        log = events.Events(run.brokers, deliver=False)
        place = {name: value for name, value in run.place.items() if name != "root_run_id"}
        about = f"{kind} {run.run_id} {once}"
        log.send(kind, run.place["root_run_id"], about, run=run.run_id, **place, **payload)
