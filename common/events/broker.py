"""What the two brokers have in common: messages, and settings from the environment."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.cli import UserError, masked

VERSION = 1
"""Of what events and answers look like."""

GoOn = Callable[[], bool]
"""Asked about twice a second while a broker does not answer: whether to go on trying."""


@dataclass(frozen=True)
class Message:
    """What goes to a broker and comes from it.

    Attributes
    ----------
    key : str
        Messages of one key keep their order.
    id : str
        The same when a message comes a second time.
    value : bytes
    handle : object
        What the broker needs to know a message again that it gave.
    """

    key: str
    id: str
    value: bytes
    handle: object = None


class Broker(Protocol):
    """A broker as :mod:`common.events.sending` uses it.

    Attributes
    ----------
    name : str
        ``kafka`` or ``pubsub``.
    where : str
        Its address and topic, for people to read.
    problem : str
        Why it did not answer last, for people to read.
    events, requests : str
        What :meth:`read` reads training events and prediction requests from.
    topic, answers : str
        What events, and answers to requests, are published to.
    """

    name: str
    where: str
    problem: str
    topic: str
    events: str | None
    requests: str
    answers: str

    def check(self, *topics: str) -> None:
        """Raise a UserError when it answers, within seconds, that a topic does not exist."""

    def publish(self, topic: str, messages: Sequence[Message], go_on: GoOn) -> int:
        """Send messages, in their order per key, and return how many of the first have arrived: fewer if stopped."""

    def read(self, source: str, group: str | None = None, from_start: bool = False) -> Iterator[Message | None]:
        """Messages as they come, and None about twice a second while there are none.

        With a group, those that no other reader of the group has said :meth:`done` to. `from_start` counts where there
        is no group, and where the broker keeps what it has delivered.
        """

    def done(self, message: Message) -> None:
        """Say that a message which was read need not come again."""


def settings(environ: Mapping[str, str], needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str] | None:
    """Variables of the environment, without those that are not set; None when none of them is.

    Raises
    ------
    UserError
        Naming the first that is needed and missing, when others are set.
    """
    found = {name: environ[name].strip() for name in (*needed, *optional) if environ.get(name, "").strip()}
    missing = [name for name in needed if name not in found]
    if found and missing:
        raise UserError(
            f"{missing[0]}: not set, while {next(iter(found))} is; expected {' and '.join(needed)}, or none"
        )
    return found or None


def idle_time(environ: Mapping[str, str]) -> float | None:
    """Seconds without a message after which a reader ends, from ``TIMEOUT``; None: never.

    Raises
    ------
    UserError
        When it is no number above 0.
    """
    text = environ.get("TIMEOUT", "").strip()
    try:
        seconds = float(text or "inf")
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise UserError(f"TIMEOUT: expected a number of seconds above 0, found {text!r}")
    return None if math.isinf(seconds) else seconds


def until_idle(messages: Iterator[Message | None], idle: float | None) -> Iterator[Message]:
    """The messages of :meth:`Broker.read`, until none has come for `idle` seconds, if that is not None."""
    last = math.inf
    for message in messages:
        last = min(last, time.monotonic())  # from the first answer on
        if message is not None:
            yield message
            last = time.monotonic()
        elif idle is not None and time.monotonic() - last > idle:
            return


def plain(value: object) -> object:
    """What JSON can hold of a value: null for a number that is not finite, the :func:`masked` text of other objects."""
    value = value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else masked(str(value))


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
