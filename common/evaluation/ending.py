"""How every `train.py` ends: the table of results, where to look, the time, and one line of JSON where asked for."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping

import pandas as pd

from common.evaluation.report import results_table, summary


def conclude(
    step: int,
    args: argparse.Namespace,
    results: pd.DataFrame,
    started: float,
    run_id: str | None = None,
    fits: int | None = None,
    chosen: Mapping[int, Mapping[str, object]] | None = None,
) -> dict[str, object]:
    """Print how a run ended, and return what ``--json`` prints.

    Parameters
    ----------
    results : DataFrame
        With the columns of ``results.csv``.
    started : float
        :func:`time.perf_counter` at the start.
    fits : int, optional
        Networks that were fitted; by default one per row of `results`.
    chosen : mapping from root split to {name: value}, optional
        Hyper-parameters that the search chose.

    Returns
    -------
    dict
        ``step, run_id, seconds, fits, test_roc_auc, ci, resumed``.
    """
    seconds = time.perf_counter() - started
    fits = len(results) if fits is None else fits
    print(f"\n{results_table(results, chosen)}\n")
    if run_id is None:
        print(f"predictions: step_{step}/outputs/predictions.csv; plots: python step_{step}/analyze_predictions.py")
    else:
        print(f"run {run_id}: bash run_mlflow_ui.bash shows it; plots: python step_{step}/analyze_predictions.py")
    print(f"{fits} {'fit' if fits == 1 else 'fits'} in {seconds:.0f} s")
    outcome = {
        "step": step,
        "run_id": run_id,
        "seconds": round(seconds, 3),
        "fits": fits,
        **summary(results),
        "resumed": False,
    }
    if args.json:
        print(json.dumps(outcome))
    return outcome
