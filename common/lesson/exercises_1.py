"""The checks of lesson 1: what each set is for, leakage, thresholds, and the flaws of the first script."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from common.lesson.answers import called, meant, names_found, one_number, same
from common.lesson.exercises import exercise
from common.lesson.left_behind import numbers_in, value_of

_SETS = {"fit the weights": "train", "stop early": "dev", "choose the threshold": "dev", "report the score": "test"}
_ALSO = {
    "training": "train",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "testing": "test",
}
_MIXED_UP = {
    ("fit the weights", "dev"): "What the weights were fitted on can no longer say when they begin to overfit.",
    ("fit the weights", "test"): "Weights that have seen these images know them by heart: the score would show memory.",
    ("stop early", "train"): "The loss there goes on falling while the network learns by heart: nothing would stop it.",
    ("stop early", "test"): "The epoch would be chosen by the images of the report: the score would be too high.",
    (
        "choose the threshold",
        "train",
    ): "There the network is too sure of itself: a threshold from there does not suit new images.",
    (
        "choose the threshold",
        "test",
    ): "It would be the best of many thresholds on the images of the report: optimistic.",
    ("report the score", "train"): "These images are known by heart: the score would show memory.",
    ("report the score", "dev"): "These images have chosen the epoch and the threshold: their score is optimistic.",
}
_FLAWS = {"A": "start", "C": "end", "E": "middle", "G": "end", "J": "end"}
_SOUND = {
    "B": "read the docstring of data.random_fold, and count the groups that its sets share",
    "D": "which of the three sets could choose it, if not this one? Compare exercise 1.1",
    "F": "which rows does train_and_validate_model give to validate_one_epoch?",
    "H": "augmentation helps training; what is tested is the photo as it is, not a mirrored one",
    "I": "this is what a warm-up means; did the lesson measure that it does harm?",
}
_PLACES = {
    "start": "run the script twice without flags and compare",
    "middle": "ask how far the score would move with other test photos",
    "end": "read the last lines of main, and ask what you can still look up next month",
}


@exercise("1.1")
def _what_each_set_is_for(answer: object) -> str | None:
    given: dict[str, object] = {}
    said = meant(answer)
    if isinstance(said, Iterable):
        with contextlib.suppress(TypeError, ValueError):
            given = {str(key).strip().casefold(): value for key, value in dict(said).items()}
    if set(given) != set(_SETS):
        return f"Expected a dict with the keys {', '.join(_SETS)}."
    for decision, right in _SETS.items():
        name = str(given[decision]).strip().casefold().removesuffix("set").strip(" -_")
        name = _ALSO.get(name, name)
        if name not in _SETS.values():
            return f"For {decision!r}: {given[decision]!r} is none of the three sets."
        if name != right:
            return f"Think again about: {decision}. {_MIXED_UP[decision, name]}"
    return None


def _sides(groups: np.ndarray, learn: np.ndarray, test: np.ndarray) -> tuple[set, set]:
    return set(groups[learn].tolist()), set(groups[test].tolist())


_NOT_TORN = {
    "It finds none at all. A row is never on both sides; compare the groups of the rows, not the rows.": (
        lambda g, a, b: set()
    ),
    "It names row numbers; give the names of their groups: groups[rows].": (
        lambda g, a, b: {str(i) for i in (*a, *b) if g[i] in set(g[a]) & set(g[b])}
    ),
    "These are all groups, also those on one side only.": lambda g, a, b: set(g.tolist()),
    "These are the groups of either side; torn ones have rows in both.": lambda g, a, b: set.union(*_sides(g, a, b)),
    "These are the groups of one side alone; a torn group has rows in both.": (
        lambda g, a, b: set.symmetric_difference(*_sides(g, a, b))
    ),
    "These are all groups that are learned from.": lambda g, a, b: _sides(g, a, b)[0],
    "These are all groups that are tested.": lambda g, a, b: _sides(g, a, b)[1],
    "A group with several rows is torn only when they are on two sides.": (
        lambda g, a, b: {n for n in g.tolist() if (g == n).sum() > 1}
    ),
}


@exercise("1.2")
def _torn_groups(answer: object) -> str | None:
    groups = np.array(["cleo", "cleo", "rex", "rex", "tom", "ada", "ada", "ada", "bo"])
    rows = [([0, 2, 3, 4], [1, 5, 6, 7]), ([0, 2, 5], [1, 3, 4, 6, 7]), ([0, 1, 4], [2, 3])]
    cases = [(groups, np.array(learn), np.array(test)) for learn, test in rows]
    found = names_found(answer, cases)
    if isinstance(found, str):
        return found
    right = [set.intersection(*_sides(*case)) for case in cases]
    if found == right:
        return None
    if reply := same(found, _NOT_TORN, cases):
        return reply
    if found[2]:
        return "It finds torn groups in a split that keeps every group whole."
    i = next(i for i in range(3) if found[i] != right[i])
    return f"It finds {len(found[i])} torn groups, there are {len(right[i])}: which have rows on both sides?"


def _why_not(labels: np.ndarray, probabilities: np.ndarray, threshold: float, best: float) -> str:
    """Which rule gives a threshold that is not the best."""
    candidates = np.array([0.0, *np.unique(probabilities), 1.1])
    predicted = probabilities >= threshold
    if np.isclose(threshold, best):
        return "This is the balanced accuracy itself; return the threshold that gives it."
    for value, what in (
        (0.5, "This is 0.5 whatever the data."),
        (probabilities.mean(), "This is the mean probability."),
        (np.median(probabilities), "This is the median probability: half of the photos on each side."),
        (labels.mean(), "This is the share of class 1, not a threshold that was tried."),
    ):
        if np.isclose(threshold, value):
            return f"{what} Which thresholds change a prediction at all? Try each of them."
    if predicted.all() or not predicted.any():
        return f"It predicts class {int(predicted.all())} for every photo: one of the two classes is never right."
    if np.isclose(balanced_accuracy_score(labels, probabilities > threshold), best):
        return "With > it would be the best; here class 1 is predicted where probability >= threshold."
    for score, what in ((accuracy_score, "plain accuracy"), (f1_score, "the F1 score")):
        if np.isclose(score(labels, predicted), max(score(labels, probabilities >= t) for t in candidates)):
            return (
                f"It has the best of {what}, which counts the larger class more. Balanced accuracy counts both alike."
            )
    return "Which thresholds change a prediction at all? Try each of them."


@exercise("1.3")
def _threshold(answer: object) -> str | None:
    rng = np.random.default_rng(0)
    for n, share, shift in ((40, 0.5, -1.5), (200, 0.2, 1.0), (90, 0.8, 0.0)):
        labels = (np.arange(n) < share * n).astype(int)
        probabilities = 1 / (1 + np.exp(-rng.normal(2 * labels - 1 + shift, 1.2)))
        result, problem = called(answer, labels, probabilities)
        if problem:
            return problem
        threshold = one_number(result)
        if threshold is None:
            return f"It returns {result!r:.80}; expected one number."
        if threshold > 1 and threshold == int(threshold):
            return f"It returns {threshold:g}, which is no probability: a place in a list, or a percentage?"
        tried = np.array([threshold, *probabilities]) - 1e-7  # float32 may have rounded it up
        scores = [balanced_accuracy_score(labels, probabilities >= t) for t in tried]
        if scores[0] < max(scores) - 1e-12:
            return (
                f"Of {n} photos, {labels.sum()} of class 1, its threshold gives balanced accuracy {scores[0]:.3f}; "
                f"another gives {max(scores):.3f}. {_why_not(labels, probabilities, threshold, max(scores))}"
            )
    return None


@exercise("1.4")
def _flaws(answer: object) -> str | None:
    if isinstance(answer, Mapping) or not isinstance(answer, Iterable):
        return "Expected letters, such as {'X', 'Y'}."
    letters = {letter for letter in "".join(map(str, answer)).upper() if letter.isalnum()}
    unknown = letters - set(_FLAWS) - set(_SOUND)
    if unknown:
        return f"{min(unknown)} is not among the statements. Expected letters, such as {{'X', 'Y'}}."
    if letters - set(_FLAWS):
        letter = min(letters - set(_FLAWS))
        return f"Statement {letter} is no flaw: {_SOUND[letter]}"
    missing = [place for letter, place in _FLAWS.items() if letter not in letters]
    return f"All of these are flaws, and there are more: {_PLACES[missing[0]]}." if missing else None


@exercise("1.5")
def _repaired(answer: object) -> str | None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scores, files = [], []
        for seed in (0, 0, 1):
            result, problem = called(answer, seed, folder)
            if problem:
                return problem
            score = one_number(result)
            if score is None or not 0 <= score <= 1:
                return f"It returns {result!r:.80}; expected the ROC AUC, one number from 0 to 1."
            scores.append(score)
            files.append({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        if scores[0] != scores[1]:
            return "Seed 0 gives two different scores: what draws without the seed?"
        if scores[0] == scores[2]:
            return "Seeds 0 and 1 give the same score: does the seed reach the training?"
        if not files[0]:
            return "Nothing is written into the folder: how will you know the score next month?"
        for before, after in pairwise(files):
            if any(after.get(path) != content for path, content in before.items()):
                return "A later run changes what an earlier one wrote. Where could each run have a place of its own?"
            if len(after) == len(before):
                return "A later run leaves no file of its own."
        written = {path.relative_to(folder): content for path, content in files[2].items() if path not in files[1]}
    return _told(written, 1, scores[2])


def _told(written: Mapping[Path, bytes], seed: int, score: float) -> str | None:
    """What the files of a run do not say."""
    found = value_of("seed", written)
    if found is None:
        return f"A run's files do not say with which seed it was made: write the name and its value, `seed: {seed}`."
    if found != seed:
        return f"The files of the run with seed {seed} say seed {found:g}."
    if not (value_of("learning_rate", written) or 0) > 0:
        return "A run's files do not say with which learning_rate it was made: write the name and its value."
    if not any(abs(value - score) < 5e-4 for value in numbers_in(written)):
        return "A run's files say how it was made, but not what it found: its score is in none of them."
    if not any(b"\0" in content for content in written.values()):
        return "A run keeps no weights: next month there is no network to predict with. See save_classifier."
    return None
