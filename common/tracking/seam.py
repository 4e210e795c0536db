"""Runs tell brokers how they get on, if the environment names one; all of that is the wing `common.events`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

BROKERS = {"KAFKA_HOST", "KAFKA_TOPIC", "PUB_SUB_PROJECT", "PUB_SUB_TOPIC"}
"""Variables of the environment that name a broker."""


def telling(**details: object) -> contextlib.AbstractContextManager[Callable[[Any], None]]:
    """As :func:`common.events.reporting`; without a broker in the environment it does nothing."""
    if not BROKERS & os.environ.keys():
        return contextlib.nullcontext(lambda run: None)
    from common.events.reporting import reporting

    return reporting(**details)


def tell(run: Any, kind: str, once: str, **payload: object) -> None:
    """As :func:`common.events.report`, for a :class:`common.tracking.Run`."""
    if run.brokers:
        from common.events.reporting import report

        report(run, kind, once, **payload)
