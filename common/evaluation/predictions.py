"""The predictions table, and the results that follow from it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from common.data.images import ImageTable
from common.data.splits import Fold
from common.evaluation.metrics import score_predictions
from common.evaluation.report import RESULT_COLUMNS


def predictions_table(
    table: ImageTable, fold: Fold, dev: np.ndarray, test: np.ndarray, threshold: float
) -> pd.DataFrame:
    """A row per image of the dev and the test set.

    Parameters
    ----------
    dev, test : ndarray of float64
        Probabilities of the positive class for ``fold.dev`` and ``fold.test``.
    threshold : float
        An image with at least this probability is predicted positive.

    Returns
    -------
    DataFrame
        Columns ``root_split, inner_split, part`` (dev or test), ``file, class`` (name), ``label`` (0 or 1),
        ``probability`` (of class 1), ``threshold``, ``prediction`` (0 or 1).
    """
    rows = np.concatenate([fold.dev, fold.test])
    probability = np.concatenate([dev, test])
    return pd.DataFrame(
        {
            "root_split": fold.root_split,
            "inner_split": fold.inner_split,
            "part": ["dev"] * len(dev) + ["test"] * len(test),
            "file": [table.files[row] for row in rows],
            "class": [table.classes[label] for label in table.labels[rows]],
            "label": table.labels[rows],
            "probability": probability,
            "threshold": threshold,
            "prediction": (probability >= threshold).astype(int),
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
    n_train = {(fold.root_split, fold.inner_split): len(fold.train) for fold in folds}
    rows = []
    for (root_split, inner_split), model in predictions.groupby(["root_split", "inner_split"]):
        dev, test = model[model.part == "dev"], model[model.part == "test"]
        threshold = float(model.threshold.iloc[0])
        scores = score_predictions(test.label, test.probability, threshold)
        rows.append(
            {
                "root_split": root_split,
                "inner_split": inner_split,
                "n_train": n_train[root_split, inner_split],
                "n_dev": len(dev),
                "n_test": len(test),
                "threshold": threshold,
                "dev_roc_auc": score_predictions(dev.label, dev.probability, threshold)["roc_auc"],
                **{f"test_{name}": score for name, score in scores.items()},
            }
        )
    return pd.DataFrame(rows)[list(RESULT_COLUMNS)]


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Names of the classes in a predictions table, in the order of their labels."""
    return predictions.groupby("label")["class"].first().tolist()


def ensemble_scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Test scores of the mean prediction of each root split's models, at the mean of their thresholds.

    Returns
    -------
    dict
        ``ensemble_test_roc_auc``, …: means over the root splits.
    """
    test = predictions[predictions["part"] == "test"].groupby(["root_split", "file"])
    mean = test.agg({"label": "first", "probability": "mean", "threshold": "mean"})
    scores = [
        score_predictions(root.label, root.probability, float(root.threshold.iloc[0]))
        for _, root in mean.groupby("root_split")
    ]
    return {f"ensemble_test_{name}": score for name, score in pd.DataFrame(scores).mean().items()}


def mean_scores(results: pd.DataFrame) -> dict[str, float]:
    """Mean of each score over the outer folds of the mean over their inner folds, under the columns' own names."""
    scores = [column for column in results.columns if column.startswith(("dev_", "test_"))]
    return results.groupby("root_split")[scores].mean().mean().to_dict()
