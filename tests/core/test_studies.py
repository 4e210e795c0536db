"""Studies: what is pruned, and the same stream gives the same trials in any process."""

import json
import math
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import optuna
import pytest
import searching
from optuna.trial import TrialState

from common.cli import UserError
from common.search.studies import FoldPruner, count_fits, create_study, how_drawn, optimize
from common.seeds import Stream
from common.state import PROJECT


@pytest.fixture
def storage(empty_stores, tmp_path, monkeypatch):
    shutil.copy(empty_stores / "optuna.db", tmp_path)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")


def drawn_later(trial):
    """A trial whose parameters do not matter here."""


def suggest_rate(trial):
    return trial.suggest_float("rate", 1e-4, 1e-1, log=True)


def run_row(rows, trial, settings):
    return run_folds(trial, rows[trial.number])


def run_folds(trial, scores, prune=True):
    """A trial with these scores of its folds; the networks are named by trial and fold."""
    reported = []
    for fold, score in enumerate(scores):
        reported.append(score)
        trial.report(score, fold)
        if prune and trial.should_prune():
            break
    return [f"{trial.number}.{fold}" for fold in range(len(reported))], reported


@pytest.mark.parametrize("kind", ["eighths", "fine"])
def test_pruning_happens_exactly_when_the_best_is_out_of_reach_and_changes_no_winner(kind):
    rng = np.random.default_rng(0)
    n_pruned = 0
    for _ in range(40):
        n_trials, n_folds = int(rng.integers(2, 10)), int(rng.integers(1, 6))
        fold_scores = rng.beta(8, 1, (n_trials, n_folds))
        if kind == "eighths":  # ties, and sums without rounding
            fold_scores = rng.integers(4, 9, (n_trials, 4)) / 8
            n_folds = 4
        fold_scores = fold_scores.tolist()
        winners = {}
        for prune in (True, False):
            study = optuna.create_study(direction="maximize", pruner=FoldPruner(n_folds, margin=math.inf))
            best, networks = optimize(
                study,
                drawn_later,
                lambda trial, _, prune=prune, rows=fold_scores: run_folds(trial, rows[trial.number], prune),
                n_trials,
                Stream(0),
            )
            winners[prune] = best.number, best.value, networks
            if prune:
                n_pruned += check_pruned(study.trials, fold_scores, n_folds)
        means = [sum(scores) / n_folds for scores in fold_scores]
        assert winners[True] == winners[False]
        assert winners[True][:2] == (means.index(max(means)), max(means))
        assert winners[True][2] == [f"{winners[True][0]}.{fold}" for fold in range(n_folds)]
    assert n_pruned > 20


def check_pruned(trials, fold_scores, n_folds):
    best = None
    for trial, scores in zip(trials, fold_scores, strict=True):
        most = [(sum(scores[:k]) + n_folds - k) / n_folds for k in range(1, n_folds)]
        hopeless = next((k for k, value in enumerate(most, 1) if best is not None and value <= best), None)
        assert (trial.state is TrialState.PRUNED) == (hopeless is not None)
        assert len(trial.intermediate_values) == (hopeless or n_folds)
        if hopeless is None:
            assert trial.state is TrialState.COMPLETE and trial.value == sum(scores) / n_folds
            best = max(trial.value, -1 if best is None else best)
    return sum(trial.state is TrialState.PRUNED for trial in trials)


def trails(complete, scores, n_folds, margin):
    """Whether a trial with these scores trails the best of the completed ones."""
    best = max(complete, key=np.mean, default=None)
    spreads = [np.var(best - other, ddof=1) for other in complete if other is not best]
    error = np.sqrt(np.mean(spreads) * (1 / len(scores) - 1 / n_folds)) if spreads else 0
    return bool(error) and np.mean(best[: len(scores)] - scores) > margin * error


@pytest.mark.parametrize("n_folds", [2, 4])
def test_a_trial_that_trails_the_best_one_on_the_folds_they_share_is_pruned_whatever_the_unit_of_the_score(n_folds):
    rng = np.random.default_rng(0)
    reached_at = set()
    for _ in range(30):
        auc = rng.uniform(0.5, 0.8, (12, 1)) + rng.uniform(-0.1, 0.1, n_folds) + rng.normal(0, 0.05, (12, n_folds))
        margin = rng.choice([1, 2, 3])
        found = []
        for rows in (auc, 2 * auc - 1):  # the second as MCC is: its differences are twice as large
            study = optuna.create_study(pruner=FoldPruner(n_folds, margin, best_score=math.inf), direction="maximize")
            run_trial = partial(run_row, rows.tolist())
            optimize(study, drawn_later, run_trial, 12, Stream(0))
            found.append([len(trial.intermediate_values) for trial in study.trials])
        assert found[0] == found[1]
        complete = []
        for scores, reached in zip(auc, found[0], strict=True):
            stops = (k for k in range(1, n_folds) if trails(complete, scores[:k], n_folds, margin))
            assert reached == next(stops, n_folds)
            complete += [scores] if reached == n_folds else []
        reached_at |= set(found[0])
    assert reached_at == set(range(1, n_folds + 1))


@pytest.mark.parametrize("second", [[], [[0.75, 0.75, 0.75]], [[0.7, 0.7, 0.7]]])
def test_where_the_spread_of_differences_is_not_known_none_is_said_to_trail(second):
    rows = [[0.75, 0.75, 0.75], *second, [0.4, 0.95, 0.9]]
    study = optuna.create_study(direction="maximize", pruner=FoldPruner(3))
    optimize(study, drawn_later, partial(run_row, rows), len(rows), Stream(0))
    assert all(len(trial.intermediate_values) == 3 for trial in study.trials)


@pytest.mark.parametrize(
    ("n_trials", "n_startup_trials", "failed", "lag"),
    [(7, 3, [], 1), (7, 3, [0, 2, 6], 1), (4, 9, [1], 1), (9, 3, [], 2), (9, 3, [0, 4], 3)],
)
def test_tpe_begins_after_the_startup_trials_that_did_not_fail_and_the_text_says_when(
    storage, n_trials, n_startup_trials, failed, lag
):
    def run_trial(trial, rate):
        if trial.number in failed:
            raise ArithmeticError("too hot")
        scores = [rate] * (1 + trial.number % 2)  # with one of two it is pruned
        return scores, scores

    study = create_study("study", 2, n_startup_trials, lag)
    optimize(study, suggest_rate, run_trial, n_trials, Stream(0), catch=ArithmeticError)
    by_tpe = []
    for trial in study.trials:
        random = optuna.samplers.RandomSampler(seed=Stream(0).at("search", f"trial {trial.number}").integer())
        drawn = random.sample_independent(study, trial, "rate", trial.distributions["rate"])
        by_tpe.append(drawn != trial.params["rate"])
    assert {trial.state for trial in study.trials} >= {TrialState.COMPLETE, TrialState.PRUNED}
    assert by_tpe == sorted(by_tpe)
    words = f"{by_tpe.count(False)} random, then {by_tpe.count(True)} by TPE"
    random_search = f"random search (TPE begins with trial {n_startup_trials + len(failed) + 1}, counted from 1)"
    text = f"{n_trials} trials: {words if any(by_tpe) else random_search}"
    assert how_drawn(study) == text
    assert any(by_tpe) == (n_startup_trials == 3)


def test_errors_that_are_caught_fail_their_trial_and_the_study_goes_on(storage):
    folds = {0: [0.75, 0.75], 1: ArithmeticError("too hot"), 2: [0.25, 1.0], 3: [1.0, 0.75], 4: [1.0, 0.75]}

    def run_trial(trial, settings):
        if isinstance(folds[trial.number], Exception):
            trial.report(0.5, 0)
            raise folds[trial.number]
        return run_folds(trial, folds[trial.number])

    study = create_study("study", 2)
    best, networks = optimize(study, drawn_later, run_trial, 5, Stream(0), catch=ArithmeticError)
    kept = optuna.load_study(study_name="study", storage=os.environ["OPTUNA_STORAGE"])
    assert [t.state.name for t in kept.trials] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    assert [t.value for t in kept.trials if t.state is TrialState.COMPLETE] == [0.75, 0.875, 0.875]
    assert (best.number, best.value, networks) == (3, 0.875, ["3.0", "3.1"])
    assert count_fits(study) == 8


def test_other_errors_end_the_study_and_one_where_no_trial_completes_says_so(storage):
    def fail(trial, settings):
        raise ArithmeticError(f"too hot {trial.number}")

    with pytest.raises(ArithmeticError):
        optimize(create_study("first", 2), drawn_later, fail, 2, Stream(0))
    with pytest.raises(UserError, match=r"none of the 2 trials of study second completed.* too hot 1"):
        optimize(create_study("second", 2), drawn_later, fail, 2, Stream(0), catch=ArithmeticError)


@pytest.mark.hostile("trials side by side give what they would give one after the other", cases=2)
@pytest.mark.slow
@pytest.mark.parametrize("lag", [3, 5])
def test_trials_side_by_side_depend_on_the_lag_alone_and_not_on_which_is_quicker(lag, storage):
    found = [searching.side_by_side(n_jobs, lag) for n_jobs in (1, 8)]
    assert found[0] == found[1] and found[0][0] == found[0][1]
    assert {state for state, *_ in found[0][0]} == {"COMPLETE", "PRUNED"}
    one_by_one = searching.search("one by one", 0)
    assert [params for _, params, *_ in one_by_one[:10]] == [params for _, params, *_ in found[0][0][:10]]  # random
    assert one_by_one != found[0][0]


def test_a_stream_gives_the_same_trials_in_any_process(storage, tmp_path):
    first = searching.search("first", 0)
    done = subprocess.run(
        [sys.executable, "-c", "import json, searching; print(json.dumps(searching.search('second', 0)))"],
        env={**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}", "PYTHONHASHSEED": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(first))
    other = searching.search("other", 1, 3)
    assert all(a[1] != b[1] for a, b in zip(first[:3], other, strict=True))
    assert {state for state, *_ in first} == {"COMPLETE", "PRUNED"}
    assert len({str(params) for _, params, *_ in first}) == 14


@pytest.mark.hostile("a search that was killed anywhere becomes the uninterrupted one", cases=2)
@pytest.mark.parametrize("lag", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_study_that_ends_between_two_parameters_of_a_trial_goes_on_as_if_it_had_not(lag, storage):
    def search(name, ends=()):
        """Each of `ends`, (trial, parameters), is where it ends and is run again."""
        suggestions = [
            lambda trial: trial.suggest_float("rate", 1e-4, 1e-1, log=True),
            lambda trial: trial.suggest_int("units", 4, 64),
            lambda trial: trial.suggest_categorical("one", ["alone"]),
            lambda trial: trial.suggest_categorical("norm", ["batch", "layer", "none"]),
            lambda trial: trial.suggest_float("dropout", 0.0, 0.6),
        ]
        ends = list(ends)

        def suggest_all(trial):
            for n, suggest in enumerate(suggestions):
                if (trial.number, n) in ends:
                    ends.remove((trial.number, n))
                    raise KeyboardInterrupt
                suggest(trial)
            return [trial.params["dropout"], trial.params["rate"]]

        while True:
            study = create_study(name, 2, lag=lag)
            try:
                optimize(study, suggest_all, run_folds, 13, Stream(0))
            except KeyboardInterrupt:
                continue
            assert not ends
            return [(trial.state, trial.params, trial.values) for trial in study.trials]

    whole = search("whole")
    ends = [(number, n) for number in (2, 11) for n in (1, 3, 4)]  # drawn at random, and by TPE
    assert search("one", ends[-2:-1]) == whole
    assert search("all", ends) == whole


@pytest.mark.hostile("a search that was killed anywhere becomes the uninterrupted one", cases=2)
@pytest.mark.parametrize("lag", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_trial_that_ends_before_it_is_told_is_pruned_at_the_same_fold_again(lag, storage):
    rows = np.random.default_rng(0).uniform(0.2, 0.9, (8, 5)).tolist()

    def search(name, ends):
        told = {}

        def run_trial(trial, settings):
            found = run_folds(trial, rows[trial.number])
            if trial.number in ends:
                ends.remove(trial.number)
                raise KeyboardInterrupt
            told[trial.number] = found
            return found

        while True:
            study = create_study(name, 5, lag=lag)
            try:
                optimize(study, drawn_later, run_trial, len(rows), Stream(0))
            except KeyboardInterrupt:
                continue
            assert not ends
            return told, [(trial.state, trial.values, trial.intermediate_values) for trial in study.trials]

    whole = search("whole", set())
    lengths = {len(scores) for _, scores in whole[0].values()}
    assert len(lengths) > 2 and 5 in lengths
    assert search("ended", set(range(len(rows)))) == whole


def test_the_first_of_equal_trials_is_the_best(storage):
    study = create_study("ties", 1)
    best, networks = optimize(study, drawn_later, partial(run_row, [[0.5], [0.75], [0.75]]), 3, Stream(0))
    assert (best.number, networks) == (1, ["1.0"])


def test_a_database_that_cannot_be_used_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    (tmp_path / "text.db").write_text("this is no database, but a text that is long enough to look like one")
    for url in (f"sqlite:///{tmp_path / 'text.db'}", f"sqlite:///{tmp_path / 'absent' / 'o.db'}", "nothing"):
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        with pytest.raises(UserError) as error:
            create_study("study", 2)
        assert str(error.value).startswith(f"studies at {url} cannot be used: ")
        assert "\n" not in str(error.value)


def test_studies_lie_in_the_project_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    create_study("study", 2)
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'optuna.db'}") == ["study"]
