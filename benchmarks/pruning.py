"""Row pruning: whole studies, and what would have become of them had their trials been pruned."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.figures import Figure
from benchmarks.machine import HERE
from benchmarks.null_run import NullRun
from common import data, evaluation, search, training
from common.seeds import Stream
from step_4 import train as step_4

N_FOLDS = 4
MARGINS = (math.inf, 3.0, 2.0, 1.5, 1.0, 0.5)
EPOCHS = {"drawn": 1, "phantoms": 3}
"""Of the fine-tuning: a lesion takes longer to learn than a cat."""
NORMAL = (20, 10, {})
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": (2, 3, {"image_size": 16})}
"""Studies, trials of each (random ones, as TPE begins after 10), and changes of step 4's settings."""

Study = list[list[float] | None]
"""The scores by fold of each trial; None for a trial that failed."""


def measure(size_name: str, source: Path) -> list[Figure]:
    """Fits saved, and winners changed, by each margin on the same recorded scores, for each data set and score.

    A phase keeps its best epoch by the score that is searched for, so each score has fits of its own.
    """
    n_studies, n_trials, changes = SIZES[size_name]
    figures = []
    for (name, epochs), score in product(EPOCHS.items(), evaluation.SCORES):
        config = replace(step_4.CONFIG, warmup_epochs=1, epochs=epochs, score=score, **changes)
        compute = training.set_up(parallel_fits=4, config=config)
        table = data.load_images(name, config.image_size)
        run_study = partial(_run_study, table, config, compute, data.load_splits(table), n_trials)
        studies = training.run_jobs(run_study, range(n_studies), compute, HERE, n_studies * n_trials * N_FOLDS)
        what = f"{name} by {evaluation.SCORES[score]}"
        default = search.FoldPruner(N_FOLDS).margin
        figures += [_figure(what, each, each == default, studies) for each in dict.fromkeys((*MARGINS, default))]
    return figures


def _run_study(table, config, compute, splits, n_trials: int, seed: int) -> Study:
    """A study without pruning."""
    root_split = seed % len(splits["root_splits"])
    folds = data.folds_of(splits, root_split, N_FOLDS)
    stream = Stream(seed).at(f"root {root_split}")
    found: Study = [None] * n_trials

    def run_trial(trial: optuna.Trial, tried) -> tuple[list, list[float]]:
        run_inner = partial(step_4.run_inner_split, table, tried, compute, stream, NullRun())
        scores = [score for _, score in training.run_fits(run_inner, folds)]
        found[trial.number] = scores
        return [None] * N_FOLDS, scores

    study = search.create_study(f"{table.name} {config.score} seed {seed}", N_FOLDS)
    search.optimize(study, partial(step_4.suggest, config), run_trial, n_trials, stream)
    return found


def replay(scores: Study, pruner: optuna.pruners.BasePruner) -> tuple[int, int]:
    """Number of the winner, and of the fits, had the trials been pruned."""
    study, n_fits = optuna.create_study(direction="maximize", pruner=pruner), 0
    for of_trial in scores:
        trial = study.ask()
        if of_trial is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        for fold, score in enumerate(of_trial):
            trial.report(score, fold)
            n_fits += 1
            if trial.should_prune() and fold + 1 < len(of_trial):
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, sum(of_trial) / len(of_trial))
    return study.best_trial.number, n_fits


def _figure(what: str, margin: float, default: bool, studies: list[Study]) -> Figure:
    changed, lost, saved = [], [], []
    for scores in studies:
        values = [-math.inf if row is None else sum(row) / len(row) for row in scores]
        winner, n_fits = replay(scores, search.FoldPruner(N_FOLDS, margin))
        changed.append(winner != int(np.argmax(values)))
        lost.append(max(values) - values[winner])
        saved.append(1 - n_fits / sum(len(row) for row in scores if row is not None))
    name = "cannot win" if margin == math.inf else f"margin {margin:g}"
    return Figure(
        "pruning",
        f"share of fits saved: {what}, {name}{' (step 4)' if default else ''}",
        {"changed": float(np.mean(changed)), "lost": float(np.mean(lost))},
        "",
        float(np.mean(saved)),
        "no winner changed" if margin == math.inf else "",
        not any(changed) if margin == math.inf else None,
        f"means of {len(studies)}",
        "changed: share of studies with another winner; lost: its dev score below the other's; margin: in standard "
        f"errors of the paired difference. {len(studies)} studies of {len(studies[0])} trials x {N_FOLDS} folds, with "
        f"one epoch of warm-up and {' or '.join(f'{n} ({name})' for name, n in EPOCHS.items())} of fine-tuning, are "
        "run in full, then pruned on paper; as all trials are random, what is tried does not depend on what is pruned",
        {"scores": studies} if default else None,
    )
