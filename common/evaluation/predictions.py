"""The predictions table, and the results that follow from it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from common.cli import escaped
from common.data.folding import Fold
from common.data.images import ImageTable
from common.evaluation.calibration import calibration_error, calibration_intercept, calibration_slope
from common.evaluation.metrics import predicted_classes, score_predictions
from common.evaluation.weighted import pr_auc_of, sensitivity_of, specificity_of

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
    "root_splits": "int64",
    "optimism": "float64",
}
"""Columns of a results table, in the order of `results.csv`, with their types. A row is one inner model.

With more than two classes `threshold` is NaN, and the ROC AUC are means over the classes (macro, one-vs-rest), and so
is the PR AUC; sensitivity, specificity and the calibration are NaN. There is no slope where the classes are separated.
`root_splits` are those that the splits have, run or not; `optimism` is the dev less the test ROC AUC.
"""


def predictions_table(
    table: ImageTable, fold: Fold, dev: np.ndarray, test: np.ndarray, threshold: float
) -> pd.DataFrame:
    """A row per image of the dev and the test set.

    Parameters
    ----------
    dev, test : ndarray of float64
        Probabilities for ``fold.dev`` and ``fold.test``: of class 1, shape (n,), or of each of K > 2 classes, (n, K).
    threshold : float
        An image with at least this probability is predicted as class 1; NaN for more than two classes.

    Returns
    -------
    DataFrame
        Columns ``root_split, inner_split, part`` (dev or test), ``file, class`` (name), ``label`` (index),
        ``probability`` (of class 1; for more than two classes ``probability_<class>`` of each), ``threshold``,
        ``prediction`` (index), ``group`` (empty where there are none), ``digest`` (SHA-256 of the file's bytes, or of
        the array) and ``outer_fold`` (as ``root_split``). Tables of earlier runs lack the last three.
    """
    rows = np.concatenate([fold.dev, fold.test])
    probability = np.concatenate([dev, test])
    classes = [escaped(name) for name in table.classes]
    columns = {"probability": probability}
    if probability.ndim == 2:
        columns = {f"probability_{name}": of_class for name, of_class in zip(classes, probability.T, strict=True)}
    return pd.DataFrame(
        {
            "root_split": fold.root_split,
            "inner_split": fold.inner_split,
            "part": ["dev"] * len(dev) + ["test"] * len(test),
            "file": [escaped(table.files[row]) for row in rows],
            "class": [classes[label] for label in table.labels[rows]],
            "label": table.labels[rows],
            **columns,
            "threshold": threshold,
            "prediction": predicted_classes(probability, threshold),
            "group": "" if table.groups is None else [escaped(table.groups[row]) for row in rows],
            "digest": [table.digests[row] for row in rows],
            "outer_fold": fold.root_split,
        }
    )


def join(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Several predictions tables as one, sorted by fold."""
    return pd.concat(tables, ignore_index=True).sort_values(["root_split", "inner_split"], kind="stable")


def results_of(predictions: pd.DataFrame, folds: Iterable[Fold]) -> pd.DataFrame:
    """A row per fold, with the columns of ``results.csv``, sorted by fold.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`predictions_table` makes it, of all the folds.
    """
    of_place = {(fold.root_split, fold.inner_split): fold for fold in folds}
    rows = []
    for (root_split, inner_split), model in predictions.groupby(["root_split", "inner_split"]):
        dev, test = model[model.part == "dev"], model[model.part == "test"]
        threshold = float(model.threshold.iloc[0])
        scores = score_predictions(test.label, probabilities_of(test), threshold)
        on_dev = score_predictions(dev.label, probabilities_of(dev), threshold)
        fold = of_place[root_split, inner_split]
        rows.append(
            {
                "root_split": root_split,
                "inner_split": inner_split,
                "n_train": len(fold.train),
                "n_dev": len(dev),
                "n_test": len(test),
                "threshold": threshold,
                **{f"dev_{name}": score for name, score in on_dev.items()},
                **{f"test_{name}": score for name, score in scores.items()},
                **clinical_scores(test.label.to_numpy(), probabilities_of(test), threshold),
                "root_splits": fold.root_splits,
                "optimism": on_dev["roc_auc"] - scores["roc_auc"],
            }
        )
    return pd.DataFrame(rows)[list(RESULT_COLUMNS)]


def clinical_scores(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """The further test scores of ``results.csv``; NaN where they are not defined."""
    of_two = {
        "sensitivity": sensitivity_of,
        "specificity": specificity_of,
        "calibration_slope": calibration_slope,
        "calibration_intercept": calibration_intercept,
    }
    measures = {"pr_auc": pr_auc_of, **(of_two if probabilities.ndim == 1 else {})}
    alike = np.ones((1, len(labels)))
    scores = dict.fromkeys(["pr_auc", *of_two, "ece"], float("nan"))
    scores |= {name: float(of(labels, probabilities, threshold, alike)[0]) for name, of in measures.items()}
    if probabilities.ndim == 1:
        scores["ece"] = calibration_error(labels, probabilities)
    return {f"test_{name}": score for name, score in scores.items()}


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Names of the classes in a predictions table, in the order of their labels."""
    columns = _probability_columns(predictions)
    if len(columns) > 1:
        return [column.removeprefix("probability_") for column in columns]
    return predictions.groupby("label")["class"].first().tolist()


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """Probabilities in a predictions table: of class 1, shape (n,), or of each of K > 2 classes, shape (n, K)."""
    columns = _probability_columns(predictions)
    return predictions[columns if len(columns) > 1 else columns[0]].to_numpy()


def ensemble_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """The test rows of a predictions table, with the mean prediction of each root split's models, as of one model.

    It decides at the mean of their thresholds; with more than two classes there is no threshold: the class with the
    highest mean probability is predicted.
    """
    test = predictions[predictions["part"] == "test"].assign(inner_split=0)
    means = {column: "mean" for column in (*_probability_columns(predictions), "threshold")}
    first = {column: "first" for column in test if column not in {*means, "root_split", "file"}}
    mean = test.groupby(["root_split", "file"], as_index=False).agg(first | means)[list(test)]
    of_roots = [
        predicted_classes(probabilities_of(root), root.threshold.iloc[0]) for _, root in mean.groupby("root_split")
    ]
    return mean.assign(prediction=np.concatenate(of_roots))


def ensemble_scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Test scores of the mean prediction of each root split's models, see :func:`ensemble_of`.

    Returns
    -------
    dict
        ``ensemble_test_roc_auc``, …: means over the root splits.
    """
    scores = [
        score_predictions(root.label, probabilities_of(root), float(root.threshold.iloc[0]))
        for _, root in ensemble_of(predictions).groupby("root_split")
    ]
    return {f"ensemble_test_{name}": score for name, score in pd.DataFrame(scores).mean().items()}


def mean_scores(results: pd.DataFrame) -> dict[str, float]:
    """Mean of each score over the outer folds of the mean over their inner folds, under the columns' own names.

    A score that a model lacks is left out.
    """
    scores = [column for column in results.dropna(axis=1).columns if column.startswith(("dev_", "test_", "optimism"))]
    return results.groupby("root_split")[scores].mean().mean().to_dict()


def _probability_columns(predictions: pd.DataFrame) -> list[str]:
    return [column for column in predictions if column == "probability" or column.startswith("probability_")]
