"""Row pruning: whole studies, and what would have become of them had trials been ended early by one rule or another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sklearn.metrics import roc_auc_score

from benchmarks.figures import Figure
from benchmarks.machine import HERE
from benchmarks.null_run import NullRun
from common import data, search, training
from common.seeds import Stream
from step_4 import train as step_4

N_FOLDS = 4
MARGINS = (3.0, 2.0, 1.5, 1.0)
DATA = ("drawn", "phantoms")
EPOCHS = 4
"""Of the fine-tuning, after one of warm-up."""
RUNGS = (1, 2)
"""Epochs after which successive halving goes on with half of the trials."""
NORMAL = (2, 10, {})
"""Studies, trials of each (random ones, as TPE begins after 10), and changes of step 4's settings."""
SIZES = {"normal": NORMAL, "full": (20, 10, {}), "fast": (2, 3, {"image_size": 16})}


@dataclass(frozen=True)
class Fit:
    """Its dev score, the best until each epoch of the fine-tuning, and its test ROC AUC."""

    dev: float
    by_epoch: list[float]
    test: float


Study = list[list[Fit] | None]
"""The fits of each trial, by fold; None for a trial that failed."""
Rule = Callable[[Study], tuple[int, int]]
"""Number of the winner, and of the epochs that were trained, had the trials of a study been ended early."""


class Recorder(NullRun):
    """Keeps the dev scores of the fine-tuning."""

    def __init__(self, score: str):
        self.name, self.by_epoch, self._phase = f"dev_{score}", [], ""

    @contextmanager
    def phase(self, name: str) -> Iterator[Recorder]:
        self._phase = name
        yield self

    def log(self, metrics: dict[str, float], step: int) -> None:
        if self._phase == "fine-tuning" and step > 0 and self.name in metrics:
            self.by_epoch.append(max([metrics[self.name], *self.by_epoch[-1:]]))


class Forgiving(optuna.pruners.BasePruner):
    """Ends a trial whose mean so far is below the worst fold of the best trial (Bergman et al., 2024)."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        best = max(complete, key=lambda other: other.value, default=None)
        scores = trial.intermediate_values.values()
        return best is not None and fmean(scores) < min(best.intermediate_values.values())


def measure(size_name: str, source: Path) -> list[Figure]:
    """Epochs saved, winners changed and what these lose, by each rule on the same recorded fits, for each data set."""
    n_studies, n_trials, changes = SIZES[size_name]
    figures = []
    for name in DATA:
        config = replace(step_4.CONFIG, warmup_epochs=1, epochs=EPOCHS, **changes)
        compute = training.set_up(parallel_fits=4, config=config)
        table = data.load_images(name, config.image_size)
        run_study = partial(_run_study, table, config, compute, data.load_splits(table), n_trials)
        studies = training.run_jobs(run_study, range(n_studies), compute, HERE, n_studies * n_trials * N_FOLDS)
        default = search.FoldPruner(N_FOLDS).margin
        rules: dict[str, Rule] = {"cannot win": partial(replay, search.FoldPruner(N_FOLDS, math.inf))}
        for margin in dict.fromkeys((*MARGINS, default)):
            of_step = " (step 4)" if margin == default else ""
            rules[f"margin {margin:g}{of_step}"] = partial(replay, search.FoldPruner(N_FOLDS, margin))
        rules |= {"forgiving": partial(replay, Forgiving()), "successive halving": halve}
        figures += [_figure(f"{name}, {what}", rule, studies) for what, rule in rules.items()]
    return figures


def _run_study(table, config, compute, splits, n_trials: int, seed: int) -> Study:
    """A study without pruning."""
    root_split = seed % len(splits["root_splits"])
    folds = data.folds_of(splits, root_split, N_FOLDS)
    stream = Stream(seed).at(f"root {root_split}")
    found: Study = [None] * n_trials

    def run_trial(trial: optuna.Trial, tried) -> tuple[list, list[float]]:
        fits = list(training.run_fits(partial(_fit, table, tried, compute, stream), folds))
        found[trial.number] = fits
        return [None] * N_FOLDS, [fit.dev for fit in fits]

    study = search.create_study(f"{table.name} {config.score} seed {seed}", N_FOLDS)
    search.optimize(study, partial(step_4.suggest, config), run_trial, n_trials, stream)
    return found


def _fit(table, config, compute, stream: Stream, fold) -> Fit:
    run = Recorder(config.score)
    network, score = step_4.run_inner_split(table, config, compute, stream, run, fold)
    test = roc_auc_score(table.labels[fold.test], training.test_model(network, table, fold.test))
    return Fit(score, run.by_epoch, float(test))


def replay(pruner: optuna.pruners.BasePruner, fits: Study) -> tuple[int, int]:
    """A :data:`Rule` that ends trials between their folds."""
    study, n_epochs = optuna.create_study(direction="maximize", pruner=pruner), 0
    for of_trial in fits:
        trial = study.ask()
        if of_trial is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        for fold, fit in enumerate(of_trial):
            trial.report(fit.dev, fold)
            n_epochs += len(fit.by_epoch)
            if fold + 1 < len(of_trial) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, fmean(fit.dev for fit in of_trial))
    return study.best_trial.number, n_epochs


def halve(fits: Study) -> tuple[int, int]:
    """Synchronous successive halving (Jamieson & Talwalkar, 2016): all trials side by side, the better half goes on."""
    alive, n_epochs = [number for number, of_trial in enumerate(fits) if of_trial is not None], 0
    ends = {number: max(len(fit.by_epoch) for fit in fits[number]) for number in alive}
    for rung in RUNGS:
        reached = {n: fmean(fit.by_epoch[:rung][-1] for fit in fits[n]) for n in alive}
        kept = sorted(alive, key=lambda number: -reached[number])[: math.ceil(len(alive) / 2)]
        for number in set(alive) - set(kept):
            ends[number] = rung
        alive = kept
    for number, end in ends.items():
        n_epochs += sum(min(end, len(fit.by_epoch)) for fit in fits[number])
    return max(alive, key=lambda number: fmean(fit.dev for fit in fits[number])), n_epochs


def _figure(what: str, rule: Rule, studies: list[Study]) -> Figure:
    changed, lost, lost_in_test, saved = [], [], [], []
    for fits in studies:
        dev, test = (
            [-math.inf if row is None else fmean(getattr(fit, part) for fit in row) for row in fits]
            for part in ("dev", "test")
        )
        best = int(np.argmax(dev))
        winner, n_epochs = rule(fits)
        changed.append(winner != best)
        lost.append(dev[best] - dev[winner])
        lost_in_test.append(test[best] - test[winner])
        saved.append(1 - n_epochs / sum(len(fit.by_epoch) for row in fits if row is not None for fit in row))
    first = "cannot win" in what
    return Figure(
        "pruning",
        f"share of epochs saved: {what}",
        {"changed": fmean(changed), "dev lost": fmean(lost), "test lost": fmean(lost_in_test)},
        "",
        fmean(saved),
        "no winner changed" if first else "",
        not any(changed) if first else None,
        f"means of {len(studies)}",
        "changed: share of studies with another winner; lost: its ROC AUC below the other's; margin: in standard "
        f"errors of the paired difference. {len(studies)} studies of {len(studies[0])} trials x {N_FOLDS} folds, with "
        f"one epoch of warm-up and {EPOCHS} of fine-tuning, are run in full, then pruned on paper; as all trials are "
        f"random, what is tried does not depend on what is pruned. Successive halving keeps half of the trials after "
        f"{' and '.join(map(str, RUNGS))} epochs",
        {"fits": [[row and [asdict(fit) for fit in row] for row in fits] for fits in studies]} if first else None,
    )
