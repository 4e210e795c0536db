"""The checks of lesson 4: hyper-parameter search."""

from __future__ import annotations

import numpy as np
from scipy import stats

from common.config.settings import SGD, AdamW, TrainingConfig
from common.evaluation.statistics import corrected_resampled_ttest
from common.lesson.answers import called, numbers
from common.lesson.exercises import exercise

TUNED = (0.931, 0.952, 0.904, 0.967, 0.921)
"""Test ROC AUCs of five outer folds with searched settings, for exercise 4.3."""
FIXED = (0.912, 0.949, 0.879, 0.951, 0.915)
"""Those of the same folds with fixed settings."""
N_LEARN, N_TEST = 480, 120
"""Images that each model learned from, and was tested on."""


@exercise("4.1")
def cannot_win(answer: object) -> str | None:
    """Best trial 0.90; after two of three folds a trial has 0.80 and 0.85: (highest mean it can reach, pruned)."""
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not isinstance(answer[1], bool | np.bool_):
        return "Give a number and True or False: (highest mean, pruned)."
    found = numbers(answer[:1], 1)
    if found is None:
        return "The first should be a number."
    if abs(found[0] - 0.825) < 1e-3:
        return "This is the mean so far. How high could it still get, if the last fold went as well as can be?"
    if abs(found[0] - (0.80 + 0.85 + 0.90) / 3) < 1e-3:
        return "The last fold may score more than the best trial's mean. What is the highest ROC AUC there is?"
    if abs(found[0] - (0.80 + 0.85 + 1.0) / 3) > 1e-3:
        return "Add the highest possible score for each fold that is left, and divide by the number of folds."
    return None if answer[1] else "The number is right. Is it above the best trial's value?"


@exercise("4.2")
def best_of_n(answer: object) -> str | None:
    """20 equal trials of true score 0.90, dev scores with a standard deviation of 0.03: the expected best."""
    found = numbers([answer], 1)
    if found is None:
        return "Give one number."
    expected = 0.90 + 0.03 * 1.8675  # mean of the largest of 20 standard normals
    if abs(found[0] - 0.90) < 2e-3:
        return (
            "This is what each of them truly scores, and what a test would find. The best dev score is another matter."
        )
    if found[0] > 1:
        return "No ROC AUC is that high. The largest of many draws grows slowly with their number."
    if abs(found[0] - expected) > 2e-3:
        return "Simulate it: draw 20 numbers, take the largest, and do that ten thousand times."
    return None


@exercise("4.3")
def paired_p_value(answer: object) -> str | None:
    """The two-sided p of :data:`TUNED` against :data:`FIXED`, paired and corrected."""
    found = numbers([answer], 1)
    if found is None or not 0 <= found[0] <= 1:
        return "Give the p-value alone: one number from 0 to 1."
    _, p = corrected_resampled_ttest(TUNED, FIXED, N_LEARN, N_TEST)
    wrong = {
        stats.ttest_ind(TUNED, FIXED).pvalue: "This test is not paired. Both were tested on the same folds: which hard "
        "folds are hard for both?",
        stats.ttest_rel(TUNED, FIXED).pvalue: "Paired, but it takes the folds for independent: correct for the shared "
        "training images.",
        p / 2: "This is one-sided. You did not know beforehand which would be better.",
    }
    for value, hint in wrong.items():
        if abs(found[0] - value) < 1e-4:
            return hint
    if abs(found[0] - p) > 1e-4:
        return "Use corrected_resampled_ttest with the sizes given, in the order learned from, tested on."
    return None


class _Trial:
    """A trial that chooses beforehand, and keeps what it was asked."""

    def __init__(self, label: object):
        self.label = label
        self.numbers: dict[str, float] = {}
        self.choices: list[str] = []

    def suggest_float(self, name: str, low: float, high: float, **options: object) -> float:
        self.numbers[name] = low + 0.37 * (high - low)
        return self.numbers[name]

    def suggest_categorical(self, name: str, choices: list) -> object:
        self.choices.append(name)
        return list(choices)[self.label]


@exercise("4.4")
def conditional_suggest(answer: object) -> str | None:
    """A function of a trial: a TrainingConfig with SGD and its momentum, or AdamW and its beta1, searched."""
    seen, asked = {}, []
    for label in (0, 1):
        trial = _Trial(label)
        config, problem = called(answer, trial)
        if problem:
            return problem
        if not isinstance(config, TrainingConfig):
            return "Return a TrainingConfig."
        if not trial.choices:
            return "Which optimiser it is, is a choice for the trial: trial.suggest_categorical."
        kind, value = (
            type(config.optimizer),
            getattr(config.optimizer, "momentum", getattr(config.optimizer, "beta1", 0)),
        )
        if value not in trial.numbers.values():
            return f"With {kind.__name__} its {'momentum' if kind is SGD else 'beta1'} is not what the trial suggests."
        if len(trial.numbers) > 1:
            return (
                f"With {kind.__name__} the trial is asked for {' and '.join(trial.numbers)}. "
                "What the other optimiser needs means nothing here: ask inside the branch."
            )
        seen[kind] = config
        asked += trial.numbers
    if set(seen) != {SGD, AdamW}:
        return "Both optimisers should come up, each for one of the two choices."
    if len(set(asked)) < 2:
        return "Momentum and beta1 share one name, so the sampler takes them for one parameter."
    return None
