"""The results of a run: the file `results.csv`, the table a script ends with, and their summary."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from common.evaluation.statistics import corrected_resampled_interval

RESULT_COLUMNS = {
    "root_split": "int64",
    "inner_split": "int64",
    "n_train": "int64",
    "n_dev": "int64",
    "n_test": "int64",
    "threshold": "float64",
    "dev_roc_auc": "float64",
    "test_roc_auc": "float64",
    "test_balanced_accuracy": "float64",
    "test_mcc": "float64",
    "test_brier": "float64",
    "dev_mcc": "float64",
    "test_sensitivity": "float64",
    "test_specificity": "float64",
    "test_pr_auc": "float64",
    "test_calibration_slope": "float64",
    "test_calibration_intercept": "float64",
    "test_ece": "float64",
}
"""Columns of a results table, in the order of `results.csv`, with their types. A row is one inner model.

With more than two classes `threshold` is NaN, and the ROC AUC are means over the classes (macro, one-vs-rest), and so
is the PR AUC; sensitivity, specificity and the calibration are NaN. There is no slope where the classes are separated.
"""

WIDTH = 100
"""Columns of a terminal."""
_SCORES = {"test_roc_auc": "test ROC AUC", "test_balanced_accuracy": "balanced accuracy", "test_mcc": "MCC"}


def summary(results: pd.DataFrame) -> dict[str, float | list[float] | None]:
    """The test ROC AUC of a run and its 95 % interval.

    The interval is the corrected resampled t over outer folds. A model is trained on `n_train` images and selected on
    `n_dev`, so it has learned from both: their sum is the learning set that is set against `n_test`.

    Parameters
    ----------
    results : DataFrame
        With the columns of :data:`RESULT_COLUMNS`.

    Returns
    -------
    dict
        ``test_roc_auc`` : float, mean over outer folds of the mean over their inner folds; ``ci`` : [low, high], or
        None where there is one outer fold.
    """
    scores = results.groupby("root_split")["test_roc_auc"].mean()
    n_learn = (results["n_train"] + results["n_dev"]).mean()
    mean, low, high = corrected_resampled_interval(scores, n_learn, results["n_test"].mean())
    return {"test_roc_auc": mean, "ci": None if math.isnan(low) else [low, high]}


def results_table(results: pd.DataFrame, hyper_parameters: Mapping[int, Mapping[str, object]] | None = None) -> str:
    """The results as plain text of at most 100 columns, a row per outer fold and then their mean.

    Parameters
    ----------
    results : DataFrame
        With the columns of :data:`RESULT_COLUMNS`. Scores of an outer fold are means over its inner folds.
    hyper_parameters : mapping from root split to {name: value}, optional
        Chosen by the search of each outer fold; shown below its scores. Names may differ between folds.
    """
    by_fold = results.groupby("root_split")[list(_SCORES)].mean()
    models = results.groupby("root_split").size()
    chosen = _chosen_lines(hyper_parameters or {})
    lines = ["  ".join(["root split", "models", *(f"{title:>6}" for title in _SCORES.values())])]
    for root_split, scores in by_fold.iterrows():
        lines += [_row(root_split, models[root_split], scores), *chosen.get(root_split, [])]
    lines += [_row("mean", "", by_fold.mean()), "", _conclusion(results)]
    if has_many_classes(results):
        lines += ["ROC AUC is the mean over the classes, each against all others (macro, one-vs-rest)"]
    return "\n".join(lines)


def has_many_classes(results: pd.DataFrame) -> bool:
    """Whether a results table is of more than two classes, which have no threshold."""
    return bool(results["threshold"].isna().all())


def _row(name: object, models: object, scores: pd.Series) -> str:
    cells = [f"{scores[column]:>{max(6, len(title))}.3f}" for column, title in _SCORES.items()]
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


def _conclusion(results: pd.DataFrame) -> str:
    found = summary(results)
    if found["ci"] is None:
        return f"test ROC AUC {found['test_roc_auc']:.3f} (no interval: one outer fold)"
    low, high = found["ci"]
    return f"test ROC AUC {found['test_roc_auc']:.3f} (95 % interval {low:.3f} to {high:.3f}, corrected resampled t)"
