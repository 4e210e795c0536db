"""Where tracking reaches wings: `events`, if the environment names a broker, `production`, `evidence` and `results`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from common.cli import SOURCES, UserError, command_of, lacking

if TYPE_CHECKING:
    import pandas as pd

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
        print("no audit of the data, and no record of its tests: common/evidence is not here")
        return {}
    from common.evidence.audit import before_run

    return before_run(table, roots, args)


class OnRecord(NamedTuple):
    """What the ledger says of each run of a script.

    Attributes
    ----------
    about : dict of str
        ``commit``, ``config``, ``data``, ``splits``.
    reason : str or None
        Why test scores are shown when the run ends; None if dev scores alone are, see :func:`why_shown`.
    """

    about: dict[str, str]
    reason: str | None

    @property
    def sealed(self) -> bool:
        return self.reason is None


def why_shown(args: argparse.Namespace) -> str | None:
    """Why a run ends with its test scores: what ``--unsealed`` says, or the flag that asks for them, or its data.

    The data that the project makes or downloads are for learning, where nothing is claimed.
    """
    if getattr(args, "unsealed", None):
        return args.unsealed
    asked = [flag for flag in ("json", "register", "repeats") if getattr(args, flag, None)]
    if asked:
        return f"--{asked[0]}"
    return f"--data {args.data}" if args.data in SOURCES else None


def on_record(args: argparse.Namespace, parts: dict[str, str], commit: str) -> OnRecord | None:
    """How a run is on the record; None before step 4, and where the folder `evidence` is left out.

    Parameters
    ----------
    parts : dict
        :func:`common.tracking.identity.identity`.
    commit : str

    Raises
    ------
    UserError
        When a line of the ledger was changed, or when ``--unsealed`` is given, and there is no ledger.
    """
    if not hasattr(args, "unsealed"):
        return None
    if missing := lacking("evidence"):
        if args.unsealed:
            raise UserError(missing)
        return None
    from common.evidence.ledger import ledger_lines

    ledger_lines()
    settings = json.dumps({name: value for name, value in parts.items() if name.startswith("settings.")})
    config = hashlib.sha256(settings.encode()).hexdigest()[:16]
    about = {"commit": commit, "config": config, "data": parts["data"], "splits": parts["splits"]}
    return OnRecord(about, why_shown(args))


def predicted(run_id: str, recorded: OnRecord, predictions: pd.DataFrame) -> None:
    """As :func:`common.evidence.ledger.put_on_record`."""
    from common.evidence.ledger import put_on_record

    put_on_record(run_id, recorded.about, predictions)


def read_on_record(
    run_id: str, predictions: pd.DataFrame, reason: str, predictions_of: Callable, own_lines: str
) -> str:
    """As :func:`common.evidence.ledger.read_scores`; where the folder is left out it says so."""
    if lacking("evidence"):
        return "no record of who reads these test scores: common/evidence is not here"
    from common.evidence.ledger import read_scores

    return read_scores(run_id, predictions, reason, predictions_of, own_lines)


def deleted_on_record(run_id: str, reason: str) -> None:
    """As :func:`common.evidence.ledger.note`; nothing where the folder is left out."""
    if not lacking("evidence"):
        from common.evidence.ledger import note

        note("deleted", run_id, reason)


def lines_on_record(run_id: str) -> str:
    """As :func:`common.evidence.ledger.lines_of`."""
    from common.evidence.ledger import lines_of

    return lines_of(run_id)


def check_registration(uri: str, name: str, table) -> None:
    """As :func:`common.production.scope.check_scope`."""
    from common.production.scope import check_scope

    check_scope(uri, name, table)


def describe(run: Any, args: argparse.Namespace, step: int) -> None:
    """As :func:`common.results.ending_note.describe_run`; nothing where the folder is left out."""
    if not lacking("results"):
        from common.results.ending_note import describe_run

        describe_run(run, command_of(step, args), run.tables)


def keep_network(run: Any, size: int, predictions: str | bytes) -> bool:
    """As :func:`common.results.kept_networks.is_kept`; all are kept where the folder is left out."""
    if lacking("results"):
        return True
    from common.results.kept_networks import is_kept

    return is_kept(run, size, predictions)


def tell_networks(run: Any) -> None:
    """As :func:`common.results.kept_networks.say_what_was_kept`; nothing where the folder is left out."""
    if not lacking("results"):
        from common.results.kept_networks import say_what_was_kept

        say_what_was_kept(run)


def check_space(folds: Sequence, n_fits: int, summary: str) -> int | None:
    """As :func:`common.results.budget.limit_space`; None where the folder is left out.

    Raises
    ------
    UserError
        When ``REPROAI_DISK`` is set, and the folder is left out.
    """
    if missing := lacking("results"):
        if os.environ.get("REPROAI_DISK"):
            raise UserError(missing)
        return None
    from common.results.budget import limit_space

    return limit_space(folds, n_fits, summary)
