"""Metrics on their way to the tracking server: on disk at once, sent by a thread of their own during training."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from common.cli import PROJECT, UserError
from common.tracking.store import Connection, reason_of

OUTBOX = PROJECT / "cache" / "outbox"
PAUSE = 0.5
"""Seconds between two sendings: an epoch is sent at its end; epochs that are shorter than this are sent together."""


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
        """Send metrics, soon; they survive this process from now on.

        Raises
        ------
        UserError
            When the server could not be reached for longer than MLflow tries, or the disk is full.
        """
        self._check()
        lines = [json.dumps([m.key, m.value, m.timestamp, m.step]) for m in metrics]
        try:
            OUTBOX.mkdir(parents=True, exist_ok=True)
            with open(_file(run_id), "a", encoding="utf-8") as file:
                file.write("\n".join(["", *lines]))  # begins a line even after one that was torn
        except OSError as error:
            raise UserError(f"{_file(run_id)}: {error.strerror}") from error
        self._work.put((run_id, metrics, None))

    def end(self, run_id: str, status: str) -> None:
        """Close a run after what is sent before."""
        self._check()
        self._work.put((run_id, [], status))

    def drain(self) -> None:
        """Wait until everything is sent; raises as :meth:`metrics` does."""
        sent = threading.Event()
        self._work.put(sent)
        sent.wait()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise UserError(f"tracking at {self.uri}: {reason_of(self._error)}") from self._error

    def _send_all(self) -> None:
        client = MlflowClient(self.uri)
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

    def _send(self, client: MlflowClient, work: list) -> None:
        waiting: dict[str, list[Metric]] = {}
        for item in work:
            if not isinstance(item, threading.Event):
                waiting.setdefault(item[0], []).extend(item[1])
        try:
            if self._error is None:
                for run_id, metrics in waiting.items():
                    _log(client, run_id, metrics)
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
    for path in sorted(OUTBOX.glob("*.jsonl")):
        run_id = path.stem
        try:
            status = client.get_run(run_id).info.status
            _log(client, run_id, read_leftovers(run_id))
        except UserError:  # a run of another server
            continue
        if status != "RUNNING":
            path.unlink(missing_ok=True)


def read_leftovers(run_id: str) -> list[Metric]:
    """The metrics of a run that its outbox holds."""
    try:
        lines = _file(run_id).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a torn line is no JSON
            found += [Metric(*json.loads(line))]
    return found


_outboxes: dict[str, Outbox] = {}


def outbox_of(uri: str) -> Outbox:
    """This process's outbox for a server."""
    if uri not in _outboxes:
        _outboxes[uri] = Outbox(uri)
    return _outboxes[uri]


def _file(run_id: str) -> Path:
    return OUTBOX / f"{run_id}.jsonl"


def _log(client: MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000], synchronous=True)
