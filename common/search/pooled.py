"""The finished trials of several studies in one table, with what was searched and what mattered most."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from common.search.finished import importance

STATES = ("complete", "pruned", "not finite", "failed")
FEW = 10
"""A parameter with at most so many possible numbers is discrete."""
MANY = 50
"""Of more possible values only those that were tried are named, and drawn."""
ENOUGH = 10
"""From fewer trials with a score than these, no importance is estimated."""


@dataclass(frozen=True)
class Searched:
    """What was searched for one parameter, over all trials: an interval, or one of several values.

    Attributes
    ----------
    low, high : float
        NaN for categories.
    log, whole : bool
        Whether it was sampled on a logarithmic scale, and whether it is a whole number.
    values : tuple of str
        Names of all possible values in their order, or of those tried if there are more than :data:`MANY`; empty for an
        interval.
    """

    low: float
    high: float
    log: bool
    whole: bool
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """Finished trials; those that still run or wait are left out.

    Attributes
    ----------
    trials : DataFrame
        A row per trial with columns ``study`` (such as "root 0"), ``trial`` (its number there), ``state`` (one of
        :data:`STATES`), ``score`` (of a pruned trial the mean of its folds so far; NaN if there is none or it is not
        finite) and ``seconds`` (NaN if unknown).
    values : DataFrame
        The same rows with a column per parameter: numbers, or for discrete parameters categories of names. NaN where a
        trial has no such parameter.
    searched : dict of str to Searched
        By parameter, in the order of the columns of `values`.
    maximize : bool
    """

    trials: pd.DataFrame
    values: pd.DataFrame
    searched: dict[str, Searched]
    maximize: bool
    _finished: list[FrozenTrial]

    @classmethod
    def of(cls, studies: Studies) -> Pool:
        """Pool one study or several; a pool stays as it is.

        Raises
        ------
        ValueError
            When the studies do not all maximize one score, or all minimize one.
        """
        if isinstance(studies, Pool):
            return studies
        studies = [studies] if isinstance(studies, optuna.Study) else list(studies)
        directions = {direction for study in studies for direction in study.directions}
        if len(directions) > 1 or any(len(study.directions) > 1 for study in studies):
            raise ValueError("studies must have one score and one direction, found several")
        names = _short([study.study_name for study in studies])
        found = [
            (name, trial)
            for name, study in zip(names, studies, strict=True)
            for trial in study.get_trials(deepcopy=False)
            if trial.state.is_finished()
        ]
        rows = [(name, trial.number, *_state_and_score(trial), _seconds(trial)) for name, trial in found]
        trials = pd.DataFrame(rows, columns=["study", "trial", "state", "score", "seconds"])
        trials = trials.astype({"score": float, "seconds": float})
        finished = [trial for _, trial in found]
        columns = {name: _column(name, finished) for name in dict.fromkeys(n for t in finished for n in t.params)}
        values = pd.DataFrame({name: column for name, (_, column) in columns.items()}, index=trials.index)
        searched = {name: what for name, (what, _) in columns.items()}
        return cls(trials, values, searched, optuna.study.StudyDirection.MINIMIZE not in directions, finished)

    @property
    def complete(self) -> pd.Series:
        """Which trials completed with a finite score."""
        return self.trials["state"] == "complete"

    def best(self) -> pd.DataFrame:
        """The rows of `trials` with the best trial of each study, the first of equals; none where none completed."""
        complete = self.trials[self.complete].sort_values("score", ascending=not self.maximize, kind="stable")
        return complete.drop_duplicates("study").sort_index()

    def by_importance(self) -> list[str]:
        """Parameters, the most important first; from few trials, or where nothing can be told, in their own order.

        The importance is estimated over all trials with a score, pruned ones too, by their rank within their study:
        studies differ in how high their scores are.
        """
        scores = self.trials.dropna(subset="score").groupby("study")["score"]
        ranks = scores.rank(pct=True, ascending=self.maximize)
        if ranks.nunique() < 2 or len(ranks) < ENOUGH:
            return list(self.searched)
        pooled = optuna.create_study(direction="maximize")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for row, rank in ranks.items():
                    trial = self._finished[row]
                    pooled.add_trial(
                        optuna.create_trial(params=trial.params, distributions=trial.distributions, value=rank)
                    )
                shares = importance(pooled)
            except ValueError:  # one name for different choices in different studies
                return list(self.searched)
        return sorted(self.searched, key=lambda name: -shares.get(name, 0.0))

    def telling(self, most: int) -> tuple[list[tuple[str, ...]], list[str]]:
        """What to draw, the most important first: pairs of continuous parameters, and discrete parameters.

        At most `most` of each. At least a quarter of the trials have both parts of a pair, and each varies among them;
        a parameter that is in no such pair stands alone. Discrete ones vary among trials with a score.
        """
        names = self.by_importance()
        scored = self.values[self.trials["score"].notna()]
        numbers = [name for name in names if not self.searched[name].values]
        pairs = [pair for pair in itertools.combinations(numbers, 2) if self._varies(self.values, *pair, share=0.25)]
        pairs.sort(key=lambda pair: sum(map(numbers.index, pair)))
        alone = [(name,) for name in numbers if not any(name in pair for pair in pairs) and self._varies(scored, name)]
        discrete = [name for name in names if self.searched[name].values and self._varies(scored, name)]
        return [*pairs, *alone][:most], discrete[:most]

    @staticmethod
    def _varies(values: pd.DataFrame, *names: str, share: float = 0) -> bool:
        having = values[list(names)].dropna()
        return bool((having.nunique() > 1).all()) and len(having) >= share * len(values)


Studies = optuna.Study | Sequence[optuna.Study] | Pool


def _short(names: Sequence[str]) -> list[str]:
    """ "root 0" for a study of that outer fold, if that tells the studies apart."""
    short = [match[0] if (match := re.search(r"root \d+$", name)) else name for name in names]
    return next(
        (each for each in (short, list(names)) if len(set(each)) == len(each)),
        [f"{name} ({i})" for i, name in enumerate(names)],
    )


def _state_and_score(trial: FrozenTrial) -> tuple[str, float]:
    if trial.state == TrialState.COMPLETE:
        return ("complete", trial.value) if math.isfinite(trial.value) else ("not finite", math.nan)
    if trial.state == TrialState.PRUNED:
        folds = [score for score in trial.intermediate_values.values() if math.isfinite(score)]
        return "pruned", sum(folds) / len(folds) if folds else math.nan
    return "failed", math.nan


def _seconds(trial: FrozenTrial) -> float:
    if trial.datetime_start is None or trial.datetime_complete is None:
        return math.nan
    return max(0.0, (trial.datetime_complete - trial.datetime_start).total_seconds())


def _column(name: str, trials: Sequence[FrozenTrial]) -> tuple[Searched, object]:
    """What was searched for a parameter, and each trial's value of it."""
    kinds = [trial.distributions[name] for trial in trials if name in trial.params]
    intervals = [kind for kind in kinds if not isinstance(kind, CategoricalDistribution)]
    what = Searched(
        low=min((kind.low for kind in intervals), default=math.nan),
        high=max((kind.high for kind in intervals), default=math.nan),
        log=any(kind.log for kind in intervals),
        whole=all(isinstance(kind, IntDistribution) for kind in kinds),
    )
    if len(intervals) == len(kinds) and not all(map(_possible, kinds)):
        return what, np.array([trial.params.get(name, math.nan) for trial in trials], dtype=float)
    choices = [choice for kind in kinds for choice in _possible(kind)]
    choices = choices if len(intervals) < len(kinds) else sorted(choices)
    if len(set(map(repr, choices))) > MANY:
        tried = {repr(trial.params[name]) for trial in trials if name in trial.params}
        choices = [choice for choice in choices if repr(choice) in tried]
    text = _text if len({_text(choice) for choice in choices}) == len({repr(choice) for choice in choices}) else repr
    labels = [text(trial.params[name]) if name in trial.params else None for trial in trials]
    names = dict.fromkeys([*map(text, choices), *(label for label in labels if label is not None)])
    return replace(what, values=tuple(names)), pd.Categorical(labels, categories=list(names))


def _possible(kind: BaseDistribution) -> list:
    """All values that a distribution may give, where they are categories or few numbers; else none."""
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    steps = None if kind.step is None else round((kind.high - kind.low) / kind.step)
    return [kind.low + kind.step * i for i in range(steps + 1)] if steps is not None and steps < FEW else []


def _text(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if text.strip() else repr(value)
