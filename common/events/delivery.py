"""A thread that brings events from the disk to a broker, whenever it answers."""

from __future__ import annotations

import json
import sys
import threading
import time

from filelock import Timeout

from common.events.broker import Broker, Message
from common.events.spool import Spool

PAUSE = 0.5
"""Seconds between two looks for events of other processes."""
PATIENCE = 2.0
"""Seconds without an arrival after which a broker counts as away."""


class Delivery(threading.Thread):
    """Sends what waits for one broker, in order, also what other processes have left; never in the way of training.

    Of all processes, one at a time sends; the others look whether it has gone. An error leaves events where they are.

    Parameters
    ----------
    broker : Broker
    spool : Spool
    """

    def __init__(self, broker: Broker, spool: Spool):
        super().__init__(daemon=True, name=f"events to {broker.name}")
        self._broker, self._spool = broker, spool
        self._awake, self._closing, self._given_up = (threading.Event() for _ in range(3))
        self._last_arrival = time.monotonic()
        self._is_away = False

    def wake(self) -> None:
        """Say that there is something to send."""
        self._awake.set()

    def close(self) -> bool:
        """Wait while events arrive, and no longer than :data:`PATIENCE` for one; then stop. Returns whether all did."""
        self._closing.set()
        self.wake()
        before = None
        while self.is_alive() and (sent := self._spool.sent()) != before:  # also what another process sends
            before = sent
            self.join(PATIENCE)
        have_arrived = not self.is_alive()  # others' events may come from now on
        self._given_up.set()
        self.join(2 * PAUSE)
        return have_arrived

    def run(self) -> None:
        """Send until closed."""
        while not self._given_up.is_set():
            self._awake.clear()
            try:
                with self._spool.sending.acquire(timeout=0):
                    self._send()
            except Timeout:  # another process sends
                pass
            except Exception as error:  # whatever it is, training goes on
                self._broker.problem = f"{type(error).__name__}: {error}"
                self._say_away()
            if self._closing.is_set() and not self._spool.waiting():
                return
            self._awake.wait(PAUSE)

    def _send(self) -> None:
        while not self._given_up.is_set() and (batch := self._spool.take()):
            messages = [
                Message(event["run_id"], event["id"], json.dumps(event).encode())
                for event, _ in batch
                if event is not None
            ]
            self._last_arrival = time.monotonic()
            arrived = self._broker.publish(self._broker.topic, messages, self._go_on) if messages else 0
            if end := _end_of(batch, arrived):
                self._spool.arrived(end)
            if arrived < len(messages):
                self._say_away()
                self._given_up.wait(PAUSE)
                return
            self._say_back()
        self._spool.empty()

    def _go_on(self) -> bool:
        if time.monotonic() - self._last_arrival > PATIENCE:
            self._say_away()
        return not self._given_up.is_set()

    def _say_away(self) -> None:
        if not self._is_away:
            problem = self._broker.problem or "no answer"
            print(f"{self._broker.name} at {self._broker.where}: {problem}; {self._wait_where()}", file=sys.stderr)
        self._is_away = True

    def _say_back(self) -> None:
        if self._is_away:
            print(f"{self._broker.name} at {self._broker.where}: answers again", file=sys.stderr)
        self._is_away = False

    def _wait_where(self) -> str:
        return f"events wait in {self._spool.folder}"


def _end_of(batch: list[tuple[dict | None, int]], arrived: int) -> int | None:
    """Where the last ends that needs not be sent any more, when the first `arrived` events have arrived."""
    last = None
    for event, end in batch:
        if event is not None:
            if arrived == 0:
                break
            arrived -= 1
        last = end
    return last
