"""The checks of lesson 1: what each set is for, leakage, thresholds, and the flaws of the first script."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from common.lesson.exercises import exercise

_SETS = {"fit the weights": "train", "stop early": "dev", "choose the threshold": "dev", "report the score": "test"}

_FLAWS = {"A": "start", "C": "end", "E": "middle", "G": "end", "J": "end"}
_SOUND = {
    "B": "read the docstring of data.random_fold, and count the groups that its sets share",
    "D": "who else could choose it, without having seen the answer?",
    "F": "which rows does train_and_validate_model give to validate_one_epoch?",
    "H": "a mirrored test photo would not be the photo that was asked about",
    "I": "what would the gradients of an untrained head do to a trained backbone?",
}
_PLACES = {
    "start": "run the script twice without flags and compare",
    "middle": "how far would the score move with other test photos?",
    "end": "read the last lines of main, and think of next month",
}


@exercise("1.1")
def _what_each_set_is_for(answer: Mapping[str, str]) -> str | None:
    if not isinstance(answer, Mapping) or set(answer) != set(_SETS):
        return f"Expected a dict with the keys {', '.join(_SETS)}."
    wrong = [decision for decision, name in answer.items() if name != _SETS[decision]]
    if not wrong:
        return None
    return f"Think again about: {wrong[0]}. A set that a decision has seen can no longer judge that decision."


@exercise("1.2")
def _torn_groups(answer: Callable[[np.ndarray, np.ndarray, np.ndarray], Collection[str]]) -> str | None:
    groups = np.array(["cleo", "cleo", "rex", "rex", "tom", "ada", "ada", "ada"])
    for learn, test, expected in (
        ([0, 2, 3, 4], [1, 5, 6, 7], {"cleo"}),
        ([0, 2, 5], [1, 3, 4, 6, 7], {"cleo", "rex", "ada"}),
    ):
        found = answer(groups, np.array(learn), np.array(test))
        if not isinstance(found, Collection) or isinstance(found, str):
            return f"It returns a {type(found).__name__}; expected a set of group names."
        if len(found) > len(set(map(str, found))):
            return "It names a group more than once."
        if {str(name) for name in found} != expected:
            return f"It finds {len(found)} torn groups, there are {len(expected)}: which have rows on both sides?"
    if len(answer(groups, np.array([0, 1, 4]), np.array([2, 3]))):
        return "It finds torn groups in a split that keeps every group whole."
    return None


@exercise("1.3")
def _threshold(answer: Callable[[np.ndarray, np.ndarray], float]) -> str | None:
    rng = np.random.default_rng(0)
    for n, share, shift in ((40, 0.5, -1.5), (200, 0.2, 1.0), (90, 0.8, 0.0)):
        labels = (np.arange(n) < share * n).astype(int)
        probabilities = 1 / (1 + np.exp(-rng.normal(2 * labels - 1 + shift, 1.2)))
        threshold = answer(labels, probabilities)
        if not np.isscalar(threshold) or not np.isfinite(threshold):
            return f"It returns {threshold!r}; expected one number."
        scores = [balanced_accuracy_score(labels, probabilities >= t) for t in (threshold, *probabilities)]
        if scores[0] < max(scores) - 1e-12:
            return (
                f"Of {n} photos, {labels.sum()} of class 1, its threshold gives balanced accuracy {scores[0]:.3f}; "
                f"another gives {max(scores):.3f}. Which thresholds change a prediction at all? Try each of them."
            )
    return None


@exercise("1.4")
def _flaws(answer: Collection[str]) -> str | None:
    letters = {str(letter).strip().upper() for letter in answer} - {"", ","}
    unknown = letters - set(_FLAWS) - set(_SOUND)
    if unknown:
        return f"{min(unknown)} is not among the statements. Expected letters, such as {{'X', 'Y'}}."
    if letters - set(_FLAWS):
        letter = min(letters - set(_FLAWS))
        return f"Statement {letter} is no flaw: {_SOUND[letter]}"
    missing = [place for letter, place in _FLAWS.items() if letter not in letters]
    return f"All of these are flaws, and there are more: {_PLACES[missing[0]]}." if missing else None


@exercise("1.5")
def _repaired(answer: Callable[[int, Path], object]) -> str | None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results, files = [], []
        for seed in (0, 0, 1):
            results.append(repr(answer(seed, folder)))
            files.append({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        if results[0] == "None":
            return "It returns nothing; expected the score."
        if results[0] != results[1]:
            return "Seed 0 gives two different scores: what draws without the seed?"
        if results[0] == results[2]:
            return "Seeds 0 and 1 give the same score: does the seed reach the training?"
        if not files[0]:
            return "Nothing is written into the folder: how will you know the score next month?"
        for before, after in pairwise(files):
            if any(after.get(path) != content for path, content in before.items()):
                return "A later run changes what an earlier one wrote. Where could each run have a place of its own?"
            if len(after) == len(before):
                return "A later run leaves no file of its own."
        written = b"".join(content for path, content in files[2].items() if path not in files[1])
        if b"learning_rate" not in written or b"seed" not in written:
            return "A run's files do not say with which seed and which learning_rate it was made."
    return None
