"""The checks of lesson 2: finding runs, streams that do not depend on order, test set sizes, and folds."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.data.images import ImageTable
from common.lesson.answers import called, numbers, one_number, parts
from common.lesson.exercises import exercise
from common.seeds import Stream

ACCURACY, ERROR = 0.85, 0.01
"""For exercise 2.3: what a classifier gets right, and the standard error that is asked for."""
PHOTOS, CORRELATION = 4, 0.5
"""For exercise 2.3: photos of each animal, and the intraclass correlation of getting them right."""


def _run(status: str, seed: str | None = None, level: str = "root", data: str = "drawn", **tags: str) -> dict:
    params = {} if seed is None else {"seed": seed, "data": data}
    return {"attributes": {"status": status}, "params": params, "tags": {"run_level": level, "step": "step_2", **tags}}


_WANTED = {"one": _run("FINISHED", "1"), "another": _run("FINISHED", "1", data="phantoms")}
_OTHERS = {
    "It finds {} too, a run below a root run: which tag says that a run is a root run?": {
        "warm-up": _run("FINISHED", level="phase", phase="warm-up"),
        "analysis": _run("FINISHED", level="root_split", analysis="predictions"),
    },
    "It finds {} too: ask for seed 1 alone, and not for what begins with 1 or is larger.": {
        "seed 10": _run("FINISHED", "10"),
        "seed 11": _run("FINISHED", "11"),
        "seed 2": _run("FINISHED", "2"),
    },
    "It finds {} too: which parameter holds the seed, and which value was asked for?": {
        "seed 0": _run("FINISHED", "0")
    },
    "It finds {} too, which has not finished: where does a run say how it ended?": {
        "a failed run": _run("FAILED", "1"),
        "a killed run": _run("KILLED", "1"),
        "a running run": _run("RUNNING", "1"),
    },
}


@exercise("2.1")
def _filter(answer: object) -> str | None:
    """Judged by runs that are made up: what there is depends on what a learner has run."""
    from common.tracking.filters import found_by

    if not isinstance(answer, str):
        return f"Give the filter as a text; this is of class {type(answer).__name__}."
    if not answer.strip():
        return "An empty filter finds every run of the experiment, also those below a root run."
    try:
        found = found_by(answer, _WANTED | {name: run for others in _OTHERS.values() for name, run in others.items()})
    except UserError as error:
        return f"MLflow does not understand this filter: {error}"
    if not found:
        return "It finds no run. Values stand in single quotes, and parameters are texts, numbers too."
    for hint, others in _OTHERS.items():
        if extra := [name for name in found if name in others]:
            return hint.format(extra[0])
    return None if set(found) == set(_WANTED) else "It misses some: does it ask for one by name, or for certain data?"


@exercise("2.2")
def _shuffle(answer: object) -> str | None:
    def shuffled(stream: Stream, epoch: int, n: int = 100) -> list[int] | str:
        order, problem = called(answer, stream, epoch, n)
        if problem:
            return problem
        if (rows := parts(order)) is None:
            return f"It returns {order!r:.60}; expected the rows in their order."
        found = numbers(rows, n) or []
        if sorted(found) == list(range(1, n + 1)):
            return "It returns the rows 1 to n; rows count from 0 to n - 1."
        if sorted(found) != list(range(n)):
            drawn = " Some come twice: drawing is not shuffling." if len(set(found)) < len(found) else ""
            return f"It does not return each of the rows 0 to n - 1 once.{drawn}"
        return list(map(int, found))

    stream = Stream(0)
    calls = [(Stream(0), 3), (Stream(0), 3), (stream, 1), (stream, 2), (stream, 3), (Stream(1), 3)]
    found = []
    for call in calls:
        order = shuffled(*call)
        if isinstance(order, str):
            return order
        found.append(order)
    third, again, first, second, later, other = found
    if third != again:
        return "The same stream and epoch give two orders: what draws from something else than the stream?"
    if any(order in (sorted(order), sorted(order)[::-1]) for order in (first, second, third)):
        return "This order is not random: the rows go up or down."
    if first == second or second == later:
        return "Two epochs have the same order: is the epoch in the name of the place?"
    if any(_only_moved(one, another) for one, another in combinations((first, second, later), 2)):
        return "Two epochs have the same order, only moved, reversed or renumbered: each epoch needs one of its own."
    if later != third:
        return "Epoch 3 has another order when it is drawn first: it must not depend on what was drawn before it."
    if _only_moved(other, third):
        return "Root seeds 0 and 1 give the same order: draw from the stream that is given."
    return None


def _only_moved(one: list[int], another: list[int]) -> bool:
    """Whether steps of one size lead through most of the other order, as where it is rotated; by chance never."""
    places, rows = np.argsort(one)[another], np.array(another)[np.argsort(one)]
    return any(np.bincount(np.diff(way) % len(one)).max() > len(one) / 2 for way in (places, rows))


_INDEPENDENT = ACCURACY * (1 - ACCURACY) / ERROR**2
_DESIGN = 1 + (PHOTOS - 1) * CORRELATION
_ANIMALS = _INDEPENDENT * _DESIGN / PHOTOS
_SIZES = {
    "So many independent photos, one per animal, would do. Here each animal has several, which are alike in part.": [
        _INDEPENDENT
    ],
    "These are photos; how many animals are that?": [_INDEPENDENT * _DESIGN],
    "This takes the photos of one animal for independent: what does the design effect do to the variance?": [
        _INDEPENDENT / PHOTOS
    ],
    "The design effect makes the sample worth less, so it takes more animals, not fewer.": [
        _INDEPENDENT / _DESIGN,
        _INDEPENDENT / _DESIGN / PHOTOS,
    ],
    "The design effect counts the other photos of an animal: m - 1 of them, not m.": [
        _INDEPENDENT * (1 + PHOTOS * CORRELATION) / PHOTOS
    ],
    "The standard error goes with the square root of the number: square what you divide.": [
        np.sqrt(ACCURACY * (1 - ACCURACY)) / ERROR
    ],
    "The variance of a yes or no is p (1 - p), with both factors.": [
        ACCURACY / ERROR**2,
        ACCURACY**2 / ERROR**2,
        (1 - ACCURACY) ** 2 / ERROR**2,
        ACCURACY / ERROR**2 * _DESIGN / PHOTOS,
    ],
    "This is for a 95 % interval of that half-width; the standard error is asked for.": [
        1.96**2 * _INDEPENDENT,
        1.96**2 * _ANIMALS,
        1.96**2 * _INDEPENDENT * _DESIGN,
    ],
    "This is the design effect itself: by how much the variance grows.": [_DESIGN],
}


@exercise("2.3")
def _animals(answer: object) -> str | None:
    """Test animals for the standard error :data:`ERROR`: p (1 - p) / SE² (1 + (m - 1) ICC) / m (Kish, 1965)."""
    n = one_number(answer)
    if n is None or n <= 0:
        return "Give one number above 0: how many animals."
    if abs(n - _ANIMALS) < 0.01 * _ANIMALS:
        return None
    for reply, sizes in _SIZES.items():
        if any(abs(n / size - 1) < 0.01 for size in sizes):
            return reply
    found = np.sqrt(ACCURACY * (1 - ACCURACY) * _DESIGN / (PHOTOS * n))
    return f"With {n:g} animals the standard error is {found:.4f}. How does it change when there are 4 times as many?"


@exercise("2.4")
def _folds(answer: object) -> str | None:
    table = _table()
    for k in (3, 5):
        folds = _listed(answer, table, k, Stream(0))
        if isinstance(folds, str):
            return folds
        if hint := _wrong_folds(table, k, folds):
            return hint
    first, again, other = (_listed(answer, table, 5, Stream(seed)) for seed in (0, 0, 1))
    if first != again:
        return "The same stream gives other folds each time: what draws from something else than the stream?"
    return "Root seeds 0 and 1 give the same folds: where is the stream used?" if first == other else None


def _listed(answer: object, table: ImageTable, k: int, stream: Stream) -> list[tuple[list, list]] | str:
    """What the learner's function yields, as pairs of lists of rows; or what is wrong with it."""
    found, problem = called(answer, table, k, stream)
    pairs = parts(found)
    if problem or pairs is None:
        return problem or f"It returns a {type(found).__name__}; expected pairs of arrays, (rest, test)."
    folds = []
    for pair in pairs:
        both = parts(pair)
        if both is None or len(both) != 2:
            return "Each fold should be a pair of arrays: (rest, test)."
        sides = [np.asarray(side) for side in both]
        if any(side.dtype == bool for side in sides):
            return (
                "Give the rows themselves, not a True or False for each row: np.flatnonzero turns one into the other."
            )
        folds.append((sides[0].tolist(), sides[1].tolist()))
    return folds


def _wrong_folds(table: ImageTable, k: int, folds: list[tuple[list, list]]) -> str | None:
    rows, groups = list(range(len(table))), np.asarray(table.groups)
    if len(folds) != k:
        return f"Asked for {k} folds, it yields {len(folds)}."
    if all(len(rest) < len(test) for rest, test in folds):
        return "The test sets are larger than the rest: are the two swapped? A pair is (rest, test)."
    tested = [row for _, test in folds for row in test]
    if sorted(tested) != rows:
        times = f"{len(set(tested))} of {len(rows)} rows are tested, {len(tested)} times in all"
        return (
            f"With {k} folds, not every row is in exactly one test set: {times}. Random splits do that; folds do not."
        )
    for rest, test in folds:
        if sorted([*rest, *test]) != rows:
            return "Rest and test of a fold are not all the rows, each once."
        if set(groups[rest]) & set(groups[test]):
            return "An animal is on both sides of a fold. What did that do to the score in lesson 1?"
        share = table.labels[test].mean()
        if abs(share - table.labels.mean()) > 0.12:
            found = f"A test set has {share:.0%} of class 1, the table {table.labels.mean():.0%}"
            return f"{found}: each fold should look like the whole (stratified)."
    return None


def _table() -> ImageTable:
    """40 animals in 2 to 4 photos each, the last fourth of them dogs."""
    sizes = np.tile([2, 3, 4, 3], 10)
    animals = np.repeat(np.arange(40), sizes)
    files = tuple(f"{row:03d}.jpg" for row in range(len(animals)))
    groups = np.array([f"animal {animal:02d}" for animal in animals])
    labels = (animals >= 30).astype(np.int64)
    return ImageTable("exercise", Path("exercise"), files, labels, ("cat", "dog"), groups, files)
