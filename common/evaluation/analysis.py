"""What an analysis of a finished run says beside its plots."""

from __future__ import annotations

import pandas as pd

from common.evaluation.metrics import more_scores
from common.evaluation.predictions import probabilities_of
from common.evaluation.report import WIDTH, has_many_classes, results_table

TITLES = {
    "test_accuracy": "accuracy",
    "test_precision": "precision",
    "test_recall": "recall",
    "test_f1": "F1",
    "test_log_loss": "log loss",
    "test_pr_auc": "PR AUC",
}


def more_test_scores(predictions: pd.DataFrame) -> dict[str, float]:
    """``test_accuracy, test_precision, test_recall, test_f1, test_log_loss, test_pr_auc`` of a predictions table.

    Means over the outer folds of the mean over their inner folds, of :func:`common.evaluation.metrics.more_scores`.
    """
    test = predictions[predictions["part"] == "test"]
    scores = {
        place: more_scores(model.label, probabilities_of(model), float(model.threshold.iloc[0]))
        for place, model in test.groupby(["root_split", "inner_split"])
    }
    by_model = pd.DataFrame.from_dict(scores, orient="index").add_prefix("test_")
    return by_model.groupby(level=0).mean().mean().to_dict()


def analysis_text(predictions: pd.DataFrame, results: pd.DataFrame) -> str:
    """The numbers behind the plots: the results, more test scores, and confusion counts over all test predictions.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    results : DataFrame
        With the columns of ``results.csv``.
    """
    test = predictions[predictions["part"] == "test"]
    counts = test.groupby(["class", "prediction"]).size().unstack(fill_value=0)
    names = test.groupby("label")["class"].first()
    counts = counts.reindex(index=list(names), columns=names.index, fill_value=0).set_axis(list(names), axis=1)
    brier = results.groupby("root_split")["test_brier"].mean().mean()
    counts = counts.rename_axis(index="true class", columns="predicted")
    of = f"of {names.iloc[-1]}"
    if has_many_classes(results):
        of = "means over the classes"
        brier, counts = f"{brier:.3f} (0 to 2: sum over the classes)", _numbered(counts)
    else:
        brier = f"{brier:.3f}"
    more = "  ".join(f"{TITLES[name]} {score:.3f}" for name, score in more_test_scores(predictions).items())
    more = f"{more}\n(precision, recall, F1 and PR AUC: {of})"
    return f"{results_table(predictions, results)}\n{more}\nBrier score {brier}\n\n{counts}"


def _numbered(counts: pd.DataFrame) -> str:
    """Counts of many classes, whose columns are headed by the number of the class to be narrow."""
    rows = [str(n) if str(name) == str(n) else f"{n} {name}" for n, name in enumerate(counts.index)]
    numbered = counts.set_axis(range(len(rows)), axis=1).set_axis(rows).rename_axis("true class")
    return numbered.rename_axis("predicted", axis=1).to_string(line_width=WIDTH)
