"""A search whose scores are made up, and take random times."""

import random
import time
from argparse import Namespace
from functools import partial

from common.search.studies import create_study, optimize
from common.seeds import Stream
from common.training.jobs import run_fits, run_jobs


def suggest(trial):
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    width = trial.suggest_int("width", 4, 64)
    kind = trial.suggest_categorical("kind", ["adam", "sgd"])
    bonus = trial.suggest_float("momentum", 0, 1) if kind == "sgd" else 0.5
    return 0.5 + (width / 64 + bonus) / 8 - abs(rate - 0.01)


def score_of(score, fold):
    time.sleep(random.choice([0, 0, 0.02, 0.1]))
    return score + fold / 100


def run_trial(trial, score):
    scores = []
    for fold, found in enumerate(run_fits(partial(score_of, score), range(3))):
        scores.append(found)
        trial.report(scores[-1], fold)
        if trial.should_prune():
            break
    return scores, scores


def search(name, seed, n_trials=14, lag=1):
    study = create_study(name, 3, lag=lag)
    optimize(study, suggest, run_trial, n_trials, Stream(seed).at("root 0"))
    return [[t.state.name, t.params, t.value, t.intermediate_values] for t in study.trials]


def side_by_side(n_jobs, lag):
    """Two such searches at once, in so many processes."""
    from common.training import set_up

    args, names = Namespace(n_jobs=n_jobs, engine="local"), [f"{n_jobs} root {root}" for root in (0, 1)]
    return run_jobs(partial(search, seed=0, lag=lag), names, set_up("cpu", "fp32"), args, 2 * 14 * 3)
