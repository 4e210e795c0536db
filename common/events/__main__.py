"""Shows messages about training as they come: ``python -m common.events tail``."""

from __future__ import annotations

import contextlib
import os

from common import cli
from common.cli import UserError
from common.events.broker import Broker, idle_time, until_idle
from common.events.display import Display
from common.events.sending import only_broker


def tail(broker: Broker, idle: float | None = None, from_start: bool = False) -> None:
    """Show events as they come, one line each, and progress on a terminal, until none has come for `idle` seconds.

    Raises
    ------
    UserError
        When the broker does not answer, or there is nothing to read from.
    """
    if broker.events is None:
        raise UserError("PUB_SUB_SUBSCRIPTION: not set; expected the subscription to read events from")
    seen: set[str] = set()
    reading = contextlib.closing(broker.read(broker.events, from_start=from_start))
    with reading as messages, contextlib.closing(Display()) as display:
        for message in until_idle(messages, idle):
            if message.id not in seen:
                display.show(message)
            seen.add(message.id)
            broker.done(message)


def main(argv: list[str] | None = None) -> None:
    """The command: ``python -m common.events tail``."""
    flags = cli.parser(__doc__)
    flags.add_argument("command", choices=["tail"], help="show events as they come; ends after TIMEOUT seconds of none")
    flags.add_argument("--broker", choices=["kafka", "pubsub"], help="which one, where the environment names both")
    flags.add_argument("--from-start", action="store_true", help="Kafka: also what has come before")
    args = flags.parse_args(argv)
    tail(only_broker(args.broker), idle_time(os.environ), args.from_start)


if __name__ == "__main__":
    cli.run(main)
