"""Runs, put side by side on the images that all of them tested, and how each two of them differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.cli import UserError
from common.evaluation.delong import auc_difference
from common.evaluation.statistics import (
    LEAST_FOLDS,
    Difference,
    bayesian_correlated_ttest,
    corrected_resampled_interval,
    corrected_resampled_ttest,
    holm_adjusted,
)
from common.evaluation.tested import OuterFold, has_groups, tested_folds


class Compared(NamedTuple):
    """A finished run, as it is compared.

    Attributes
    ----------
    run_id, title, about : str
        `title` is its name in the comparison, `about` that in the tracking store.
    data, fingerprint : str
        Name and fingerprint of its data; "" where it does not say them.
    predictions, results : DataFrame
        With the columns of ``predictions.csv`` and ``results.csv``.
    folds : sequence of OuterFold
        Its test predictions, once :func:`on_shared_folds` has put them side by side with those of other runs.
    """

    run_id: str
    title: str
    about: str
    data: str
    fingerprint: str
    predictions: pd.DataFrame
    results: pd.DataFrame
    folds: Sequence[OuterFold] = ()

    @property
    def short(self) -> str:
        """How errors name it."""
        return f"run {self.run_id[:8]} ({self.data or 'data unknown'})"


@dataclass(frozen=True)
class Pair:
    """How two runs differ in test ROC AUC: the first less the second.

    Attributes
    ----------
    titles : (str, str)
    by_fold : ndarray of float64, shape (J,)
        Per outer fold the difference of the means over its models.
    models, procedures : Difference
        The two questions of this module; `procedures` is None with fewer than :data:`LEAST_FOLDS` outer folds.
    equivalence : (float, float, float), optional
        As :func:`bayesian_correlated_ttest` gives it, where it was asked for and there is one.
    """

    titles: tuple[str, str]
    by_fold: np.ndarray
    models: Difference
    procedures: Difference | None = None
    equivalence: tuple[float, float, float] | None = None


def on_shared_folds(runs: list[Compared]) -> tuple[list[Compared], bool]:
    """The runs with the outer folds that all have, and whether those are all.

    The units of images are those of the run that knows most of them: groups, or else digests.

    Raises
    ------
    UserError
        When there are none, or the runs tested different images in them.
    """
    has = [set(run.results["root_split"]) for run in runs]
    shared = set.intersection(*has)
    if not shared:
        each = "; ".join(f"{run.short} has {sorted(folds)}" for run, folds in zip(runs, has, strict=True))
        raise UserError(f"no outer fold was tested by all of these runs: {each}")
    tables = []
    for run in runs:
        rows, results = run.predictions, run.results
        rows = rows[(rows["part"] == "test") & rows["root_split"].isin(shared)]
        tables.append(run._replace(predictions=rows, results=results[results["root_split"].isin(shared)]))
    for other in tables[1:]:
        _check_same_images(tables[0], other, sorted(shared))
    knows_most = max(tables, key=lambda run: (has_groups(run.predictions), "digest" in run.predictions))
    units = [fold.units for fold in tested_folds(knows_most.predictions)]
    aligned = []
    for run in tables:
        folds = zip(tested_folds(run.predictions), units, strict=True)
        aligned.append(run._replace(folds=[fold._replace(units=of_fold) for fold, of_fold in folds]))
    return aligned, has.count(shared) == len(has)


def _check_same_images(first: Compared, other: Compared, outer_folds: Sequence[int]) -> None:
    for outer_fold in outer_folds:
        a, b = (
            run.predictions[run.predictions["root_split"] == outer_fold].drop_duplicates("file").set_index("file")
            for run in (first, other)
        )
        if lone := sorted(set(a.index) ^ set(b.index), key=str):
            having, lacking = (first, other) if lone[0] in a.index else (other, first)
            raise UserError(
                f"the runs were tested on different images: outer fold {outer_fold} of {having.short} has {lone[0]}, "
                f"that of {lacking.short} has not"
            )
        for column in [column for column in ("class", "label", "digest") if column in a and column in b]:
            ours, theirs = a[column], b[column].reindex(a.index)
            differs = (ours != theirs) & ours.notna() & theirs.notna()
            if differs.any():
                file = differs.idxmax()
                raise UserError(
                    f"the runs were tested on different images: the {column} of {file} is {ours[file]} in "
                    f"{first.short}, {theirs[file]} in {other.short}"
                )
        if "digest" not in a or "digest" not in b:
            known = [run for run in (first, other) if run.fingerprint]
            if len({run.fingerprint for run in known}) > 1:
                each = ", ".join(f"{run.fingerprint} of {run.short}" for run in known)
                raise UserError(f"the runs were tested on different images of the same names: fingerprints {each}")


def pairs_of(runs: Sequence[Compared], rope: float | None = None) -> list[Pair]:
    """Each two of the runs that :func:`on_shared_folds` gave; p values are adjusted for their number (Holm)."""
    pairs = []
    for a, b in combinations(runs, 2):
        ours, theirs = (run.results.groupby("root_split")["test_roc_auc"].mean().to_numpy() for run in (a, b))
        pair = Pair((a.title, b.title), ours - theirs, auc_difference(a.folds, b.folds))
        if len(pair.by_fold) >= LEAST_FOLDS:
            results = pd.concat([a.results, b.results])
            sizes = float((results["n_train"] + results["n_dev"]).mean()), float(results["n_test"].mean())
            pair = replace(pair, procedures=_procedures(ours, theirs, *sizes))
            if rope is not None:
                equivalence = bayesian_correlated_ttest(ours, theirs, *sizes, rope)
                pair = replace(pair, equivalence=None if math.isnan(equivalence[0]) else equivalence)
        pairs.append(pair)
    models = holm_adjusted([pair.models.p for pair in pairs])
    procedures = holm_adjusted([pair.procedures.p if pair.procedures else math.nan for pair in pairs])
    return [
        replace(
            pair,
            models=replace(pair.models, p=float(p)),
            procedures=pair.procedures and replace(pair.procedures, p=float(p_retrained)),
        )
        for pair, p, p_retrained in zip(pairs, models, procedures, strict=True)
    ]


def _procedures(a: np.ndarray, b: np.ndarray, n_learn: float, n_test: float) -> Difference:
    mean, low, high = corrected_resampled_interval(a - b, n_learn, n_test, bounds=(-1, 1))
    _, p = corrected_resampled_ttest(a, b, n_learn, n_test)
    missing = "every outer fold differs by the same" if math.isnan(p) else ""
    return Difference(mean, low, high, missing, p=p)
