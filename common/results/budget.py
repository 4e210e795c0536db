"""What a run may take of the disk: a warning where it would not fit (``REPROAI_DISK``), a limit in long searches."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence

from common.cli import UserError
from common.results.kept_networks import LARGE, networks_to_keep
from common.results.sizes import bytes_of, in_words_of
from common.state import state_folder
from common.tracking.identity import count_folds

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
OF_STATE = ("mlruns", "mlflow.db", "optuna.db", "data", "cache", "models")
OF_OPTIMIZER = 4
"""How often a checkpoint of a fit that is not done holds the weights: as they are and were best, and two moments."""
MOST = 800 * 10**6
"""Bytes that the checkpoints of a long search may take: a fit for which there is no room begins anew after a kill."""
MANY = 20
"""Trials from which on a search is long: what a kill can cost is about two of them in each outer fold."""


def limit_space(folds: Sequence, n_fits: int, summary: str) -> int | None:
    """How many bytes a run's checkpoints may take, None for any; and a warning on stderr where a run would not fit.

    Parameters
    ----------
    folds : nested lists of Fold
        Outer folds, with their inner ones.
    n_fits : int
    summary : str
        As :func:`common.model.summary_of` makes it; one without a number of parameters counts as nothing.

    Raises
    ------
    UserError
        When ``REPROAI_DISK`` is no size, or ``REPROAI_NETWORKS`` is wrong.
    """
    n_outer, n_networks = len(folds) if isinstance(folds, (list, tuple)) else 1, count_folds(folds)
    most = MOST if n_fits >= MANY * n_networks and networks_to_keep() != "all" else None
    if text := os.environ.get("REPROAI_DISK"):
        _warn(budget_of(text), estimate_space(n_outer, n_networks, n_fits, summary), n_networks)
    return most


def _warn(budget: int, needed: int, n_networks: int) -> None:
    used = sum(bytes_of(state_folder() / name) for name in OF_STATE)
    free = shutil.disk_usage(state_folder()).free
    if used + needed > budget or needed > free:
        left = in_words_of(max(0, min(budget - used, free)))
        print(
            f"disk: this run may take {in_words_of(needed)} ({n_networks} networks), and of {in_words_of(budget)}"
            f" {left} are left; python -m common.results tidy --keep-networks best frees some",
            file=sys.stderr,
        )


def budget_of(text: str) -> int:
    """A size such as ``50GB`` or ``800M``, in bytes.

    Raises
    ------
    UserError
        When it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UserError(f"REPROAI_DISK {text!r:.40}: expected a size such as 50GB")
    return int(float(found[1]) * UNITS[found[2]])


def estimate_space(n_outer: int, n_networks: int, n_fits: int, summary: str) -> int:
    """Bytes that a run's networks and checkpoints may take at once; see :func:`limit_space`.

    These are the networks that are kept, and one that comes in; those of fits that are done, and of a search those of
    the best trial so far, of each outer fold that is computed now; and where each fit that is computed now stands.
    """
    found = re.search(r"Total params: ([\d,]+)", summary)
    weights = 4 * int(found[1].replace(",", "")) if found else 0
    keep, at_once = networks_to_keep(), os.cpu_count() or 1
    best = n_outer if keep or n_networks * weights > LARGE else n_networks
    kept = {"all": n_networks, "none": 0}.get(keep or "", best)
    done = min(n_outer, at_once) * n_networks // n_outer * (1 if n_fits <= n_networks else 2)
    checkpoints = weights * (done + OF_OPTIMIZER * min(at_once, n_fits))
    if n_fits >= MANY * n_networks and keep != "all":
        checkpoints = min(checkpoints, MOST + OF_OPTIMIZER * weights)  # one is written before it replaces another
    return weights * (kept + 1) + checkpoints
