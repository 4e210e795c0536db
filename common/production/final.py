"""The model that is used in the end: what the whole procedure gives on all data, registered with the nested scores."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import pandas as pd

from common import tracking
from common.cli import escaped
from common.data.folding import Fold, folds_of_all
from common.data.images import ImageTable, decode
from common.data.splits import load_splits
from common.evaluation.metrics import youden_threshold
from common.model import Classifier
from common.production.ensemble import Ensemble
from common.production.estimate import estimate_of
from common.production.promotion import standing
from common.production.registry import register_version
from common.training import Compute, run_jobs, run_tests, test_model

Search = Callable[..., tuple[object, object, list]]


def register(
    args: argparse.Namespace,
    run: tracking.Run,
    table: ImageTable,
    predictions: pd.DataFrame,
    compute: Compute,
    n_trials: int,
    search: Search,
) -> None:
    """Search on inner folds of all images, and make that model a version of the registered model ``--register`` names.

    Nested cross-validation has estimated what this procedure gives: that estimate goes with the version.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it, of the nested cross-validation.
    search : callable
        ``search(run, folds)`` returns a study, its best trial, and that trial's networks.

    Raises
    ------
    UserError
        When the registry cannot be used.
    """
    folds = folds_of_all(table, load_splits(table), args.inner_splits)
    fit = partial(_fit, table, compute, run, search)
    (model,) = run_jobs(fit, [folds], compute, args, n_trials * len(folds))
    estimate = estimate_of(predictions)
    version = register_version(run, args.register, model, estimate, table, args.promotion, args.promote)
    tested = f"{estimate['test_images']} images in {estimate['outer_folds']} outer folds"
    print(f"\nregistered: version {version} of {args.register}, {standing(args.register, version)}")
    print(f"            the procedure's test MCC, mean prediction: {estimate['test_mcc']:.3f} on {tested};")
    print("            this model learned from all images, so it was tested on none")


def _fit(table: ImageTable, compute: Compute, run: tracking.Run, search: Search, folds: list[Fold]) -> Ensemble:
    with run.root_split(folds[0].root_split) as root_run:
        *_, networks = search(root_run, folds)
    thresholds = list(run_tests(partial(_threshold, table, compute), folds, networks))
    return Ensemble(networks, thresholds, list(map(escaped, table.classes)), table.about)


def _threshold(table: ImageTable, compute: Compute, fold: Fold, network: Classifier) -> float:
    table = decode(table, network.image_size)
    return youden_threshold(table.labels[fold.dev], test_model(network.to(compute.device), table, fold.dev))
