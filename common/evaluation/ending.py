"""How every `train.py` ends: the table of results, where to look, the time, and one line of JSON where asked for."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from common import tracking
from common.cli import PROJECT, escaped
from common.evaluation.predictions import ensemble_scores
from common.evaluation.results_text import results_table, summary
from common.evaluation.tested import has_groups

if TYPE_CHECKING:
    import optuna


def conclude(
    step: int,
    args: argparse.Namespace,
    predictions: pd.DataFrame,
    results: pd.DataFrame,
    started: float,
    run=None,
    studies: Sequence[optuna.Study] = (),
    chosen: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Print how a run ended, and return what ``--json`` prints.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    results : DataFrame
        With the columns of ``results.csv``.
    started : float
        :func:`time.perf_counter` at the start.
    run : common.tracking.Run, optional
    studies : sequence of optuna.Study, optional
        The search of each outer fold.
    chosen : sequence of {name: value}, optional
        Hyper-parameters that each chose.

    Returns
    -------
    dict
        ``step, run_id, seconds, fits, test_roc_auc, ci, resumed``; with the time and the fits of the registered model.
    """
    seconds = time.perf_counter() - started
    by_root = dict(zip(results["root_split"].unique().tolist(), chosen, strict=False))
    recorded = run.recorded if run is not None else None
    sealed = bool(recorded and recorded.sealed)
    if recorded and not sealed:
        said = tracking.show_scores(run, predictions, recorded.reason)  # before they are shown
        print(f"\n{results_table(predictions, results, by_root)}\n{said}")
    else:
        print(f"\n{results_table(predictions, results, by_root, sealed)}")
    fits = len(results)
    if studies:
        from common import search

        register = run is not None and getattr(args, "register", None)  # it has searched on all images too
        fits = search.fits_of(run.run_id) if register else sum(map(search.count_fits, studies))
        if drawn := search.how_drawn(studies[0]):
            print(drawn)
    if not (args.independent or has_groups(predictions)):
        print("each image is taken to be independent: groups.csv says which are not, --independent that all are")
    if results["inner_split"].nunique() > 1 and not sealed:
        ensemble = ensemble_scores(predictions)["ensemble_test_roc_auc"]
        print(f"mean prediction of each root split's models: test ROC AUC {ensemble:.3f}")
    where = f"step_{step}/outputs/predictions.csv"
    if run is not None:
        opened = "" if run.uri.startswith("http") else ": bash run_mlflow_ui.bash"
        where = f"run {run.run_id}{opened}\n            {run.page}"
    print(f"\nlook at it: {where}")
    analysis = _analysis(step)
    if sealed:
        print(f"test folds: sealed; {analysis} scores them and puts it on the record")
    print(f"plots:      bash run_script.bash python {analysis}")
    print(f"done:       {fits} {'fit' if fits == 1 else 'fits'} in {seconds:.0f} s")
    outcome = {
        "step": step,
        "run_id": run and run.run_id,
        "seconds": round(seconds, 3),
        "fits": fits,
        **summary(predictions, results),
        "resumed": bool(run and run.resumed),
    }
    if args.json:
        print(json.dumps(outcome))
    return outcome


def _analysis(step: int) -> str:
    """The script that analyses a run, from the project folder: beside the script that runs, else the step's own."""
    beside = Path(sys.argv[0]).resolve().parent / "analyze_predictions.py"
    if not beside.is_file():
        return f"step_{step}/analyze_predictions.py"
    return shlex.quote(escaped(str(beside.relative_to(PROJECT) if beside.is_relative_to(PROJECT) else beside)))
