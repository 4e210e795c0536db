"""Where tracking reaches wings: `common.events`, if the environment names a broker, and `common.production`."""

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


def check_registration(uri: str, name: str, table) -> None:
    """As :func:`common.production.scope.check_scope`."""
    from common.production.scope import check_scope

    check_scope(uri, name, table)
