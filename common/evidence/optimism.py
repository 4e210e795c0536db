"""How much better than it is the best of several configs looks that were tested on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from common.evaluation.delong import EXACT, auc_covariance
from common.evaluation.tested import tested_folds, units_of_class
from common.seeds import Stream

MOST = 50
"""Configs that are looked at, as the covariance of more takes long."""
_DRAWS = 20_000


def expected_optimism(tables: Sequence[pd.DataFrame]) -> tuple[float | None, int]:
    """The expected ROC AUC of the best of several configs on its test images less that on new ones, if all are alike.

    The test scores of configs that are equally good differ by chance alone: they are normal, with the covariance for
    new patients of DeLong's method, which knows that all were tested on the same images. The expectation of their
    maximum is how much better the best looks. Where configs differ it looks less better than that.

    Parameters
    ----------
    tables : sequence of DataFrame
        Predictions tables. Those that did not test the images of the first one, in the same outer folds, are left out.

    Returns
    -------
    optimism : float or None
        In [0, 1]; None where DeLong's method is not exact, or where nothing can be compared.
    n_configs : int
        How many were compared.

    References
    ----------
    Nadeau & Bengio (2003) for what a test set says of models as they are; Obuchowski (1997), Nonparametric analysis of
    clustered ROC curve data, Biometrics 53(2):567-578, for the covariance.
    """
    of_first = _tested(tables[0])
    alike = [table for table in tables if _tested(table) == of_first]
    models = [tested_folds(table) for table in alike]
    if len(models) < 2:
        return None, len(models)
    labels = range(1 + max(int(fold.labels.max()) for fold in models[0]))
    aucs, covariance = auc_covariance(models)
    exact = min(units_of_class(models[0], label) for label in labels) >= EXACT[0] and aucs.max() <= EXACT[1]
    if not exact or np.isnan(covariance).any():
        return None, len(models)
    random = Stream(0).at("optimism").numpy()
    drawn = random.multivariate_normal(np.zeros(len(models)), covariance, _DRAWS, method="eigh", check_valid="ignore")
    return float(drawn.max(axis=1).mean()), len(models)


def said_of_optimism(tables: Sequence[pd.DataFrame], n_configs: int) -> str:
    """What is to be said of the best of `n_configs`, of which these tables are there: see :func:`expected_optimism`."""
    optimism, n_found = expected_optimism(tables)
    if optimism is None:
        why = "from so few images" if n_found > 1 else "as none of the others has predictions of all these folds here"
        return f"how much better the best looks cannot be told {why}"
    of = f"{n_found}" if n_found == n_configs else f"{n_found} of them that can be compared"
    return f"if they are equally good, the best of {of} is expected to look {optimism:.3f} better than it is"


def _tested(table: pd.DataFrame) -> set[tuple[int, str, str]]:
    test = table[table["part"] == "test"]
    return {*zip(test["root_split"], test["file"].astype(str), test["digest"].astype(str), strict=True)}
