"""Tracking turned off: a run that takes everything and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class NullRun:
    """What the steps use of :class:`common.tracking.Run`, doing nothing."""

    run_id = "none"
    resumed = is_over = False
    checkpoint = recorded = None
    uri = page = "nowhere"

    @contextmanager
    def child(self, *args: object, **tags: object) -> Iterator[NullRun]:
        """This run again."""
        yield self

    root_split = trial = fold = phase = child

    def ignore(self, *args: object, **values: object) -> None:
        """Nothing."""

    log = params = tags = text = table = file = model = record = flush = ignore
