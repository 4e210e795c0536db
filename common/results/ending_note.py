"""What lists and MLflow's pages show of a run without reading its files: written when it ends."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.cli import escaped

if TYPE_CHECKING:
    import pandas as pd

    from common.tracking.runs import Run

NOTE = "mlflow.note.content"
"""Tag that MLflow's page of a run shows as its description."""
INTERVAL = "interval"
"""Tag of what the interval of its test score is: exact or approximate."""


def describe_run(run: Run, command: list[str], tables: Mapping[str, pd.DataFrame]) -> None:
    """Log the interval of a root run's test score, and describe the run in a paragraph.

    Parameters
    ----------
    run : Run
        The root run, before it ends.
    command : list of str
        Script and arguments.
    tables : mapping of str to DataFrame
        Its artifacts ``predictions.csv`` and ``results.csv``; without them there is nothing to say of scores.
    """
    said, tags = [], {}
    sealed = getattr(getattr(run, "recorded", None), "sealed", False)
    if {"predictions.csv", "results.csv"} <= tables.keys() and not sealed:
        from common.evaluation.delong import auc_interval
        from common.evaluation.tested import tested_folds

        found = auc_interval(tested_folds(tables["predictions.csv"]))
        said.append(f"Test ROC AUC {found.value:.3f}")
        if not found.missing:
            run.log({"test_roc_auc_low": found.low, "test_roc_auc_high": found.high}, 0)
            rough = "approximate " if found.approximate else ""
            said[0] += f" ({rough}95 % interval {found.low:.3f} to {found.high:.3f} for these models on new patients)"
            tags[INTERVAL] = "approximate" if found.approximate else "exact"
        folds = tables["results.csv"]["root_split"].nunique()
        said[0] += f", mean of {folds} outer fold{'s' if folds > 1 else ''}."
    elif sealed:
        said.append("Test scores are not shown yet.")
    said.append(f"Made by `python {escaped(shlex.join(command))}`.")
    said.append(f"`python -m common.results show {run.run_id}` shows all of it.")
    run.tags(**{NOTE: " ".join(said), **tags})
