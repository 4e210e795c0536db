"""The checks of lesson 3: nested cross-validation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import stats

from common.evaluation.statistics import corrected_resampled_interval
from common.lesson.answers import agrees, called, mistake, names_found, numbers, one_number, parts, same
from common.lesson.exercises import exercise

SCORES = (0.882, 0.973, 0.923, 0.952, 0.915, 0.913, 0.923, 0.938, 0.844, 0.923)
"""Test ROC AUCs of ten outer folds, for exercise 3.2."""
N_LEARN, N_TEST = 540, 60
"""Images that each of them learned from, and was tested on."""
_COUNTS = {
    8: "The folds are nested, not side by side: each outer fold has all of its inner ones.",
    5: "This is one network per outer fold. Each of its inner folds trains one too.",
    3: "These are the networks of one outer fold.",
    20: "No network is trained again on all inner folds together: those of the inner folds are tested themselves.",
    150: "One split file, one pass: each pair of an outer and an inner fold is trained once.",
    30: "Dev and test need no network each: one network is stopped by dev, and then tested.",
}
_TIMES = {
    15: "An image is in the test set of one outer fold only. Which networks belong to that fold?",
    1: "It is in the test set of one outer fold, but that fold has more than one network.",
    5: "It is not tested in each outer fold: in four of five it is for learning.",
    2: "Predictions of an image on dev are not test predictions.",
    4: "Predictions of an image on dev are not test predictions.",
    0: "Every image is tested: each is in the test set of one outer fold.",
}


@exercise("3.1")
def count_models(answer: object) -> str | None:
    """5 outer folds with 3 inner ones each: (networks trained, test predictions per image in the end)."""
    found = numbers(answer, 2)
    if found is None:
        return "Give two whole numbers: (networks, predictions)."
    networks, predictions = found
    if (networks, predictions) == (3, 15):
        return "The order is (networks, predictions)."
    if networks != 5 * 3:
        return _COUNTS.get(int(networks), "Count one network for each pair of an outer and an inner fold.")
    if predictions != 3:
        return _TIMES.get(int(predictions), "Look at one column of the fold diagram: in how many rows is it blue?")
    return None


def _half_widths() -> dict[str, list[float]]:
    """What half of the width is after each of the known mistakes."""
    n, spread = len(SCORES), float(np.std(SCORES, ddof=1))
    t, corrected = stats.t.ppf(0.975, n - 1), np.sqrt(1 / n + N_TEST / N_LEARN)
    of_all = np.sqrt(1 / n + N_TEST / (N_LEARN + N_TEST))
    return {
        "This is the plain t, which takes the folds for independent. Their learning sets overlap.": [
            t * spread / np.sqrt(n)
        ],
        "Nearly: the test set is set against what the models learned from, not against all images.": [
            t * spread * of_all
        ],
        "This takes a normal distribution; with ten scores it is Student's t with 9 degrees of freedom.": [
            1.96 * spread * corrected,
            1.96 * spread / np.sqrt(n),
        ],
        "This takes the t of 10 degrees of freedom; one is used up by the mean.": [
            stats.t.ppf(0.975, n) * spread * corrected
        ],
        "The standard deviation is that of a sample: ddof=1.": [t * np.std(SCORES) * corrected],
        "This is 2.5 % to the left of 95 %: a two-sided interval leaves 2.5 % on each side.": [
            stats.t.ppf(0.95, n - 1) * spread * corrected
        ],
        "This is the spread of single scores; the interval is of their mean.": [t * spread, spread],
        "This is a standard error; the interval has t times as much on each side.": [
            spread * corrected,
            spread / np.sqrt(n),
        ],
        "The variance was not turned into a standard deviation: take the square root.": [
            t * spread**2 * corrected**2,
            t * spread * corrected**2,
        ],
    }


@exercise("3.2")
def interval(answer: object) -> str | None:
    """The 95 % interval (low, high) of :data:`SCORES`, to two decimals or more."""
    found = numbers(answer, 2)
    if found is None:
        return "Give two numbers: (low, high)."
    mean, *limits = corrected_resampled_interval(np.array(SCORES), N_LEARN, N_TEST)
    if all(agrees(value, limit) for value, limit in zip(found, limits, strict=True)):
        return None
    if found[0] > found[1]:
        return (
            "The order is (low, high)." if found[1] > 0.5 else "Give the two limits, not the mean and the half-width."
        )
    if np.allclose(found, (min(SCORES), max(SCORES))) or np.allclose(found, np.percentile(SCORES, [2.5, 97.5])):
        return "This is the range of the single scores; the interval is of their mean."
    for text, halves in _half_widths().items():
        if any(agrees(found[0], mean - half) and agrees(found[1], mean + half) for half in halves):
            return text
    if abs(sum(found) / 2 - mean) > 5e-3:
        return "The interval should lie around the mean of the scores."
    return "The width is off. Use ddof=1, J - 1 degrees of freedom, and the variance that the lesson gives."


def _of(fold: SimpleNamespace, groups: np.ndarray, *parts: str) -> list[set]:
    return [set(groups[getattr(fold, part)].tolist()) for part in parts or ("train", "dev", "test")]


_TORN_BUT = {
    "A group shared by train and dev is torn too: why does that matter?": (
        lambda fold, g: set.union(*_of(fold, g, "train", "dev")) & _of(fold, g, "test")[0]
    ),
    "A group shared by train and test is torn.": lambda fold, g: set.intersection(*_of(fold, g, "train", "dev")),
    "Groups shared by dev and test, or by train and dev, are torn too.": (
        lambda fold, g: set.intersection(*_of(fold, g, "train", "test"))
    ),
    "A group shared by dev and test is torn too.": (
        lambda fold, g: _of(fold, g, "train")[0] & set.union(*_of(fold, g, "dev", "test"))
    ),
    "Two parts are enough for a group to be torn, all three are not needed.": (
        lambda fold, g: set.intersection(*_of(fold, g))
    ),
    "These are all groups of the fold, also those in one part only.": lambda fold, g: set.union(*_of(fold, g)),
    "These are the groups that are whole: the others are asked for.": (
        lambda fold, g: {name for name in set(g.tolist()) if sum(name in part for part in _of(fold, g)) == 1}
    ),
    "It finds none at all. A row is never in two parts; compare the groups of the rows.": lambda fold, g: set(),
}


@exercise("3.3")
def torn_groups(answer: object) -> str | None:
    """A function of a fold and an array of groups: the set of groups found in more than one part."""
    groups = np.array(["ann", "ann", "bo", "bo", "cy", "cy", "di", "di", "ed", "ed", "ed"])
    shares = [
        ([0, 1], [2, 3], [4, 5, 6, 7, 8, 9, 10]),
        ([0, 2, 3], [4, 5], [1, 6, 7, 8, 9, 10]),
        ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9, 10]),
        ([0, 1, 2, 3], [4, 6, 7, 8, 9, 10], [5]),
        ([0, 2, 8], [4, 6, 9], [1, 3, 5, 7, 10]),
    ]
    cases = [
        (SimpleNamespace(**dict(zip(("train", "dev", "test"), map(np.array, parts), strict=True))), groups)
        for parts in shares
    ]
    found = names_found(answer, cases)
    if isinstance(found, str):
        return found
    right = [{n for n in set(groups.tolist()) if sum(n in part for part in _of(*case)) > 1} for case in cases]
    if found == right:
        return None
    if reply := same(found, _TORN_BUT, cases):
        return reply
    if any(name.isdigit() for names_of in found for name in names_of):
        return "It names row numbers; give the names of their groups: groups[rows]."
    if found[0]:
        return "No group is torn in a fold that keeps them whole."
    return "Several groups may be torn at once: name them all, and no others."


@exercise("3.4")
def honest_estimate(answer: object) -> str | None:
    """A function of dev and test scores, both (models, outer folds): the test score of models chosen per fold."""
    dev = np.array([[0.90, 0.80, 0.70], [0.80, 0.85, 0.95], [0.85, 0.70, 0.60]])
    test = np.array([[0.80, 0.93, 0.95], [0.70, 0.75, 0.78], [0.96, 0.79, 0.66]])
    result, problem = called(answer, dev.copy(), test.copy())
    if problem:
        return problem
    found = one_number(result)
    if found is None:
        several = len(parts(result) or ()) > 1
        return "Return one number, the mean over the outer folds." if several else "Return one number."
    chosen, folds = dev.argmax(axis=0), np.arange(3)
    wrong = {
        "It picks by the test scores: the best of several is optimistic, as the search showed of dev.": [
            test.max(axis=0).mean(),
            test.mean(axis=1).max(),
            test.max(),
        ],
        "It reports the score that it chose by. Report one that had no part in the choice.": [
            dev.max(axis=0).mean(),
            dev.mean(axis=1).max(),
            dev.max(),
        ],
        "It chooses one model for all outer folds. But the dev images of one outer fold are test images of another. "
        "What may a choice see?": [test[dev.mean(axis=1).argmax()].mean()],
        "It averages over all models: nothing was chosen.": [test.mean(), np.median(test)],
        "It chooses for each model an outer fold: axis 0 is the models.": [
            test[folds, dev.argmax(axis=1)].mean(),
            test[dev.argmax(axis=1), folds].mean(),
        ],
        "It takes one outer fold alone: each of them has a choice and a test.": [
            test[np.unravel_index(dev.argmax(), dev.shape)],
            *test[chosen, folds],
        ],
        "It takes the model with the lowest dev score.": [test[dev.argmin(axis=0), folds].mean()],
        "It mixes dev scores into the estimate: they had a part in the choice.": [
            (test[chosen, folds].mean() + dev.max(axis=0).mean()) / 2
        ],
        "It picks the lowest test scores: to be pessimistic is no estimate either.": [test.min(axis=0).mean()],
    }
    if agrees(found, float(test[chosen, folds].mean()), 3):
        return None
    known = mistake(found, wrong, 3)
    return (
        known
        or "For each outer fold on its own: which model would you choose, and what does it score on the test fold?"
    )
