"""Which of a run's networks are kept: what ``REPROAI_NETWORKS`` says, or as many as take little space."""

from __future__ import annotations

import contextlib
import io
import os
from collections import defaultdict
from typing import IO, TYPE_CHECKING

from common.cli import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from common.tracking.runs import Run

LARGE = 10**9
"""Bytes of all networks of a run from which on the best of each outer fold is kept alone, unless it is set."""
_best: dict[str, dict[str, tuple[tuple[float, int], Run]]] = defaultdict(dict)  # by root run and outer fold


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


def is_kept(run: Run, size: int, predictions: str | bytes) -> bool:
    """Whether a network is stored now that its fold is tested. The one that it beats, or it itself, is removed at once.

    Parameters
    ----------
    run : Run
        Of an inner fold.
    size : int
        Bytes of the network.
    predictions : str
        Its ``predictions.csv``; the best network of an outer fold is that of the highest dev ROC AUC there, of equals
        that of the first inner fold.
    """
    keep = networks_to_keep() or ("all" if run.n_networks * size <= LARGE else "best")
    if keep == "all" or "inner_split" not in run.place or not isinstance(predictions, str):
        return True
    best = _best[run.place["root_run_id"]]
    if keep == "none":
        return False
    try:
        root_split, inner_split, score = dev_score(io.StringIO(predictions))
    except (KeyError, ValueError, IndexError):
        return True
    rank, before = (score, -inner_split), best.get(str(root_split))
    if before is not None and before[1].run_id == run.run_id:  # computed twice, as a machine was gone
        return True
    if before is not None and before[0] >= rank:
        _remove(run)  # stored before an interruption, when it was the best so far
        return False
    best[str(root_split)] = rank, run
    if before is not None:
        _remove(before[1])
    return True


def say_what_was_kept(run: Run) -> None:
    """At the end of a root run: a line, unless all of its networks are kept."""
    if run.run_id in _best:
        kept = "the best of each outer fold is" if _best.pop(run.run_id) else "none is"
        print(f"networks: {kept} kept of {run.n_networks}; REPROAI_NETWORKS=all keeps all")


def dev_score(predictions: Path | IO[str]) -> tuple[int, int, float]:
    """Of the ``predictions.csv`` of a fit its outer and its inner fold, and its dev ROC AUC.

    Raises
    ------
    KeyError, ValueError, IndexError
        When the table is not as expected.
    """
    import pandas as pd

    from common.evaluation.metrics import score_predictions
    from common.evaluation.predictions import probabilities_of

    table = pd.read_csv(predictions, dtype={"group": str})
    dev = table[table["part"] == "dev"]
    score = score_predictions(dev["label"], probabilities_of(dev), float(dev["threshold"].iloc[0]))
    return int(dev["root_split"].iloc[0]), int(dev["inner_split"].iloc[0]), score["roc_auc"]


def _remove(run: Run) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = run.client.get_run(run.run_id).info.artifact_uri
    with contextlib.suppress(MlflowException, OSError, NotImplementedError):  # not each store removes
        get_artifact_repository(place, run.uri).delete_artifacts("model.safetensors")
