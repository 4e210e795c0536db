"""Optuna studies whose trial value is a mean score over folds."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from statistics import fmean, variance
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from common import progress
from common.cli import NonFiniteLossError, UserError
from common.locks import locked
from common.seeds import Stream
from common.state import state_folder, whole, work_folder
from common.training.jobs import beside
from common.training.outer_folds import KINDS, Kind

Settings = TypeVar("Settings")

optuna.logging.set_verbosity(optuna.logging.CRITICAL)


class FoldPruner(optuna.pruners.BasePruner):
    """Prunes a trial that cannot become the best any more, or that trails the best trial on the folds they share.

    A trial reports the score of each fold. After k of n folds it is pruned when either holds:

    - Its mean is at most (sum of the k scores + (n - k) * `best_score`) / n, and that is not above the best completed
      trial's value: it cannot win.
    - On these k folds its mean is below that of the best completed trial by more than `margin` standard errors,
      s * sqrt(1 / k - 1 / n). Folds differ in difficulty, so the two are compared on the same ones. This may prune a
      trial that would have won on the others; ``python -m benchmarks --rows pruning`` measures how often, and what it
      saves.

    s is the standard deviation over folds of the difference between a trial and the best one, pooled over the other
    completed trials, so the margin means the same for ROC AUC and MCC. The standard error is that of a mean over n
    folds of which k are known, so the margin has about the same risk at each k and n: s / sqrt(k), or s at each k,
    would be too careful where few folds are left, and save less for as many winners changed.

    Where no other trial has completed, or s is 0, the second rule does not prune. Pruned trials do not count for s:
    their few folds are those on which they were worst.

    Parameters
    ----------
    n_folds : int
    margin : float
        In standard errors; infinite for the first rule alone.
    best_score : float
        Highest score there is; 1 for ROC AUC and MCC.
    lag : int
        A trial is compared with those that were told before it was asked for, see :func:`optimize`: then it does not
        matter which of the others is quicker.
    """

    def __init__(self, n_folds: int, margin: float = 2.0, best_score: float = 1.0, lag: int = 1):
        self.n_folds = n_folds
        self.margin = margin
        self.best_score = best_score
        self.lag = lag

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        complete = [
            other
            for other in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if other.number <= trial.number - self.lag
        ]
        scores = trial.intermediate_values
        if not complete or not scores or len(scores) >= self.n_folds:
            return False
        best = max(complete, key=lambda other: other.value)
        reachable = (sum(scores.values()) + (self.n_folds - len(scores)) * self.best_score) / self.n_folds
        behind = fmean(_differences(best, trial))
        spreads = [variance(_differences(best, other)) for other in complete if other.number != best.number]
        error = math.sqrt(fmean(spreads or [0]) * (1 / len(scores) - 1 / self.n_folds))
        return reachable <= best.value or (error > 0 and behind > self.margin * error)


def _differences(best: FrozenTrial, trial: FrozenTrial) -> list[float]:
    """How far a trial is behind the best one on each fold that it has."""
    return [best.intermediate_values[fold] - score for fold, score in trial.intermediate_values.items()]


def storage_url() -> str:
    """Address of the database of studies: ``OPTUNA_STORAGE``, or ``optuna.db`` in the project folder."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{state_folder() / 'optuna.db'}"


def connect() -> RDBStorage:
    """The database of studies; the project's own is made if there is none. Whoever makes it holds its lock."""
    url, own = storage_url(), state_folder() / "optuna.db"
    if url == f"sqlite:///{own}" and not own.exists():
        _make_database(own)
    # A database server may have been started again between two trials: its connections are tried before use.
    options = {"connect_args": {"timeout": 60}} if "sqlite" in url else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=options)


def _open(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=connect())


KINDS[__name__] = Kind(optuna.Study, lambda study: study.study_name, _open)


def create_study(name: str, n_folds: int, n_startup_trials: int = 10, lag: int = 1) -> optuna.Study:
    """The study of that name, new or as it was left, that maximises the mean score over `n_folds` folds.

    Parameters
    ----------
    n_startup_trials : int
        Trials that are drawn at random before TPE begins; those that fail do not count.
    lag : int
        How many trials run side by side, see :func:`optimize`.

    Raises
    ------
    UserError
        When the database cannot be used.
    """
    try:
        with locked(work_folder("optuna")):
            storage = connect()
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=FoldPruner(n_folds, lag=lag),
                load_if_exists=True,
            )
            study.set_user_attr("n_startup_trials", n_startup_trials)
            study.set_user_attr("lag", lag)
            return study
    except Exception as error:  # each database has errors of its own
        raise UserError(f"studies at {storage_url()} cannot be used: {str(error).splitlines()[0]}") from None


def _make_database(path: Path) -> None:
    """Under another name first: a process that is killed on the way leaves no half-made tables."""
    with whole(path) as part:
        RDBStorage(f"sqlite:///{part}").remove_session()


def optimize(
    study: optuna.Study,
    suggest: Callable[[optuna.Trial], Settings],
    run_trial: Callable[[optuna.Trial, Settings], tuple[list, list[float]]],
    n_trials: int,
    stream: Stream,
    kept: Path | None = None,
    catch: type[Exception] | tuple[type[Exception], ...] = NonFiniteLossError,
) -> tuple[FrozenTrial, list]:
    """Run trials until the study has `n_trials`; returns the best trial and its networks.

    The sampler (random, then TPE, Bergstra et al. 2011) is seeded anew before each trial from `stream` and the trial's
    number, so what a trial suggests depends on the trials before it alone. Of two trials with one value the first is
    best.

    As many trials as the study's lag run side by side: before trial i is asked for, exactly those up to i - lag have
    been told, in their order, however many of the others have ended. So nothing depends on which trial is quicker.

    A study that was interrupted goes on: a trial that was running is taken up where it stood, with the parameters that
    it had and those that it would have had, so that the study becomes the one that it would have been.

    Parameters
    ----------
    suggest : callable
        Draws all parameters of a trial; returns its settings.
    run_trial : callable
        Gets a trial and its settings, fits a network for each fold, and returns the networks and their scores. With
        fewer scores than folds the trial counts as pruned; else its value is their mean.
    kept : Path, optional
        What the checkpoints of a trial's fits begin with. They are removed when the trial is told, but for those of the
        best so far: from them `run_trial` gives its networks again in a study that goes on.
    catch : exception type, or tuple of them
        Errors that fail the trial, but not the study.

    Raises
    ------
    UserError
        When no trial completed, or the database is lost.
    """
    told = _Told(study, catch, kept)
    running: deque[tuple[optuna.Trial, Future]] = deque()
    try:
        for number in range(n_trials):
            trials = study.get_trials(deepcopy=False)
            if number < len(trials) and trials[number].state.is_finished():
                progress.advance(study.pruner.n_folds)
                continue
            if len(running) == study.pruner.lag:
                told.tell(*running.popleft())
            n_startup_trials = study.user_attrs.get("n_startup_trials", 10)
            seed = stream.at("search", f"trial {number}").integer()
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=n_startup_trials, seed=seed)
            trial = _taken_up(study, trials[number]) if number < len(trials) else study.ask()
            running.append((trial, beside(run_trial, trial, suggest(trial))))
        while running:
            told.tell(*running.popleft())
        if _best(study) is None:
            last = f"none of the {n_trials} trials of study {study.study_name} completed; the last: {told.failure}"
            raise UserError(last)
        winner = study.get_trials(deepcopy=False)[_best(study)]
        if told.networks_of_best is None:
            progress.advance(-study.pruner.n_folds)  # they count already
            told.networks_of_best, _ = run_trial(winner, suggest(winner))
        return winner, told.networks_of_best
    except (StorageInternalError, SQLAlchemyError) as error:
        raise UserError(f"studies at {storage_url()}: {str(error).splitlines()[0]}") from None


class _Told:
    """Tells a study how its trials ended, and keeps the networks of the best."""

    def __init__(self, study: optuna.Study, catch: type[Exception] | tuple[type[Exception], ...], kept: Path | None):
        self.study, self.catch, self.kept = study, catch, kept
        self.networks_of_best: list | None = None
        self.failure: Exception | None = None

    def tell(self, trial: optuna.Trial, outcome: Future) -> None:
        best_before = _best(self.study)
        try:
            networks, scores = outcome.result()
        except self.catch as error:
            self.failure = error
            print(f"trial {trial.number} failed: {error}")
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            if len(scores) < self.study.pruner.n_folds:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, sum(scores) / len(scores))
            if _best(self.study) == trial.number:
                self.networks_of_best = networks
        _remove_checkpoints(self.kept, {best_before, trial.number} - {_best(self.study)})


def _taken_up(study: optuna.Study, interrupted: FrozenTrial) -> optuna.Trial:
    """A trial that goes on; its sampler is brought to where it stood by drawing what the trial has again.

    It reports its scores again from the first fold on, and the pruner sees no more of them than it did then.
    """
    trial = optuna.Trial(study, interrupted._trial_id)
    trial._cached_frozen_trial.intermediate_values = {}
    for name, distribution in interrupted.distributions.items():
        if not distribution.single() and name not in trial.relative_params:
            study.sampler.sample_independent(study, interrupted, name, distribution)
    return trial


def _best(study: optuna.Study) -> int | None:
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return max(complete, key=lambda trial: trial.value).number if complete else None


def _remove_checkpoints(kept: Path | None, numbers: set[int | None]) -> None:
    for number in numbers if kept else ():
        for file in kept.parent.glob(f"{kept.name} trial {number} *"):
            file.unlink(missing_ok=True)


def count_fits(study: optuna.Study) -> int:
    """Networks that a study's trials fitted to the end."""
    return sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))


def how_drawn(study: optuna.Study) -> str | None:
    """How a study's trials were drawn, such as ``20 trials: 10 random, then 10 by TPE``; None for one trial.

    Each trial that fails before TPE begins puts that off by one; so does each that runs beside another.
    """
    trials = study.get_trials(deepcopy=False)
    lag = study.user_attrs.get("lag", 1)
    first = study.user_attrs.get("n_startup_trials", 10) + lag - 1
    for trial in trials:
        first += trial.state == TrialState.FAIL and trial.number <= first - lag
    if len(trials) < 2:
        return None
    if len(trials) <= first:
        return f"{len(trials)} trials: random search (TPE begins with trial {first + 1}, counted from 1)"
    return f"{len(trials)} trials: {first} random, then {len(trials) - first} by TPE"
