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
    said = []
    sealed = getattr(getattr(run, "recorded", None), "sealed", False)
    if {"predictions.csv", "results.csv"} <= tables.keys() and not sealed:
        from common.evaluation.results_text import summary

        found = summary(tables["predictions.csv"], tables["results.csv"])
        limits = found["ci"]
        said.append(f"Test ROC AUC {found['test_roc_auc']:.3f}")
        if isinstance(limits, list):
            run.log({"test_roc_auc_low": limits[0], "test_roc_auc_high": limits[1]}, 0)
            said[0] += f" (95 % interval {limits[0]:.3f} to {limits[1]:.3f} for these models on new patients)"
        folds = tables["results.csv"]["root_split"].nunique()
        said[0] += f", mean of {folds} outer fold{'s' if folds > 1 else ''}."
    elif sealed:
        said.append("Test scores are not shown yet.")
    said.append(f"Made by `python {escaped(shlex.join(command))}`.")
    said.append(f"`python -m common.results show {run.run_id}` shows all of it.")
    run.tags(**{NOTE: " ".join(said)})
