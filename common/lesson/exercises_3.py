"""The checks of lesson 3: nested cross-validation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from common.evaluation.statistics import corrected_resampled_interval
from common.lesson.answers import called, numbers
from common.lesson.exercises import exercise

SCORES = (0.882, 0.973, 0.923, 0.952, 0.915, 0.913, 0.923, 0.938, 0.844, 0.923)
"""Test ROC AUCs of ten outer folds, for exercise 3.2."""
N_LEARN, N_TEST = 540, 60
"""Images that each of them learned from, and was tested on."""


@exercise("3.1")
def count_models(answer: object) -> str | None:
    """5 outer folds with 3 inner ones each: (networks trained, test predictions per image in the end)."""
    found = numbers(answer, 2)
    if found is None:
        return "Give two whole numbers: (networks, predictions)."
    networks, predictions = found
    if networks == 5 + 3:
        return "The folds are nested, not side by side: each outer fold has all of its inner ones."
    if networks != 5 * 3:
        return "Count one network for each pair of an outer and an inner fold."
    if predictions == networks:
        return "An image is in the test set of one outer fold only. Which networks belong to that fold?"
    if predictions != 3:
        return "Look at one column of the fold diagram: in how many rows is it blue?"
    return None


@exercise("3.2")
def interval(answer: object) -> str | None:
    """The 95 % interval (low, high) of :data:`SCORES`."""
    found = numbers(answer, 2)
    if found is None:
        return "Give two numbers: (low, high)."
    scores = np.array(SCORES)
    mean, _, high = corrected_resampled_interval(scores, N_LEARN, N_TEST)
    half = (found[1] - found[0]) / 2
    if abs(sum(found) / 2 - mean) > 5e-4:
        return "The interval should lie around the mean of the scores."
    _, _, plain = corrected_resampled_interval(scores, 1e12, 1)
    if abs(half - (plain - mean)) < 5e-4:
        return "This is the plain t, which takes the folds for independent. Their learning sets overlap."
    _, _, halved = corrected_resampled_interval(scores, N_LEARN + N_TEST, N_TEST)
    if abs(half - (halved - mean)) < 2e-4:
        return "Nearly: the test set is set against what the models learned from, not against all images."
    if abs(half - (high - mean)) > 2e-4:
        return "The width is off. Use ddof=1, J - 1 degrees of freedom, and the variance that the lesson gives."
    return None


@exercise("3.3")
def torn_groups(answer: object) -> str | None:
    """A function of a fold and an array of groups: the set of groups found in more than one part."""
    groups = np.array(["ann", "ann", "bo", "bo", "cy", "cy", "di", "di"])
    cases = [
        (([0, 1], [2, 3], [4, 5, 6, 7]), set(), "No group is torn in a fold that keeps them whole."),
        (([0, 2, 3], [4, 5], [1, 6, 7]), {"ann"}, "A group shared by train and test is torn."),
        (([0, 1, 2], [3, 4, 5], [6, 7]), {"bo"}, "A group shared by train and dev is torn too: why does that matter?"),
        (([0, 1, 2, 3], [4, 6, 7], [5]), {"cy"}, "A group shared by dev and test is torn too."),
        (
            ([0, 2], [4, 6], [1, 3, 5, 7]),
            {"ann", "bo", "cy", "di"},
            "Several groups may be torn at once: name them all.",
        ),
    ]
    for parts, expected, hint in cases:
        fold = SimpleNamespace(**dict(zip(("train", "dev", "test"), map(np.array, parts), strict=True)))
        found, problem = called(answer, fold, groups)
        if problem:
            return problem
        if isinstance(found, bool) or not isinstance(found, set | frozenset | list | tuple | np.ndarray):
            return "Return the groups themselves, as a set."
        if set(np.asarray(list(found)).tolist()) != expected:
            return hint
    return None


@exercise("3.4")
def honest_estimate(answer: object) -> str | None:
    """A function of dev and test scores, both (models, outer folds): the test score of models chosen per fold."""
    dev = np.array([[0.90, 0.80, 0.70], [0.80, 0.85, 0.95], [0.85, 0.70, 0.60]])
    test = np.array([[0.80, 0.93, 0.95], [0.70, 0.75, 0.78], [0.96, 0.79, 0.66]])
    found, problem = called(answer, dev, test)
    if problem:
        return problem
    found = numbers([found], 1)
    if found is None:
        return "Return one number."
    folds = np.arange(3)
    wrong = {
        float(test.max(axis=0).mean()): "It picks by the test scores. What did the simulation show about that?",
        float(test.mean(axis=1).max()): "It picks by the test scores. What did the simulation show about that?",
        float(
            dev.max(axis=0).mean()
        ): "It reports the score that it chose by. Report one that had no part in the choice.",
        float(
            test[dev.mean(axis=1).argmax()].mean()
        ): "It chooses one model for all outer folds. But the dev images of "
        "one outer fold are test images of another. What may a choice see?",
    }
    for value, hint in wrong.items():
        if abs(found[0] - value) < 1e-9:
            return hint
    if abs(found[0] - test[dev.argmax(axis=0), folds].mean()) > 1e-9:
        return "For each outer fold on its own: which model would you choose, and what does it score on the test fold?"
    return None
