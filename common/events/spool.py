"""Events on their way to a broker: kept on disk, numbered per run, and taken off only when they have arrived."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path

from filelock import BaseFileLock

from common.cli import writing
from common.locks import locked
from common.state import sync, whole, whole_file, work_folder

MOST_BYTES = 900_000
"""Of one event: Kafka takes a million by default."""
READ = 1 << 20
"""Bytes read at a time: at least one event."""


class Spool:
    """What waits for one broker, in one file for all processes: a line of JSON for each event, in order.

    Lines are appended by :func:`append`. One process at a time, which holds `sending`, sends them and moves on the
    mark behind what has arrived. The mark follows the arrival, so an event may be sent twice and is never left out.

    Parameters
    ----------
    broker : str
        Name of the broker, and of the folder under ``cache/events/``.

    Raises
    ------
    UserError
        When the folder cannot be written.
    """

    def __init__(self, broker: str):
        self.folder = work_folder("events") / broker
        self.lines = self.folder / "events.jsonl"
        self.mark = self.folder / "sent"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def sending(self) -> BaseFileLock:
        """A lock to be held while sending."""
        return locked(self.folder / "sending")

    def sent(self) -> int:
        """How many bytes of the file have arrived."""
        try:
            number = int(self.mark.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return number if 0 <= number <= self._size() else 0

    def waiting(self) -> bool:
        """Whether there is something to send."""
        return self._size() > self.sent()

    def take(self, most: int = 200) -> list[tuple[dict | None, int]]:
        """The next events, and where in the file each ends; None for a line that is none, as a full disk leaves it."""
        start = self.sent()
        with contextlib.suppress(FileNotFoundError), open(self.lines, "rb") as file:
            file.seek(start)
            *lines, rest = file.read(READ).split(b"\n")  # the rest is being written
            if len(rest) == READ:
                return [(None, start + READ)]
            ends = accumulate((len(line) + 1 for line in lines), initial=start)
            next(ends)
            return [(_event_of(line), end) for line, end in zip(lines[:most], ends, strict=False)]
        return []

    def arrived(self, end: int) -> None:
        """Move the mark to where an event ends."""
        with whole(self.mark) as part:  # lost in a power cut, events are sent twice
            part.write_text(str(end))

    def empty(self) -> None:
        """Begin the file anew if everything has arrived."""
        if self._size():
            with _lock():
                if self.sent() == self._size():
                    self.mark.unlink(missing_ok=True)  # first: killed in between, all is sent again and nothing is lost
                    os.truncate(self.lines, 0)

    def _size(self) -> int:
        try:
            return self.lines.stat().st_size
        except FileNotFoundError:
            return 0


def append(spools: Iterable[Spool], run_id: str, event_of: Callable[[int], dict], last: bool = False) -> None:
    """Append an event to some spools, with the run's next sequence number: it survives this process, and a
    power cut, from now on.

    Numbers of a run begin at 0 and rise by one over all processes, also after a restart; a process that is killed just
    here may leave one out. A number is never given twice, unless the run goes on after its last event.

    Parameters
    ----------
    event_of : callable
        Gets the number and returns the event.
    last : bool
        Whether it is the run's last event: its numbers are forgotten then.

    Raises
    ------
    OSError
    ValueError
        When the event is too large.
    """
    counter = work_folder("events") / "numbers" / hashlib.sha256(run_id.encode()).hexdigest()[:32]
    with _lock():
        try:
            number = int(counter.read_text())
        except (FileNotFoundError, ValueError):
            number = 0
        line = json.dumps(event_of(number), allow_nan=False).encode() + b"\n"
        if len(line) > MOST_BYTES:
            raise ValueError(f"an event of {len(line)} bytes; expected at most {MOST_BYTES}")
        with whole_file(counter, "w") as file:
            file.write(str(number + 1))
        for spool in spools:
            _append(spool.lines, line)
        if last:
            counter.unlink(missing_ok=True)


def _append(path: Path, line: bytes) -> None:
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        whole = size == 0 or file.read(1) == b"\n"  # else a process was killed while it wrote
        content = line if whole else b"\n" + line
        try:
            if file.write(content) != len(content):
                raise OSError(28, "No space left on device", str(path))
            sync(file)
        except OSError:
            os.truncate(path, size)
            raise


def _lock() -> BaseFileLock:
    return locked(work_folder("events") / "all", poll_interval=0.001)


def _event_of(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
        return event if isinstance(event["run_id"], str) and isinstance(event["id"], str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
