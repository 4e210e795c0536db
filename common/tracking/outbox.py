"""What is on its way to the tracking server, sent in its order by a thread of its own while fits compute."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable

from mlflow.entities import Metric

from common.cli import UserError
from common.tracking.store import PatientClient, one_line

PAUSE = 5.0
"""Seconds between two sendings: an epoch is sent at its end; epochs that are shorter than this are sent together."""


class Outbox:
    """What this process has to send to one tracking server.

    Parameters
    ----------
    uri : str
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        self._error: Exception | None = None
        self._metrics: dict[str, list[Metric]] = {}
        self._client = PatientClient(uri)
        threading.Thread(target=self._send_all, daemon=True).start()

    def call(self, send: Callable[[], object]) -> None:
        """Have a function called in its turn, by the thread that sends.

        Raises
        ------
        UserError
            When the server could not be reached for longer than MLflow tries.
        """
        self._check()
        self._work.put(send)

    def metrics(self, run_id: str, metrics: list[Metric]) -> None:
        """Send metrics, for functions that are called: those of one sending together."""
        self._metrics.setdefault(run_id, []).extend(metrics)

    def end(self, run_id: str, status: str, end: int | None = None) -> None:
        """Close a run, for functions that are called, after its metrics; `end` in milliseconds, by default now."""
        self._send_metrics(run_id)
        self._client.set_terminated(run_id, status, end)

    def drain(self, limit: float = math.inf) -> None:
        """Wait until everything is sent, for at most `limit` seconds; raises as :meth:`call` does."""
        sent, end = threading.Event(), time.monotonic() + limit
        self._work.put(sent)
        while not sent.wait(0.1):
            self._check()
            if time.monotonic() > end:
                self.give_up(UserError(f"tracking at {self.uri}: no answer for {limit:.0f} s"))
        self._check()

    def give_up(self, error: Exception) -> None:
        """Send nothing more, since the server is gone: what comes now raises at once."""
        self._error = self._error or error

    def _check(self) -> None:
        if isinstance(self._error, UserError):
            raise self._error
        if self._error is not None:
            raise one_line(self.uri, self._error) from None

    def _send_all(self) -> None:
        last = 0.0
        while True:
            work = [self._work.get()]
            while not any(isinstance(item, threading.Event) for item in work):
                try:
                    work.append(self._work.get(timeout=max(0.0, last + PAUSE - time.monotonic())))
                except queue.Empty:
                    break
            self._send(work)
            last = time.monotonic()

    def _send(self, work: list) -> None:
        try:
            for send in work if self._error is None else ():
                if not isinstance(send, threading.Event):
                    send()
            for run_id in list(self._metrics) if self._error is None else ():
                self._send_metrics(run_id)
        except Exception as error:  # each kind of server has errors of its own; the next call raises it
            self._error = error
        for item in work:
            if isinstance(item, threading.Event):
                item.set()

    def _send_metrics(self, run_id: str) -> None:
        metrics = self._metrics.pop(run_id, [])
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000], synchronous=True)


_outboxes: dict[str, Outbox] = {}


def outbox_of(uri: str) -> Outbox:
    """This process's outbox for a server."""
    if uri not in _outboxes:
        _outboxes[uri] = Outbox(uri)
    return _outboxes[uri]


def try_again(uri: str) -> None:
    """Forget that a server was given up: it may be back."""
    if uri in _outboxes and _outboxes[uri]._error is not None:
        del _outboxes[uri]
