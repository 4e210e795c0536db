"""The results of a run: the table a script ends with, and its summary."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from common.evaluation.delong import auc_interval
from common.evaluation.statistics import LEAST_FOLDS, corrected_resampled_interval
from common.evaluation.tested import tested_folds, units_called

WIDTH = 100
"""Columns of a terminal."""
PROCEDURE_EXACT = 0.98
"""ROC AUC up to which the interval of the procedure is not too short."""
SCORES_SHOWN = {"test_roc_auc": "test ROC AUC", "test_balanced_accuracy": "balanced accuracy", "test_mcc": "MCC"}
DEV_SCORES_SHOWN = {"dev_roc_auc": "dev ROC AUC", "dev_mcc": "dev MCC"}


def summary(predictions: pd.DataFrame, results: pd.DataFrame) -> dict[str, float | list[float] | None]:
    """The test ROC AUC of a run and its 95 % interval: these models, new patients.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    results : DataFrame
        With the columns of ``results.csv``.

    Returns
    -------
    dict
        ``test_roc_auc`` : float, mean over outer folds of the mean over their inner folds; ``ci`` : [low, high] of
        :func:`common.evaluation.delong.auc_interval`, or None where it has none.
    """
    mean = float(results.groupby("root_split")["test_roc_auc"].mean().mean())
    return {"test_roc_auc": mean, "ci": auc_interval(tested_folds(predictions)).limits}


def retrained(results: pd.DataFrame) -> tuple[float, float] | None:
    """The 95 % interval of the test ROC AUC of the procedure, trained again; None below five outer folds.

    It is the corrected resampled t over outer folds. A model is trained on `n_train` images and selected on `n_dev`,
    so it has learned from both: their sum is the learning set that is set against `n_test`.
    """
    scores = results.groupby("root_split")["test_roc_auc"].mean()
    n_learn = (results["n_train"] + results["n_dev"]).mean()
    _, low, high = corrected_resampled_interval(scores, n_learn, results["n_test"].mean())
    return None if len(scores) < LEAST_FOLDS or math.isnan(low) else (low, high)


def results_table(
    predictions: pd.DataFrame,
    results: pd.DataFrame,
    hyper_parameters: Mapping[int, Mapping[str, object]] | None = None,
    sealed: bool = False,
) -> str:
    """The results as plain text of at most 100 columns, a row per outer fold and then their mean.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    results : DataFrame
        With the columns of ``results.csv``. Scores of an outer fold are means over its inner folds.
    hyper_parameters : mapping from root split to {name: value}, optional
        Chosen by the search of each outer fold; shown below its scores. Names may differ between folds. With them
        stands how much better the dev score was than the test score.
    sealed : bool
        Show dev scores alone.
    """
    titles = SCORES_SHOWN | ({"optimism": "dev - test ROC AUC"} if hyper_parameters else {})
    titles = DEV_SCORES_SHOWN if sealed else titles
    by_fold = results.groupby("root_split")[list(titles)].mean()
    models = results.groupby("root_split").size()
    chosen = _chosen_lines(hyper_parameters or {})
    lines = ["  ".join(["root split", "models", *(f"{title:>6}" for title in titles.values())])]
    for root_split, scores in by_fold.iterrows():
        lines += [_row(titles, root_split, models[root_split], scores), *chosen.get(root_split, [])]
    lines.append(_row(titles, "mean", "", by_fold.mean()))
    lines += [] if sealed else ["", *_conclusion(predictions, results)]
    if has_many_classes(results):
        lines += ["ROC AUC is the mean over the classes, each against all others (macro, one-vs-rest)"]
    return "\n".join(lines)


def has_many_classes(results: pd.DataFrame) -> bool:
    """Whether a results table is of more than two classes, which have no threshold."""
    return bool(results["threshold"].isna().all())


def _row(titles: Mapping[str, str], name: object, models: object, scores: pd.Series) -> str:
    cells = [f"{scores[column]:>{max(6, len(title))}.3f}" for column, title in titles.items()]
    return "  ".join([f"{name:>10}", f"{models:>6}", *cells])


def _chosen_lines(hyper_parameters: Mapping[int, Mapping[str, object]]) -> dict[int, list[str]]:
    """Lines of `name value` cells per root split, in columns that line up between root splits."""
    names = list(dict.fromkeys(name for values in hyper_parameters.values() for name in values))
    cells = {
        root_split: {name: f"{name} {_short(value)}" for name, value in values.items()}
        for root_split, values in hyper_parameters.items()
    }
    indent = " " * 12
    lines = {root_split: [indent] for root_split in cells}
    for name in names:
        width = max(len(row.get(name, "")) for row in cells.values())
        for root_split, row in cells.items():
            if len(lines[root_split][-1]) + width > WIDTH:
                lines[root_split].append(indent)
            lines[root_split][-1] += row.get(name, "").ljust(width) + "  "
    return {root_split: [line.rstrip() for line in own if line.strip()] for root_split, own in lines.items()}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _conclusion(predictions: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    folds = tested_folds(predictions)
    found, units = auc_interval(folds), units_called(predictions)
    said = f"test ROC AUC {found.value:.3f}"
    if found.missing:
        lines = [f"{said} (no interval: {found.missing})"]
    else:
        method = "bound: no error" if found.value in (0, 1) else "DeLong"
        limits = f"{'approximate ' if found.approximate else ''}95 % interval {found.low:.3f} to {found.high:.3f}"
        lines = [f"{said} ({limits}: these models, new {units}; {method})"]
    if again := retrained(results):
        rough = "approximate " if found.value > PROCEDURE_EXACT else ""
        lines.append(
            f"the procedure, retrained: {rough}95 % interval {again[0]:.3f} to {again[1]:.3f} (corrected resampled t, "
            f"{len(folds)} outer folds)"
        )
    tested = predictions.loc[predictions["part"] == "test", "file"].nunique()
    of = int(results[["n_train", "n_dev", "n_test"]].iloc[0].sum())
    if tested < of:
        lines.append(f"{tested} of {of} images tested")
        if "root_splits" in results and len(folds) < (splits := int(results["root_splits"].iloc[0])):
            lines[-1] = f"{len(folds)} of {splits} outer folds run: {lines[-1]}; --root-splits {splits} tests them all"
    return lines
