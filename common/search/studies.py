"""Optuna studies whose trial value is a mean score over folds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from common.cli import PROJECT, UserError
from common.seeds import Stream

optuna.logging.set_verbosity(optuna.logging.ERROR)


class FoldPruner(optuna.pruners.BasePruner):
    """Prunes a trial that cannot become the best any more, or that trails the best trial on the folds they share.

    A trial reports the score of each fold. After k of n folds it is pruned when either holds:

    - Its mean is at most (sum of the k scores + (n - k) * `best_score`) / n, and that is not above the best completed
      trial's value: it cannot win.
    - On these k folds its mean is more than `margin` below that of the best completed trial. Folds differ in
      difficulty, so the two are compared on the same ones. This may prune a trial that would have won on the others;
      ``python -m benchmarks --rows pruning`` measures how often, and what it saves.

    Parameters
    ----------
    n_folds : int
    margin : float
        In units of the score; infinite for the first rule alone.
    best_score : float
        Highest score there is; 1 for ROC AUC.
    """

    def __init__(self, n_folds: int, margin: float = 0.03, best_score: float = 1.0):
        self.n_folds = n_folds
        self.margin = margin
        self.best_score = best_score

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        scores = trial.intermediate_values
        if not complete or not scores or len(scores) >= self.n_folds:
            return False
        best = max(complete, key=lambda other: other.value)
        reachable = (sum(scores.values()) + (self.n_folds - len(scores)) * self.best_score) / self.n_folds
        behind = sum(best.intermediate_values[fold] - score for fold, score in scores.items()) / len(scores)
        return reachable <= best.value or behind > self.margin


def storage_url() -> str:
    """Address of the database of studies: ``OPTUNA_STORAGE``, or ``optuna.db`` in the project folder."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{PROJECT / 'optuna.db'}"


def create_study(name: str, n_folds: int) -> optuna.Study:
    """A new study that maximises the mean score over `n_folds` folds.

    Raises
    ------
    UserError
        When the database cannot be used.
    """
    url = storage_url()
    try:
        (PROJECT / "cache").mkdir(exist_ok=True)
        with FileLock(PROJECT / "cache" / "optuna.lock"):
            storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if "sqlite" in url else None)
            return optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=FoldPruner(n_folds),
            )
    except Exception as error:  # each database has errors of its own
        raise UserError(f"studies at {url} cannot be used: {str(error).splitlines()[0]}") from error


def optimize(
    study: optuna.Study,
    run_trial: Callable[[optuna.Trial], tuple[list, list[float]]],
    n_trials: int,
    stream: Stream,
    catch: type[Exception] | tuple[type[Exception], ...] = (),
) -> tuple[FrozenTrial, list]:
    """Run trials until the study has `n_trials`; returns the best trial and its networks.

    The sampler (TPE, Bergstra et al. 2011) is seeded anew before each trial from `stream` and the number of trials so
    far, so what a trial suggests depends on the finished trials alone. Of two trials with one value the first is best.

    Parameters
    ----------
    run_trial : callable
        Fits a network for each fold, and returns the networks and their scores. With fewer scores than folds the trial
        counts as pruned; else its value is their mean.
    catch : exception type, or tuple of them
        Errors that fail the trial, but not the study.

    Raises
    ------
    UserError
        When no trial completed.
    """
    best_value, best_networks, failure = -math.inf, [], None

    def objective(trial: optuna.Trial) -> float:
        nonlocal best_value, best_networks, failure
        try:
            networks, scores = run_trial(trial)
        except catch as error:
            failure = error
            print(f"trial {trial.number} failed: {error}")
            raise
        if len(scores) < study.pruner.n_folds:
            raise optuna.TrialPruned
        value = sum(scores) / len(scores)
        if value > best_value:
            best_value, best_networks = value, networks
        return value

    for number in range(n_trials):
        study.sampler = optuna.samplers.TPESampler(seed=stream.at(f"trial {number}").integer())
        study.optimize(objective, n_trials=1, catch=catch)
    if not best_networks:
        raise UserError(f"none of the {n_trials} trials of study {study.study_name} completed; the last: {failure}")
    return study.best_trial, best_networks


def count_fits(study: optuna.Study) -> int:
    """Networks that a study's trials fitted to the end."""
    return sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))
