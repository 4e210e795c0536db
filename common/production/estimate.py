"""What is expected of a registered model: what nested cross-validation says of the procedure that made it.

The model itself has been tested on no image, since it learns from all of them.
"""

from __future__ import annotations

import pandas as pd

from common.evaluation.delong import auc_interval
from common.evaluation.predictions import ensemble_of, ensemble_scores
from common.evaluation.tested import has_groups, tested_folds, units_of
from common.production.deciding import mcc_interval


def estimate_of(predictions: pd.DataFrame) -> dict[str, float | int]:
    """Tags of a version: scores of the mean prediction of the models of each outer fold, on images new to them.

    The intervals are those of these models, for new patients; that training again gives other ones is not in them.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it: the outer folds of the procedure that gave the model.

    Returns
    -------
    dict
        ``test_roc_auc, test_balanced_accuracy, test_mcc, test_brier``: means over the outer folds, with ``_low`` and
        ``_high`` of the 95 % interval of the ROC AUC and the MCC where the data give one; ``outer_folds,
        test_images``, and ``test_groups`` where there are groups.
    """
    test = ensemble_of(predictions)
    scores = {name.removeprefix("ensemble_"): float(value) for name, value in ensemble_scores(predictions).items()}
    found = {"test_roc_auc": auc_interval(tested_folds(test)), "test_mcc": mcc_interval(test)}
    limits = {f"{name}_{end}": getattr(of, end) for name, of in found.items() if of.limits for end in ("low", "high")}
    counts = {"outer_folds": test["root_split"].nunique(), "test_images": test["file"].nunique()}
    if has_groups(test):
        counts["test_groups"] = units_of(test).nunique()
    return scores | limits | counts
