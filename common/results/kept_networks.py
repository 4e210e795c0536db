"""Which of a run's networks are kept when it ends: what ``REPROAI_NETWORKS`` says, or as many as take little space."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from common.cli import UserError
from common.results.opening import trees_at
from common.results.sizes import in_words_of, tree_sizes
from common.results.space import losing

if TYPE_CHECKING:
    from common.tracking.runs import Run

LARGE = 10**9
"""Bytes of a run's networks from which on only the best of each outer fold is kept, unless the environment says."""


def networks_to_keep() -> str | None:
    """What ``REPROAI_NETWORKS`` says: ``best``, ``all``, ``none``, or nothing.

    Raises
    ------
    UserError
        When it says something else.
    """
    keep = os.environ.get("REPROAI_NETWORKS") or None
    if keep not in (None, "best", "all", "none"):
        raise UserError(f"REPROAI_NETWORKS {keep!r:.40}: expected best, all or none")
    return keep


def keep_best_networks(run: Run) -> None:
    """Remove networks of a root run that are not to be kept, when all is stored; on a server all stay.

    Raises
    ------
    UserError
        When ``REPROAI_NETWORKS`` is neither ``best``, ``all`` nor ``none``.
    """
    keep = networks_to_keep()
    if keep == "all" or run.uri.startswith("http"):
        return
    trees = trees_at(run.uri)
    size = tree_sizes(trees, only=run.run_id).get(run.run_id)
    total = sum(number for _, number in size.networks) if size else 0
    if size is None or (keep is None and total <= LARGE):
        return
    gone = losing(trees, run.run_id, size, "none" if keep == "none" else "best")
    for path, _ in gone:
        path.unlink(missing_ok=True)
    if gone:
        saved = in_words_of(sum(number for _, number in gone))
        kept = (
            "none is kept" if keep == "none" else "the best of each outer fold is kept; REPROAI_NETWORKS=all keeps all"
        )
        print(f"networks: {len(gone)} of {len(size.networks)} removed, {saved}: {kept}")
