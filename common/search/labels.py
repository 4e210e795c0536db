"""How good a trial was among its like: the quantile of its score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from common.search.pooled import STATES, Pool

QUANTILES = (0.25, 0.5, 0.75)


def match_label(score: pd.Series, quantiles: Sequence[float] = QUANTILES, maximize: bool = True) -> pd.Series:
    """The quantile that each score belongs to, as ordered categories from "best 25 %" over "25-50 %" to "worst 25 %".

    A score belongs to the best 25 % when less than 25 % of the scores are better, and so on. So the best score is
    always among the best, however few there are, and equal scores have one label. NaN has none and does not count.

    Parameters
    ----------
    score : Series of float
    quantiles : sequence of float
        Where one label ends and the next begins: ascending, between 0 and 1.
    maximize : bool
        Whether higher scores are better.

    Raises
    ------
    ValueError
        When the quantiles are others.
    """
    edges = list(quantiles)
    if not edges or edges != sorted(set(edges)) or not 0 < edges[0] <= edges[-1] < 1:
        raise ValueError(f"quantiles must ascend between 0 and 1, found {edges}")
    score = pd.Series(score).astype(float)
    better = (score.rank(method="min", ascending=not maximize) - 1) / max(1, score.count())
    cuts = [f"{100 * edge:g}" for edge in edges]
    names = [f"best {cuts[0]} %", *(f"{a}-{b} %" for a, b in itertools.pairwise(cuts))]
    names.append(f"worst {100 * (1 - edges[-1]):g} %")
    codes = np.where(score.isna(), -1, np.searchsorted(edges, better, side="right"))
    labels = pd.Categorical.from_codes(codes, names, ordered=True)
    return pd.Series(labels, index=score.index, name=score.name)


def group_labels(pool: Pool) -> pd.Series:
    """The label of each trial by its rank within its study, or its state where it has no rank; best first.

    Ranks are quarters where studies have eight completed trials or more, on average, else halves. Where each study has
    one there is no rank.
    """
    scores = pool.trials["score"].where(pool.complete)
    counts = scores.groupby(pool.trials["study"]).count()
    if counts.max() <= 1:
        return pool.trials["state"].astype(pd.CategoricalDtype(STATES, ordered=True))
    quantiles = QUANTILES if counts.mean() >= 8 else (0.5,)
    labels = [match_label(each, quantiles, pool.maximize) for _, each in scores.groupby(pool.trials["study"])]
    names = [*labels[0].cat.categories, *STATES[1:]]
    group = pd.concat([each.astype(object) for each in labels]).reindex(scores.index)
    return group.where(pool.complete, pool.trials["state"]).astype(pd.CategoricalDtype(names, ordered=True))
