"""How much too good the best of n trials looks: as it is, and as two formulas predict it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.stats import norm

from study.finished import Finished


@cache
def expected_maximum(n: int) -> float:
    """The expectation of the largest of n independent standard normal numbers."""
    return quad(lambda x: x * n * norm.pdf(x) * norm.cdf(x) ** (n - 1), -9, 9)[0]


def best_of(trials: pd.DataFrame, n: int, in_order: bool) -> pd.Series:
    """What the best of n trials of one search has.

    Parameters
    ----------
    trials : DataFrame
        With the columns `trial`, `dev` and `test`. Those that failed have no score, and are left out.
    in_order : bool
        Whether the n are the first ones; else the mean over all choices of n of them, which random search allows.

    Returns
    -------
    Series
        `dev` and `test` of the trial with the highest dev score, and `unchosen`: by how much the dev score of any of
        these trials exceeds its test score.
    """
    trials = trials.dropna(subset="dev")
    trials = trials.sort_values("trial").head(n) if in_order else trials
    n = min(n, len(trials))
    ranked = trials.sort_values(["dev", "trial"], ascending=[True, False])
    chosen = np.array([math.comb(rank, n - 1) for rank in range(len(ranked))]) / math.comb(len(ranked), n)
    dev, test = ranked["dev"].to_numpy(), ranked["test"].to_numpy()
    return pd.Series({"dev": chosen @ dev, "test": chosen @ test, "unchosen": (dev - test).mean()})


def optimism_table(of_data: list[Finished]) -> pd.DataFrame:
    """A row for each data set, kind of search and number of trials; docs/study.md explains the columns."""
    rows = []
    for found in of_data:
        for method, trials in found.trials.groupby("method", sort=False):
            for n in (1, *sorted(found.shared["n"].unique())):
                rows.append({"data": found.data, "method": method, "n": n, **_of_search(found, trials, n)})
    return pd.DataFrame(rows)


def _of_search(found: Finished, trials: pd.DataFrame, n: int) -> dict[str, float]:
    method = trials["method"].iloc[0]
    searches = trials.groupby(["seed", "root_split"])
    best = pd.DataFrame({key: best_of(search, n, method == "tpe") for key, search in searches}).T
    gains = best["dev"] - best["test"] - best["unchosen"]
    by_fold = found.over_folds(gains.groupby(level=1).mean(), (-1, 1))
    shared = found.shared.query("method == @method and n == @n")["expected"]
    return {
        **best.mean(),
        "optimism": by_fold.value,
        "low": by_fold.low,
        "high": by_fold.high,
        "independence": expected_maximum(n) * trials["dev_se"].mean(),
        "shared": shared.mean() if n > 1 else 0.0,
        "searches": len(best),
        "shared_searches": shared.count() if n > 1 else len(best),
    }
