"""Where tracking reaches wings: `events`, if the environment names a broker, `production`, and `evidence`."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import Any

from common.cli import UserError, lacking

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


def audited(table, roots, args: argparse.Namespace) -> dict[str, str]:
    """As :func:`common.evidence.audit.before_run`; nothing where the folder is left out, and before step 3.

    Raises
    ------
    UserError
        When a check is waived, and there is none.
    """
    if not hasattr(args, "waive"):
        return {}
    if missing := lacking("evidence"):
        if args.waive:
            raise UserError(missing)
        print("no audit of the data: common/evidence is not here")
        return {}
    from common.evidence.audit import before_run

    return before_run(table, roots, args)


def check_registration(uri: str, name: str, table) -> None:
    """As :func:`common.production.scope.check_scope`."""
    from common.production.scope import check_scope

    check_scope(uri, name, table)
