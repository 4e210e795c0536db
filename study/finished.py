"""The finished study, as it is read from its tables."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from common.cli import PROJECT, UserError
from common.evaluation import corrected_resampled_interval
from common.evaluation.statistics import LEAST_FOLDS, Interval
from common.evaluation.tested import OuterFold, tested_folds

RESULTS = PROJECT / "study" / "results"
TABLES = ("folds", "trials", "single", "external", "shared", "predictions", "images")


class Finished:
    """What was found on one data set: each of :data:`TABLES` as an attribute.

    Parameters
    ----------
    data : str
    tables : dict of DataFrame
        Of all data sets.
    """

    folds: pd.DataFrame
    trials: pd.DataFrame
    single: pd.DataFrame
    external: pd.DataFrame
    shared: pd.DataFrame
    predictions: pd.DataFrame
    images: pd.DataFrame

    def __init__(self, data: str, tables: dict[str, pd.DataFrame]):
        self.data = data
        for name in TABLES:
            setattr(self, name, tables[name][tables[name]["data"] == data])

    def over_folds(self, scores: pd.Series, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
        """The mean over outer folds, with its interval for the procedure where there are enough of them."""
        scores = scores.dropna()
        if len(scores) < LEAST_FOLDS:
            return Interval(scores.mean(), missing="too few outer folds")
        sizes = self.folds[["n_train", "n_dev", "n_test"]].mean()
        n_learn = sizes["n_train"] + sizes["n_dev"]
        return Interval(*corrected_resampled_interval(scores, n_learn, sizes["n_test"], bounds=bounds))

    def by_fold(self, method: str, column: str = "test_roc_auc", seeds: set[int] | None = None) -> pd.Series:
        """A score of each outer fold: the mean over the seeds (by default all) and over its inner models."""
        rows = self.folds[self.folds["method"] == method]
        rows = rows if seeds is None else rows[rows["seed"].isin(seeds)]
        return rows.groupby("root_split")[column].mean()

    def seeds(self, method: str) -> set[int]:
        """The seeds that a method ran with."""
        return set(self.folds.loc[self.folds["method"] == method, "seed"])

    def tested(self, method: str) -> list[OuterFold]:
        """The test predictions of a method from seed 0."""
        wide = self.predictions[self.predictions["method"] == method].merge(self.images, on=["data", "image"])
        models = [name for name in wide if name.startswith("inner_")]
        long = wide.melt(["root_split", "file", "label", "group"], models, "inner_split", "probability")
        return tested_folds(long.dropna(subset="probability").assign(part="test", threshold=math.nan))


def read(folder: Path = RESULTS) -> list[Finished]:
    """The finished study, by data set.

    Raises
    ------
    UserError
        When a table is missing.
    """
    try:
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; python -m study writes it") from error
    return [Finished(data, tables) for data in tables["folds"]["data"].unique()]
