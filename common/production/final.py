"""The model that is used in the end: what the whole procedure gives on all data, registered with the nested scores."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import pandas as pd

from common import tracking
from common.cli import escaped
from common.data.folding import Fold, folds_of_all
from common.data.images import ImageTable
from common.data.splits import load_splits
from common.evaluation.metrics import youden_threshold
from common.evaluation.predictions import mean_scores
from common.production.ensemble import Ensemble
from common.production.promotion import standing
from common.production.registry import register_version
from common.training import Compute, run_jobs, test_model

Search = Callable[..., tuple[object, object, list]]


def register(
    args: argparse.Namespace,
    run: tracking.Run,
    table: ImageTable,
    results: pd.DataFrame,
    compute: Compute,
    n_trials: int,
    search: Search,
) -> None:
    """Search on inner folds of all images, and make that model a version of the registered model ``--register`` names.

    Nested cross-validation has estimated what this procedure gives: its mean test scores go with the version.

    Parameters
    ----------
    results : DataFrame
        With the columns of ``results.csv``.
    search : callable
        Picklable; ``search(run, folds)`` returns a study, its best trial, and that trial's networks.

    Raises
    ------
    UserError
        When the registry cannot be used.
    """
    folds = folds_of_all(table, load_splits(table), args.inner_splits)
    fit = partial(_fit, table, run, search)
    (model,) = run_jobs(fit, [folds], compute, args.n_jobs, n_trials * len(folds))
    version = register_version(run, args.register, model, mean_scores(results), table)
    print(f"\nregistered: version {version} of {args.register}, {standing(args.register, version)}")


def _fit(table: ImageTable, run: tracking.Run, search: Search, folds: list[Fold]) -> Ensemble:
    with run.root_split(folds[0].root_split) as root_run:
        *_, networks = search(root_run, folds)
    thresholds = [
        youden_threshold(table.labels[fold.dev], test_model(network, table, fold.dev))
        for fold, network in zip(folds, networks, strict=True)
    ]
    return Ensemble(networks, thresholds, list(map(escaped, table.classes)), table.about)
