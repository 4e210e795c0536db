"""Row sampler: random search, TPE after few and after many random trials, and a quasi-random sequence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler, TPESampler
from optuna.trial import TrialState
from sklearn.metrics import roc_auc_score

from benchmarks.figures import Figure
from benchmarks.machine import HERE
from benchmarks.null_run import NullRun
from common import data, progress, training
from common.cli import NonFiniteLossError
from common.data.folding import Fold
from common.seeds import Stream
from step_4 import train as step_4

N_FOLDS = 2
SMALL = {"warmup_epochs": 1, "epochs": 1}
SIZES = {
    "normal": (4, (5, 10), {"image_size": 48, **SMALL}),
    "full": (20, (5, 10, 20, 50), {"image_size": 48, **SMALL}),
    "fast": (2, (2, 4), {"image_size": 16, **SMALL}),
}
"""Seeds, numbers of trials after which the best one is looked at, and changes of step 4's settings."""
TPE = {"random": 10**6, "TPE after 10": 10, "TPE after 5": 5, "TPE after 3": 3}
"""Random trials before TPE begins."""
NAMES = (*TPE, "quasi-random")

Scores = tuple[float, float]
"""Means over the inner folds of the dev ROC AUC, and of the test ROC AUC."""


def measure(size_name: str, source: Path) -> list[Figure]:
    """The best trial's dev and test score by sampler and number of trials: each evaluation is a training."""
    n_seeds, counts, changes = SIZES[size_name]
    config = replace(step_4.CONFIG, **changes)
    compute = training.set_up(parallel_fits=n_seeds, config=config)
    table = data.load_images("drawn", config.image_size)
    run_seed = partial(_run_seed, table, config, compute, data.load_splits(table), max(counts))
    n_fits = n_seeds * len(NAMES) * max(counts) * N_FOLDS
    found = np.array(training.run_jobs(run_seed, range(n_seeds), compute, HERE, n_fits))
    best = {count: np.array([[_of_best(trials[:count]) for trials in seed] for seed in found]) for count in counts}
    return [_figure(i, count, best[count], found) for count in counts for i in range(len(NAMES))]


def _run_seed(table, config, compute, splits, n_trials: int, seed: int) -> list[list[Scores]]:
    """The scores of all trials, by sampler, on one outer fold; equal settings have equal scores."""
    root_split = seed % len(splits["root_splits"])
    folds = data.folds_of(splits, root_split, N_FOLDS)
    stream = Stream(seed).at(f"root {root_split}")

    known: dict[tuple, Scores] = {}

    def run_trial(trial: optuna.Trial) -> Scores:
        tried = step_4.suggest(config, trial)
        settings = tuple(trial.params.items())
        if settings in known:
            progress.advance(N_FOLDS)
            return known[settings]
        try:
            found = list(training.run_fits(partial(_score, table, tried, compute, stream), folds))
        except NonFiniteLossError:
            found = [(math.nan, math.nan)]
        known[settings] = tuple(np.mean(found, axis=0).tolist())
        return known[settings]

    return [_run_study(_samplers(name, stream.at("search")), run_trial, n_trials) for name in NAMES]


def _score(table, config, compute, stream: Stream, fold: Fold) -> Scores:
    network, dev = step_4.run_inner_split(table, config, compute, stream, NullRun(), fold)
    return dev, float(roc_auc_score(table.labels[fold.test], training.test_model(network, table, fold.test)))


def _samplers(name: str, stream: Stream) -> Callable[[int], BaseSampler]:
    """The sampler of each trial: seeded anew for it, as those of a search are, or one sequence."""
    if name in TPE:
        return lambda number: TPESampler(n_startup_trials=TPE[name], seed=stream.at(f"trial {number}").integer())
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        sobol = QMCSampler(scramble=True, seed=stream.integer())
    return lambda number: sobol


def _run_study(
    sampler_of: Callable[[int], BaseSampler], run_trial: Callable[[optuna.Trial], Scores], n_trials: int
) -> list[Scores]:
    study, found = optuna.create_study(direction="maximize"), []
    for number in range(n_trials):
        study.sampler = sampler_of(number)
        trial = study.ask()
        dev, test = run_trial(trial)
        found.append((dev, test))
        if math.isnan(dev):
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, dev)
    return found


def _of_best(trials: np.ndarray) -> np.ndarray:
    """The scores of the first trial with the best dev score; NaN where all failed."""
    return trials[np.argmax(np.nan_to_num(trials[:, 0], nan=-1))]


def _figure(sampler: int, count: int, best: np.ndarray, scores: np.ndarray) -> Figure:
    """Of `best`, (seeds, samplers, 2): the best trials' scores."""
    means = np.nanmean(best[:, sampler], axis=0)
    gains = best[:, sampler] - best[:, NAMES.index("random")]
    errors = np.nanstd(gains, axis=0, ddof=1) / math.sqrt(len(gains))
    values = {"best dev": means[0], "its test": means[1]}
    for of, gain, error in zip(("dev", "test"), np.nanmean(gains, axis=0), errors, strict=True):
        values |= {f"{of} over random": gain, f"+- ({of})": error}
    return Figure(
        "sampler",
        f"1 - best dev ROC AUC, over random search's: {NAMES[sampler]}, {count} trials",
        {name: float(value) for name, value in values.items()},
        "",
        float(np.nanmean(1 - best[:, sampler, 0]) / np.nanmean(1 - best[:, NAMES.index("random"), 0])),
        taken=f"means of {len(best)}",
        note=f"{len(best)} seeds, each with an outer fold of the drawn pets and {N_FOLDS} inner ones; every trial is a "
        "training of step 4's network on each inner fold, one epoch of warm-up and one of fine-tuning, in step 4's "
        "search space, without pruning. Test: mean of the best trial's networks. +-: standard error over the seeds of "
        "the difference to random search on the same fold. Random search and TPE share their first trials; the first "
        "quasi-random one (Sobol, scrambled) is random, too",
        details={"scores": scores.tolist()} if sampler == 0 and count == scores.shape[2] else None,
    )
