"""A unit of the study: one method on the inner folds of one outer fold, or one training on one random split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import sklearn

from common import data, evaluation, search
from common.cli import NonFiniteLossError
from common.data import Fold, ImageTable
from common.evaluation.delong import auc_covariance, auc_influence, auc_interval
from common.evaluation.predictions import RESULT_COLUMNS
from common.evaluation.tested import OuterFold, tested_folds
from common.evidence.optimism import expected_optimism
from common.seeds import Stream
from common.training import Compute
from study.methods import METHODS, Predict, config_of, fit_network

COUNTS = (2, 5, 10, 20, 50)
"""Numbers of trials whose best one is looked at."""
SEARCHES = ("tpe", "random")
"""Methods all of whose trials are kept."""
SHORT = list(RESULT_COLUMNS)[: list(RESULT_COLUMNS).index("test_brier") + 1]


@dataclass(frozen=True, order=True)
class Unit:
    """What is computed in one go.

    Attributes
    ----------
    data, method : str
    seed : int
        Root seed of training and search; the splits do not depend on it.
    root_split : int
        The outer fold; for the method ``single`` the number of the random split.
    n_trials : int
        At most.
    """

    data: str
    method: str
    seed: int
    root_split: int
    n_trials: int

    @property
    def key(self) -> dict[str, Any]:
        """What its rows begin with."""
        return {name: getattr(self, name) for name in ("data", "method", "seed", "root_split")}

    @property
    def name(self) -> str:
        """Of its file."""
        return "-".join(map(str, (*self.key.values(), self.n_trials)))

    @property
    def n_fits(self) -> int:
        """What it counts as in the bar: its trainings of networks, about."""
        return 3 * self.n_trials if self.method in SEARCHES else 3 if self.method == "fixed" else 1


class Source(NamedTuple):
    """What the frozen backbone makes of the images of one data set.

    Attributes
    ----------
    table : ImageTable
    splits : dict
    new, elsewhere : ImageTable
        Images that no fold has: made as the others are, and as another camera or scanner would show them.
    """

    table: ImageTable
    splits: dict
    new: ImageTable
    elsewhere: ImageTable


def seen_elsewhere(table: ImageTable) -> ImageTable:
    """The images as another camera or scanner would show them: brighter and with less contrast."""
    pixels = (np.array(table.pixels) * 0.6 + 60).astype(np.uint8)
    return replace(table, pixels=pixels, cached=False)  # what is cached goes by the files


def run_unit(sources: dict[str, Source], compute: Compute, inner_splits: int, unit: Unit) -> dict[str, Any]:
    """The rows of a unit by table, and how long it took (`seconds`, on the clock and of the processor)."""
    began, started = time.time(), time.process_time()
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)  # a fit takes a tenth of a second
    source = sources[unit.data]
    if unit.method == "single":
        rows = _single(source.table, compute, unit)
    else:
        folds = data.folds_of(source.splits, unit.root_split, inner_splits)
        rows = _searched(source, compute, folds, unit)
    return {**rows, "seconds": [{"began": began, "wall": time.time() - began, "cpu": time.process_time() - started}]}


def _single(table: ImageTable, compute: Compute, unit: Unit) -> dict[str, list[dict]]:
    """What steps 1 and 2 do: one random split, one training, one test."""
    fold = data.random_fold(table, Stream(unit.root_split).at("split"))
    predictions = _tested(fit_network(table, fold, compute, Stream(unit.seed), config_of()), table, fold)
    dev = predictions[predictions["part"] == "dev"]
    tested = auc_interval(tested_folds(predictions))
    scores = {"dev_roc_auc": _auc(dev), "test_roc_auc": tested.value}
    key = {"data": unit.data, "seed": unit.seed, "split": unit.root_split}
    return {"single": [{**key, **scores, "test_low": tested.low, "test_high": tested.high}]}


def _searched(source: Source, compute: Compute, folds: Sequence[Fold], unit: Unit) -> dict[str, list[dict]]:
    """A search on inner folds, whose best trial's models are tested; the tests of the other trials are kept aside."""
    method, table, stream = METHODS[unit.method], source.table, Stream(unit.seed).at(f"root {unit.root_split}")
    study = optuna.create_study(direction="maximize", pruner=search.FoldPruner(len(folds)))
    study.set_user_attr("n_startup_trials", method.n_startup)
    tested: dict[int, pd.DataFrame] = {}

    def run_trial(trial: optuna.Trial, settings: object) -> tuple[list[Predict], list[float]]:
        at = [stream.at(f"inner {fold.inner_split}") for fold in folds]
        models = [method.fit(table, fold, compute, here, settings) for fold, here in zip(folds, at, strict=True)]
        tables = [_tested(model, table, fold) for model, fold in zip(models, folds, strict=True)]
        tested[trial.number] = evaluation.join(tables)
        return models, [_auc(rows) for _, rows in _part(tested[trial.number], "dev")]

    best, models = search.optimize(study, method.suggest, run_trial, unit.n_trials, stream, catch=NonFiniteLossError)
    results = evaluation.results_of(tested[best.number], folds)[SHORT].to_dict("records")
    rows = {"folds": [{**unit.key, **row, "best_trial": best.number} for row in results]}
    rows["external"] = [{**unit.key, **_elsewhere(models, source)}]
    if unit.method in SEARCHES:
        rows["trials"] = [{**unit.key, **_of_trial(trial, tested)} for trial in study.get_trials(deepcopy=False)]
        rows["shared"] = [{**unit.key, **row} for row in _expected(list(tested.values()))]
    if unit.seed == 0:
        rows["predictions"] = [{**unit.key, **row} for row in _by_image(tested[best.number], table)]
    return rows


def _tested(predict: Predict, table: ImageTable, fold: Fold) -> pd.DataFrame:
    dev, test = predict(table, fold.dev), predict(table, fold.test)
    threshold = evaluation.youden_threshold(table.labels[fold.dev], dev)
    return evaluation.predictions_table(table, fold, dev, test, threshold)


def _elsewhere(models: Sequence[Predict], source: Source) -> dict[str, float]:
    """ROC AUC of some models on images that no fold has, with the interval for these models."""
    found = {}  # type: dict[str, float]
    for name, table in (("new", source.new), ("elsewhere", source.elsewhere)):
        probabilities = np.stack([predict(table, np.arange(len(table))) for predict in models])
        units = pd.factorize(table.groups)[0]
        interval = auc_interval([OuterFold(table.labels, probabilities, units, np.full(len(models), np.nan))])
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _of_trial(trial: optuna.trial.FrozenTrial, tested: dict[int, pd.DataFrame]) -> dict[str, Any]:
    """A trial's settings, its dev and test scores, and the standard error of its mean dev score."""
    row = {"trial": trial.number, **trial.params}
    if trial.number not in tested:
        return row
    dev, test = ([_auc(one) for _, one in _part(tested[trial.number], part)] for part in ("dev", "test"))
    _, covariance = auc_covariance([tested_folds(_dev_as_tested(tested[trial.number]))])
    scores = {**{f"dev_{i}": score for i, score in enumerate(dev)}, "dev": np.mean(dev), "test": np.mean(test)}
    return row | scores | {"dev_se": float(np.sqrt(covariance[0, 0]))}


def _part(predictions: pd.DataFrame, part: str):
    return predictions[predictions["part"] == part].groupby("inner_split")


def _auc(rows: pd.DataFrame) -> float:
    return auc_influence(rows["label"].to_numpy(), rows["probability"].to_numpy())[0]


def _dev_as_tested(predictions: pd.DataFrame) -> pd.DataFrame:
    """The dev rows as a test of one model in each of as many outer folds as there are inner ones."""
    dev = predictions[predictions["part"] == "dev"]
    return dev.assign(part="test", root_split=dev["inner_split"], inner_split=0)


def _expected(tested: list[pd.DataFrame]) -> list[dict[str, Any]]:
    """How much too good the best of the first n trials looks if all are alike and share their dev images."""
    dev = [_dev_as_tested(table) for table in tested]
    return [{"n": n, "expected": expected_optimism(dev[:n])[0]} for n in COUNTS if n <= len(dev)]


def _by_image(predictions: pd.DataFrame, table: ImageTable) -> list[dict[str, Any]]:
    """What the models of each inner fold predict for each test image, which goes by its row in the table."""
    test = predictions[predictions["part"] == "test"]
    row_of = {file: row for row, file in enumerate(table.files)}
    wide = test.pivot(index="file", columns="inner_split", values="probability").add_prefix("inner_")
    return [{"image": row_of[file], **row} for file, row in sorted(wide.to_dict("index").items())]
