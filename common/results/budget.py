"""Warns before a run that would not fit into the space that there is for results: ``REPROAI_DISK=50GB``."""

from __future__ import annotations

import os
import re
import shutil
import sys

from common.cli import UserError
from common.results.sizes import bytes_of, in_words_of
from common.state import state_folder

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
OF_STATE = ("mlruns", "mlflow.db", "optuna.db", "data", "cache", "models")
OF_OPTIMISER = 4
"""How often a checkpoint of a fit that is not done holds the weights: as they are and were best, and two moments."""


def warn_of_space(n_networks: int, summary: str) -> None:
    """Say on stderr when a run's networks and checkpoints would not fit into the budget, or on the disk.

    Parameters
    ----------
    n_networks, summary
        As for :func:`estimate_space`: one network for each inner fold.

    Raises
    ------
    UserError
        When ``REPROAI_DISK`` is no size.
    """
    budget = budget_of(os.environ["REPROAI_DISK"])
    used = sum(bytes_of(state_folder() / name) for name in OF_STATE)
    needed = estimate_space(n_networks, summary)
    free = shutil.disk_usage(state_folder()).free
    if used + needed > budget or needed > free:
        left = min(budget - used, free)
        print(
            f"disk: this run may take {in_words_of(needed)} ({n_networks} networks), and of {in_words_of(budget)}"
            f" {in_words_of(max(0, left))} are left; python -m common.results tidy --keep-networks best frees some",
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


def estimate_space(n_networks: int, summary: str) -> int:
    """Bytes that a run may take at once: of each network that is kept its file, and where its fit stands.

    Parameters
    ----------
    n_networks : int
    summary : str
        As :func:`common.model.summary_of` makes it; one without a number of parameters counts as nothing.
    """
    found = re.search(r"Total params: ([\d,]+)", summary)
    weights = 4 * int(found[1].replace(",", "")) if found else 0
    return weights * (2 * n_networks + OF_OPTIMISER * (os.cpu_count() or 1))
