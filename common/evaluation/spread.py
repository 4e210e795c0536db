"""How much folds, seeds and splits move a score: the same experiment from several root seeds."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from common import tracking
from common.evaluation.compare import draw_runs
from common.evaluation.results_text import SCORES_SHOWN


class Repeat(NamedTuple):
    """A finished run.

    Attributes
    ----------
    seed : int
    resplit : bool
        Whether its splits are its own.
    run_id : str
    scores : DataFrame
        A row for each outer fold, and a column for each score: means over the inner folds.
    """

    seed: int
    resplit: bool
    run_id: str
    scores: pd.DataFrame


class Spread(NamedTuple):
    """Standard deviations of a score, NaN for what was not varied.

    Attributes
    ----------
    folds : float
        From one outer fold to another, beyond what seeds explain.
    seeds : float
        Of one outer fold's score, from one seed to another.
    seeds_of_mean : float
        Of the mean of all outer folds, from one seed to another.
    splits : float
        Of that mean, from some splits to others, beyond what seeds explain.
    """

    folds: float
    seeds: float
    seeds_of_mean: float
    splits: float


def run_seed(
    run_experiment: Callable[[argparse.Namespace], dict[str, object]],
    args: argparse.Namespace,
    seed: int,
    resplit: bool,
) -> Repeat:
    """Run an experiment from another root seed, unless such a run has finished."""
    of = f"seed {seed}, on {'splits of its own' if resplit else 'the same splits'}"
    print(f"\n{of}:")
    try:
        run_id = str(run_experiment(argparse.Namespace(**{**vars(args), "seed": seed, "resplit": resplit}))["run_id"])
    except tracking.HasFinished as found:
        run_id = str(found)
        print(f"run {run_id} has finished; --fresh runs it anew")
    results = tracking.find_root(run_id).read_table("results.csv")
    return Repeat(seed, resplit, run_id, results.groupby("root_split")[list(SCORES_SHOWN)].mean())


def spread_of(same: np.ndarray, own: Sequence[float] = ()) -> Spread:
    """How much of a score's spread comes from folds, seeds and splits.

    Folds and seeds are the two sources of a one-way analysis of variance with random effects, in which the score of a
    fold from another seed is a replicate (Montgomery, Design and Analysis of Experiments, section 3.9). The variance
    of the splits is that of means on different splits, less that of the seeds. A negative variance is 0.

    Parameters
    ----------
    same : ndarray, shape (seeds, folds)
        Scores on the same splits, of at least two seeds.
    own : sequence of float, optional
        Means over the outer folds of the further seeds, on splits of their own.
    """
    n_seeds, n_folds = same.shape
    of_seeds = float(same.var(axis=0, ddof=1).mean())
    of_folds = float(same.mean(axis=0).var(ddof=1)) - of_seeds / n_seeds if n_folds > 1 else math.nan
    of_splits = float(np.var([same[0].mean(), *own], ddof=1)) - of_seeds / n_folds if len(own) else math.nan
    return Spread(*np.sqrt(np.maximum([of_folds, of_seeds, of_seeds / n_folds, of_splits], 0)).tolist())


def conclude_repeats(repeats: Sequence[Repeat], as_json: bool) -> dict[str, object]:
    """Print the spread of the scores, draw it, and return what :func:`common.evaluation.repeat` does."""
    same = [one for one in repeats if not one.resplit]
    own = [one for one in repeats if one.resplit]
    values = {score: np.array([one.scores[score] for one in same]) for score in SCORES_SHOWN}
    spreads = {score: spread_of(values[score], [one.scores[score].mean() for one in own]) for score in SCORES_SHOWN}
    print("\n" + "\n".join(_lines(values, spreads, len(own))))
    path = draw_runs("repeats", "repeats_plot", [one.run_id for one in repeats], same, own, spreads["test_roc_auc"])
    print(f"plot: {path}")
    auc = {"test_roc_auc": float(values["test_roc_auc"].mean())}
    spread = {name: None if math.isnan(sd) else sd for name, sd in spreads["test_roc_auc"]._asdict().items()}
    runs = [
        {
            "run_id": one.run_id,
            "seed": one.seed,
            "resplit": one.resplit,
            "test_roc_auc": one.scores["test_roc_auc"].mean(),
        }
        for one in repeats
    ]
    outcome = {"run_id": repeats[0].run_id, **auc, "spread": spread, "runs": runs}
    if as_json:
        print(json.dumps(outcome))
    return outcome


def _lines(values: Mapping[str, np.ndarray], spreads: Mapping[str, Spread], n_own: int) -> list[str]:
    n_seeds, n_folds = next(iter(values.values())).shape
    rows = [("mean", [value.mean() for value in values.values()], "")]
    for source, title, df in (
        ("folds", "SD between outer folds", n_folds - 1),
        ("seeds", "SD between seeds, one fold", n_folds * (n_seeds - 1)),
        ("seeds_of_mean", "SD between seeds, mean of folds", 0),
        ("splits", "SD between splits, mean of folds", n_own),
    ):
        found = [getattr(spread, source) for spread in spreads.values()]
        if not any(map(math.isnan, found)):
            rows.append((title, found, f"df {df}" if df else ""))
    of = f"{n_seeds} root seeds, {n_folds} outer fold{'s' if n_folds > 1 else ''}"
    width = max(len(title) for title in (of, *(title for title, *_ in rows)))
    lines = ["  ".join([f"{of:<{width}}", *(f"{title:>6}" for title in SCORES_SHOWN.values())])]
    for title, found, note in rows:
        cells = [f"{value:>{max(6, len(of))}.3f}" for value, of in zip(found, SCORES_SHOWN.values(), strict=True)]
        lines.append("  ".join([f"{title:<{width}}", *cells, note]).rstrip())
    return [*lines, "(SD: standard deviation; df: its degrees of freedom; 0.000: no more than seeds explain)"]
