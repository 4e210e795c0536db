"""Row pruning: whole studies, and what would have become of them had their trials been pruned."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.figures import Figure
from benchmarks.null_run import NullRun
from common import data, search, training
from common.seeds import Stream
from step_4 import train as step_4

N_TRIALS = 5
N_FOLDS = 4
MARGINS = (math.inf, 0.1, 0.05, 0.03, 0.01)
NORMAL = (20, {"warmup_epochs": 1, "epochs": 1})
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": (2, {"image_size": 16, "warmup_epochs": 1, "epochs": 1})}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Fits saved, and winners changed, by each pruner on the same recorded scores."""
    n_studies, changes = SIZES[size_name]
    config = replace(step_4.CONFIG, **changes)
    compute = training.set_up(parallel_fits=4, config=config)
    table = data.load_images("drawn", config.image_size)
    run_study = partial(_run_study, table, config, compute, data.load_splits(table))
    studies = training.run_jobs(run_study, range(n_studies), compute, None, n_studies * N_TRIALS * N_FOLDS)
    default = search.FoldPruner(N_FOLDS).margin
    return [_figure(margin, margin == default, studies) for margin in dict.fromkeys((*MARGINS, default))]


def _run_study(table, config, compute, splits, seed: int) -> list[list[float] | None]:
    """The scores by fold of each trial of a study without pruning; None for a trial that failed."""
    root_split = seed % len(splits["root_splits"])
    folds = data.folds_of(splits, root_split, N_FOLDS)
    stream = Stream(seed).at(f"root {root_split}")
    found: list[list[float] | None] = [None] * N_TRIALS

    def run_trial(trial: optuna.Trial) -> tuple[list, list[float]]:
        tried = step_4.suggest(config, trial)
        run_inner = partial(step_4.run_inner_split, table, tried, compute, stream, NullRun())
        scores = [score for _, score in training.run_fits(run_inner, folds)]
        found[trial.number] = scores
        return [None] * N_FOLDS, scores

    study = search.create_study(f"seed {seed}", N_FOLDS)
    search.optimize(study, run_trial, N_TRIALS, stream.at("search"), training.NonFiniteLossError)
    return found


def replay(scores: list[list[float] | None], pruner: optuna.pruners.BasePruner) -> tuple[int, int]:
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


def _figure(margin: float, default: bool, studies: list[list[list[float] | None]]) -> Figure:
    changed, lost, saved = [], [], []
    for scores in studies:
        values = [-math.inf if row is None else sum(row) / len(row) for row in scores]
        winner, n_fits = replay(scores, search.FoldPruner(N_FOLDS, margin))
        changed.append(winner != int(np.argmax(values)))
        lost.append(max(values) - values[winner])
        saved.append(1 - n_fits / sum(len(row) for row in scores if row is not None))
    name = "cannot win" if margin == math.inf else f"behind by {margin:g}"
    return Figure(
        "pruning",
        f"share of fits saved: {name}{' (step 4)' if default else ''}",
        {"changed": float(np.mean(changed)), "lost": float(np.mean(lost))},
        "",
        float(np.mean(saved)),
        "no winner changed" if margin == math.inf else "",
        not any(changed) if margin == math.inf else None,
        f"means of {len(studies)}",
        "changed: share of studies with another winner; lost: its dev ROC AUC below the other's. "
        f"{len(studies)} studies of {N_TRIALS} trials x {N_FOLDS} folds are run in full, then pruned on paper; with at "
        "most 10 trials TPE samples at random, so what is tried does not depend on what is pruned",
        {"scores": studies} if default else None,
    )
