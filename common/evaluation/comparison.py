"""Several models on the same folds, compared."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from common.evaluation.report import summary
from common.evaluation.statistics import corrected_resampled_ttest


def compare_models(args: argparse.Namespace, outcomes: Sequence[tuple[str, dict[str, object], pd.DataFrame]]) -> None:
    """Print how several models compare; of one nothing is printed.

    Parameters
    ----------
    args : argparse.Namespace
        With ``--json`` the last line is that of the last model again.
    outcomes : sequence of (name, what :func:`conclude` returned, results)
        Models of one name are numbered.
    """
    if len(outcomes) < 2:
        return
    names, seen = Counter(name for name, *_ in outcomes), Counter()
    results = {}
    for name, _, table in outcomes:
        seen[name] += 1
        results[name if names[name] == 1 else f"{name} {seen[name]}"] = table
    print(comparison_text(results))
    if args.json:
        print(json.dumps(outcomes[-1][1]))


def comparison_text(results: Mapping[str, pd.DataFrame]) -> str:
    """Test ROC AUC of each model with its interval, and for each pair the paired difference over outer folds.

    Parameters
    ----------
    results : mapping from name to DataFrame
        With the columns of ``results.csv``, of the same folds.

    Returns
    -------
    str
        The p values are those of :func:`corrected_resampled_ttest`; with one outer fold there are none.
    """
    width = max(map(len, results))
    lines = ["models on the same folds, test ROC AUC:"]
    for name, table in results.items():
        found = summary(table)
        interval = "" if found["ci"] is None else " (95 % interval {:.3f} to {:.3f})".format(*found["ci"])
        lines.append(f"  {name:<{width}}  {found['test_roc_auc']:.3f}{interval}")
    for (name_a, a), (name_b, b) in combinations(results.items(), 2):
        by_root = [table.groupby("root_split")["test_roc_auc"].mean() for table in (a, b)]
        learned = float((a["n_train"] + a["n_dev"]).mean())
        _, p = corrected_resampled_ttest(*by_root, learned, float(a["n_test"].mean()))
        gap = float((by_root[0] - by_root[1]).mean())
        said = (
            f"p = {p:.3f} ({len(by_root[0])} outer folds, corrected resampled t)" if p == p else "one outer fold: no p"
        )
        lines.append(f"  {name_a} - {name_b}: {gap:+.3f}, {said}")
    return "\n".join(lines)
