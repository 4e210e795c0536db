"""The checks of lesson 4: hyper-parameter search."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from common.config.settings import SGD, AdamW, TrainingConfig
from common.evaluation.statistics import corrected_resampled_ttest
from common.lesson.answers import agrees, called, mistake, one_number, parts, truth
from common.lesson.exercises import exercise
from common.lesson.trying import tried_all

TUNED = (0.931, 0.952, 0.904, 0.967, 0.921)
"""Test ROC AUCs of five outer folds with searched settings, for exercise 4.3."""
FIXED = (0.912, 0.949, 0.879, 0.951, 0.915)
"""Those of the same folds with fixed settings."""
N_LEARN, N_TEST = 480, 120
"""Images that each model learned from, and was tested on."""
_REACHED = {
    "This is the mean so far. How high could it still get, if the last fold went as well as can be?": [0.825],
    "The last fold may score more than the best trial's mean. What is the highest ROC AUC there is?": [2.55 / 3],
    "The last fold may score more than the best fold so far. What is the highest ROC AUC there is?": [2.5 / 3],
    "A fold that is left need not score 0. What is the highest it may score?": [1.65 / 3],
    "This is the highest score of one fold; the value of a trial is the mean of its folds.": [1.0],
    "This is the best trial's value; asked is what the new one can reach.": [0.90],
    "This is a sum; the value of a trial is the mean of its folds.": [2.65, 1.65],
    "This is the mean of the last two folds: the first one counts too.": [0.925],
}


@exercise("4.1")
def cannot_win(answer: object) -> str | None:
    """Best trial 0.90; after two of three folds a trial has 0.80 and 0.85: (highest mean it can reach, pruned)."""
    both = parts(answer)
    if both is None or len(both) != 2:
        return "Give a number and True or False: (highest mean, pruned)."
    found, pruned = one_number(both[0]), truth(both[1])
    if found is None or pruned is None:
        swapped = truth(both[0]) is not None and one_number(both[1]) is not None
        return f"Give a number and True or False{', in this order' if swapped else ''}: (highest mean, pruned)."
    if agrees(found, 2.65 / 3):
        return None if pruned else "The number is right. Is it above the best trial's value?"
    known = mistake(found, _REACHED)
    return known or "Add the highest possible score for each fold that is left, and divide by the number of folds."


TRUE, SPREAD, TRIALS = 0.90, 0.03, 20
"""For exercise 4.2: the score that all trials have, the standard deviation of their dev scores, and how many."""
_GAIN = float(stats.norm.expect(lambda z: TRIALS * z * stats.norm.cdf(z) ** (TRIALS - 1), lb=-8, ub=8))
"""Mean of the largest of so many standard normals."""
_BEST = {
    "This is what each of them truly scores, and what a test would find. The best dev score is another matter.": [TRUE],
    "This is one standard deviation above: the largest of twenty is further out.": [TRUE + SPREAD],
    "This is 95 % of one draw: the largest of twenty is further out on average.": [TRUE + 1.645 * SPREAD],
    "This is the limit of a 95 % interval of one draw, whatever the number of trials. Simulate it.": [
        TRUE + 1.96 * SPREAD,
        TRUE + 2 * SPREAD,
    ],
    "Three standard deviations: so far out is one draw of 740. Simulate it.": [TRUE + 3 * SPREAD],
    "This is the bound sqrt(2 log n), which is reached by far more trials. Simulate it.": [
        TRUE + SPREAD * np.sqrt(2 * np.log(TRIALS))
    ],
    "This is the standard error of a mean: here the largest is taken, not the mean.": [
        TRUE + SPREAD / np.sqrt(TRIALS),
        TRUE + 1.96 * SPREAD / np.sqrt(TRIALS),
    ],
    "This is the lowest of twenty, not the best.": [TRUE - _GAIN * SPREAD],
    "This is how far above the best is; asked is its score.": [_GAIN * SPREAD],
    "This is in standard deviations: multiply, and add the true score.": [_GAIN],
}


@exercise("4.2")
def best_of_n(answer: object) -> str | None:
    """20 equal trials of true score 0.90, dev scores with a standard deviation of 0.03: the expected best."""
    found = one_number(answer)
    if found is None:
        return "Give one number."
    if abs(found - TRUE - _GAIN * SPREAD) <= 2e-3 or agrees(found, TRUE + _GAIN * SPREAD):  # a simulation's, or rounded
        return None
    if reply := mistake(found, _BEST):
        return reply
    if found > 1:
        return "No ROC AUC is that high. The largest of many draws grows slowly with their number."
    return "Simulate it: draw 20 numbers, take the largest, and do that ten thousand times."


@exercise("4.3")
def paired_p_value(answer: object) -> str | None:
    """The two-sided p of :data:`TUNED` against :data:`FIXED`, paired and corrected, to two decimals or more."""
    found = one_number(answer)
    statistic, p = corrected_resampled_ttest(TUNED, FIXED, N_LEARN, N_TEST)
    if found is not None and agrees(found, float(statistic)):
        return "This is the t statistic; which share of Student's t lies further out, on both sides?"
    if found is None or not 0 <= found <= 1:
        return "Give the p-value alone: one number from 0 to 1."
    if agrees(found, p):
        return None
    wrong: dict[str, list[float]] = {
        "This test is not paired. Both were tested on the same folds: which hard folds are hard for both?": [
            stats.ttest_ind(TUNED, FIXED).pvalue,
            stats.mannwhitneyu(TUNED, FIXED).pvalue,
        ],
        "Paired, but it takes the folds for independent: correct for the shared training images.": [
            stats.ttest_rel(TUNED, FIXED).pvalue
        ],
        "This is one-sided. You did not know beforehand which would be better.": [p / 2],
        "This is 1 - p: a small p speaks against chance.": [1 - p, 1 - p / 2],
        "The order of the sizes is: learned from, tested on.": [
            corrected_resampled_ttest(TUNED, FIXED, N_TEST, N_LEARN)[1]
        ],
        "The test set is set against what the models learned from, not against all images.": [
            corrected_resampled_ttest(TUNED, FIXED, N_LEARN + N_TEST, N_TEST)[1]
        ],
        "This is the mean difference; asked is how often chance gives one as large.": [
            float(np.mean(np.subtract(TUNED, FIXED)))
        ],
        "Signed ranks are paired, but take the folds for independent too.": [stats.wilcoxon(TUNED, FIXED).pvalue],
        "0.05 is a convention to compare p with, not a result.": [0.05],
    }
    known = mistake(found, wrong, 3)
    return known or "Use corrected_resampled_ttest with the sizes given, in the order learned from, tested on."


@exercise("4.4")
def conditional_suggest(answer: object) -> str | None:
    """A function of a trial: a TrainingConfig with SGD and its momentum, or AdamW and its beta1, searched."""
    tried, problem = tried_all(lambda trial: called(answer, trial))
    if problem:
        return problem
    for each in tried:
        if not isinstance(each.result, TrainingConfig):
            return f"Return a TrainingConfig; this is of class {type(each.result).__name__}."
        if not isinstance(each.result.optimizer, SGD | AdamW):
            return f"Its optimizer is a {type(each.result.optimizer).__name__}; expected SGD or AdamW."
    of_kind = {kind: [each for each in tried if isinstance(each.result.optimizer, kind)] for kind in (SGD, AdamW)}
    asked = {kind: {name for each in group for name in each.asked} for kind, group in of_kind.items()}
    if not tried[0].asked:
        return "Nothing is asked of the trial: which optimizer it is, is a choice for the trial."
    if not all(of_kind.values()):
        return "Both optimizers should come up. Which one it is, is a choice for the trial: trial.suggest_categorical."
    return _wrong_branch(of_kind, asked)


def _wrong_branch(of_kind: Mapping, asked: Mapping) -> str | None:
    """What is wrong with the parameters of one optimizer or of both."""
    both = asked[SGD] & asked[AdamW]
    fields = ((SGD, "momentum"), (AdamW, "beta1"))
    for kind, field in fields:
        values = {float(getattr(each.result.optimizer, field)) for each in of_kind[kind]}
        most = max(len(each.asked) for each in of_kind[kind])
        if most > 2:
            told = " and ".join(sorted(asked[kind]))
            return (
                f"With {kind.__name__} the trial is asked for {told}. The choice and {field} will do here: "
                "what the other optimizer needs is asked for inside the branch of that one."
            )
        if len(values) < 2:
            return f"With {kind.__name__} its {field} is not what the trial suggests: it is always {values.pop():g}."
    if len(both) > 1:
        return "Momentum and beta1 share one name, so the sampler takes them for one parameter."
    for kind, field in fields:
        by_choice: dict[tuple, set] = {}
        for each in of_kind[kind]:
            chosen = tuple(each.told.get(name) for name in sorted(both))
            by_choice.setdefault(chosen, set()).add(getattr(each.result.optimizer, field))
        if all(len(values) < 2 for values in by_choice.values()):
            return (
                f"With {kind.__name__} its {field} comes with the choice of the optimizer: "
                "ask for it on its own, inside the branch."
            )
    return None
