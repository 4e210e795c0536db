"""Metrics on their way to the tracking server: on disk at once, sent by a thread of their own during training."""

from __future__ import annotations

import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import Metric

from common.cli import UserError
from common.state import sync, work_folder
from common.tracking.store import Connection, PatientClient, UnreachableError, one_line

PAUSE = 2.0
"""Seconds between two sendings: an epoch is sent at its end; epochs that are shorter than this are sent together."""
KEPT = 30 * 24 * 3600
"""Seconds for which what is left of other servers' runs, and of runs that nobody went on with, is kept."""


class Outbox:
    """What this process has to send to one tracking server, in order.

    Parameters
    ----------
    uri : str
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        self._error: Exception | None = None
        threading.Thread(target=self._send_all, daemon=True).start()

    def metrics(self, run_id: str, metrics: list[Metric]) -> None:
        """Send metrics, soon; they survive this process, and a power cut, from now on.

        Raises
        ------
        UserError
            When the server could not be reached for longer than MLflow tries, or the disk is full.
        """
        self._check()
        lines = [json.dumps([m.key, m.value, m.timestamp, m.step]) for m in metrics]
        try:
            _file(run_id).parent.mkdir(parents=True, exist_ok=True)
            with open(_file(run_id), "a", encoding="utf-8") as file:
                file.write("\n".join(["", *lines]))  # begins a line even after one that was torn
                sync(file)
        except OSError as error:
            raise UserError(f"{_file(run_id)}: {error.strerror}") from error
        self._work.put((run_id, metrics, None))

    def call(self, send: Callable[[], object]) -> None:
        """Send what is larger than metrics, in its turn and by the same thread; lost if this process is killed.

        The run that it belongs to is then closed by nobody, so a process that goes on will send it again.
        """
        self._check()
        self._work.put(send)

    def end(self, run_id: str, status: str) -> None:
        """Close a run after what is sent before."""
        self._check()
        self._work.put((run_id, [], status))

    def drain(self, limit: float = math.inf) -> None:
        """Wait until everything is sent, for at most `limit` seconds; raises as :meth:`metrics` does."""
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
        client = PatientClient(self.uri)
        last = 0.0
        while True:
            work = [self._work.get()]
            while not any(isinstance(item, threading.Event) for item in work):
                try:
                    work.append(self._work.get(timeout=max(0.0, last + PAUSE - time.monotonic())))
                except queue.Empty:
                    break
            self._send(client, work)
            last = time.monotonic()

    def _send(self, client: PatientClient, work: list) -> None:
        waiting: dict[str, list[Metric]] = {}
        for item in work:
            if isinstance(item, tuple):
                waiting.setdefault(item[0], []).extend(item[1])
        try:
            if self._error is None:
                for run_id, metrics in waiting.items():
                    _log(client, run_id, metrics)
                for send in work:
                    if not isinstance(send, tuple | threading.Event):
                        send()
                for run_id, status in [item[::2] for item in work if isinstance(item, tuple) and item[2]]:
                    client.set_terminated(run_id, status)
                    _file(run_id).unlink(missing_ok=True)
        except Exception as error:  # each kind of server has errors of its own; the next call raises it
            self._error = error
        for item in work:
            if isinstance(item, threading.Event):
                item.set()


def send_leftovers(client: Connection) -> None:
    """Send what processes that were killed have left; metrics that had arrived are not doubled."""
    for path in sorted(work_folder("outbox").glob("*.jsonl")):
        run_id = path.stem
        try:
            status = client.get_run(run_id).info.status
            metrics, is_damaged = _read(path)
            _log(client, run_id, metrics)
        except UnreachableError:
            raise
        except UserError:  # a run of another server, or one that was deleted
            if is_old(path):
                path.unlink(missing_ok=True)
            continue
        if is_damaged:
            os.replace(path, aside := path.with_suffix(".damaged"))
            print(f"{aside}: holds lines that are no metrics of run {run_id}; the others are sent", file=sys.stderr)
        elif status != "RUNNING":
            path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[list[Metric], bool]:
    """The metrics in a file, and whether it holds what no process has written."""
    found, is_damaged = [], False
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            name, value, timestamp, step = json.loads(line.decode())
            found.append(Metric(str(name), float(value), int(timestamp), int(step)))
        except json.JSONDecodeError:  # a torn line
            continue
        except (ArithmeticError, RecursionError, TypeError, ValueError):
            is_damaged = True
    return found, is_damaged


def is_old(path: Path) -> bool:
    """Whether nothing was written there for as long as leftovers are :data:`KEPT`."""
    try:
        return time.time() - path.stat().st_mtime > KEPT
    except FileNotFoundError:
        return False


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


def _file(run_id: str) -> Path:
    return work_folder("outbox") / f"{run_id}.jsonl"


def _log(client: PatientClient | Connection, run_id: str, metrics: list[Metric]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000], synchronous=True)
