"""The closing table: what each step lets one claim, with an interval where there is a method for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from common.evaluation.delong import auc_difference, auc_interval
from common.evaluation.statistics import Interval
from study.finished import Finished

THESE = "these models, new images: DeLong by group"
RETRAINED = "the procedure, trained again: corrected resampled t over outer folds"


class Claim(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    step : str
    kind : str
        ``score`` (ROC AUC), ``difference`` of two, or ``share``.
    claim : str
    found : Interval
    method : str
        What the limits are.
    """

    step: str
    kind: str
    claim: str
    found: Interval
    method: str


def claims_table(of_data: list[Finished], optimism: pd.DataFrame) -> pd.DataFrame:
    """A row for each claim and data set, step by step."""
    rows = []
    for found in of_data:
        claims = [*_of_one_split(found), *_of_all_images(found), *_of_search(found, optimism), *_of_config(found)]
        for number, (step, kind, claim, value, method) in enumerate(claims):
            row = {"step": step, "claim": claim, "number": value.value, "low": value.low, "high": value.high}
            rows.append({**row, "method": method, "data": found.data, "kind": kind, "order": number})
    return pd.DataFrame(rows).sort_values("order", kind="stable").drop(columns="order")


def _of_one_split(found: Finished) -> Iterator[Claim]:
    single = found.single
    first = single[(single["seed"] == 0) & (single["split"] == 0)].iloc[0]
    yield Claim(
        "1, 2", "score", "one random split", Interval(first.test_roc_auc, first.test_low, first.test_high), THESE
    )
    for what, rows in (("splits", single[single["seed"] == 0]), ("seeds", single[single["split"] == 0])):
        scores = rows["test_roc_auc"]
        claim = {"splits": "the same on other splits", "seeds": "the same split, other seeds"}[what]
        spread = Interval(scores.mean(), *scores.quantile([0.025, 0.975]))
        yield Claim("1, 2", "score", claim, spread, f"a spread, no interval: the middle 95 % of {len(rows)} {what}")


def _of_all_images(found: Finished) -> Iterator[Claim]:
    claim = "every image tested, fixed settings"
    yield Claim("3", "score", f"{claim}: these models", auc_interval(found.tested("fixed")), THESE)
    yield Claim(
        "3", "score", f"{claim}: the procedure", found.over_folds(found.by_fold("fixed")), _retrained(found, "fixed")
    )


def _of_search(found: Finished, optimism: pd.DataFrame) -> Iterator[Claim]:
    claim = "settings searched in each outer fold"
    yield Claim("4", "score", f"{claim}: these models", auc_interval(found.tested("tpe")), THESE)
    yield Claim(
        "4", "score", f"{claim}: the procedure", found.over_folds(found.by_fold("tpe")), _retrained(found, "tpe")
    )
    models = auc_difference(found.tested("tpe"), found.tested("fixed"))
    yield Claim("4", "difference", "search less fixed settings: these models", models, THESE)
    for other, called in (
        ("fixed", "fixed settings: the procedures"),
        ("random", "random search of as many trials"),
        ("logistic", "logistic regression, tuned as long"),
        ("neighbours", "nearest neighbours, tuned as long"),
    ):
        if seeds := found.seeds("tpe") & found.seeds(other):
            less = found.by_fold("tpe", seeds=seeds) - found.by_fold(other, seeds=seeds)
            claim = f"search less {called}"
            yield Claim("4", "difference", claim, found.over_folds(less, (-1, 1)), _retrained(found, "tpe", len(seeds)))
    gap = found.by_fold("tpe", "dev_roc_auc") - found.by_fold("tpe")
    claim = "dev score of the chosen trial less its test score"
    yield Claim("4", "difference", claim, found.over_folds(gap, (-1, 1)), _retrained(found, "tpe"))
    best = optimism[(optimism["data"] == found.data) & (optimism["method"] == "tpe")].iloc[-1]
    chosen = Interval(best["optimism"], best["low"], best["high"])
    yield Claim("4", "difference", f"of it, by choosing the best of {best['n']}", chosen, _retrained(found, "tpe"))


def _of_config(found: Finished) -> Iterator[Claim]:
    equal, trials = same_again(found)
    counted = f"counted: the {trials} trials with which both searches begin"
    yield Claim("5", "share", "the same config again: scores that are equal", Interval(equal / trials), counted)
    here = (found.external["method"] == "tpe") & (found.external["seed"] == 0) & (found.external["root_split"] == 0)
    models = found.external[here].iloc[0]
    for name, claim in (("new", "new subjects, the same camera"), ("elsewhere", "new subjects, another camera")):
        external = Interval(models[name], models[f"{name}_low"], models[f"{name}_high"])
        yield Claim("5", "score", claim, external, f"{THESE}; those of outer fold 0")


def same_again(found: Finished) -> tuple[int, int]:
    """Of the random trials that TPE and random search both begin with, how many have the same scores, and how many are.

    Each search has computed them by itself.
    """
    keys = ["seed", "root_split", "trial"]
    scores = [name for name in found.trials if name.startswith("dev_") and name != "dev_se"] + ["test"]
    tpe, other = (of.set_index(keys) for _, of in found.trials.groupby("method", sort=False))
    settings = [name for name in tpe if name not in ("data", "method", "dev", "dev_se", *scores)]
    both = tpe.join(other, how="inner", suffixes=("", " again")).dropna(subset="dev")
    both = both[(both[settings].to_numpy() == both[[f"{name} again" for name in settings]].to_numpy()).all(axis=1)]
    equal = both[scores].to_numpy() == both[[f"{name} again" for name in scores]].to_numpy()
    return int(equal.all(axis=1).sum()), len(both)


def _retrained(found: Finished, method: str, n_seeds: int | None = None) -> str:
    n_seeds = n_seeds or len(found.seeds(method))
    return f"{RETRAINED}, {n_seeds} seed{'s' * (n_seeds > 1)}"
