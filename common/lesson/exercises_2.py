"""The checks of lesson 2: finding runs, streams that do not depend on order, test set sizes, and folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from common.data.images import ImageTable
from common.lesson.exercises import exercise
from common.lesson.run_tables import runs_table
from common.seeds import Stream


@exercise("2.1")
def _filter(answer: str) -> str | None:
    try:
        found = runs_table(2, answer)
    except Exception as error:  # MLflow's, for a filter that it cannot read
        return f"MLflow does not understand this filter: {str(error).splitlines()[0]}"
    if found.empty:
        return "It finds no run. Values stand in single quotes, and parameters are texts, numbers too."
    if set(found["tags.run_level"]) != {"root"}:
        return "It finds runs below a root run too: what do the root runs have that the others have not?"
    if set(found["params.seed"]) != {"1"}:
        return f"It finds runs of seed {', '.join(sorted(set(found['params.seed']) - {'1'}))} too."
    if set(found["status"]) != {"FINISHED"}:
        return "It would find runs that failed too: where does a run say how it ended?"
    if "status" not in answer:
        return "It would find a run that failed too: where does a run say how it ended?"
    return None


@exercise("2.2")
def _shuffle(answer: Callable[[Stream, int, int], np.ndarray]) -> str | None:
    def shuffles(seed: int, epochs: Iterable[int]) -> dict[int, list[int]]:
        stream = Stream(seed)
        return {epoch: np.asarray(answer(stream, epoch, 20)).tolist() for epoch in epochs}

    forward, backward = shuffles(0, (1, 2, 3)), shuffles(0, (3, 1))
    if any(sorted(order) != list(range(20)) for order in forward.values()):
        return "It does not return each of the rows 0 to n - 1 once."
    if forward[1] == forward[2] or forward[2] == forward[3]:
        return "Two epochs have the same order: is the epoch in the name of the place?"
    if any(backward[epoch] != forward[epoch] for epoch in backward):
        return "Epoch 3 has another order when it is drawn first: it must not depend on what was drawn before it."
    if shuffles(1, (1,))[1] == forward[1]:
        return "Root seeds 0 and 1 give the same order: draw from the stream that is given."
    return None


@exercise("2.3")
def _photos(answer: float) -> str | None:
    n, accuracy, error = float(answer), 0.85, 0.01
    needed = accuracy * (1 - accuracy) / error**2
    if abs(n - needed) < 0.01 * needed:
        return None
    found = np.sqrt(accuracy * (1 - accuracy) / n) if n > 0 else float("inf")
    return f"With {n:g} photos the standard error is {found:.4f}. How does it change when there are 4 times as many?"


@exercise("2.4")
def _folds(answer: Callable[[ImageTable, int, Stream], Iterable[tuple[np.ndarray, np.ndarray]]]) -> str | None:
    table = _table()
    for k in (3, 5):
        folds = [tuple(map(np.asarray, pair)) for pair in answer(table, k, Stream(0))]
        if len(folds) != k:
            return f"Asked for {k} folds, it yields {len(folds)}."
        tested = np.concatenate([test for _, test in folds])
        if sorted(tested.tolist()) != list(range(len(table))):
            return f"With {k} folds, not every row is in exactly one test set: {len(set(tested.tolist()))} of {len(table)} rows are tested, {len(tested)} times in all."  # noqa: E501
        for rest, test in folds:
            if sorted([*rest.tolist(), *test.tolist()]) != list(range(len(table))):
                return "Rest and test of a fold are not all the rows, each once."
            if set(table.groups[rest]) & set(table.groups[test]):
                return "An animal is on both sides of a fold. What did that do to the score in lesson 1?"
            if abs(table.labels[test].mean() - table.labels.mean()) > 0.12:
                return (
                    f"A test set has {table.labels[test].mean():.0%} of class 1, the table {table.labels.mean():.0%}: "
                    "each fold should look like the whole."
                )
    if _tests(answer, 0) != _tests(answer, 0):
        return "The same stream gives other folds each time."
    if _tests(answer, 0) == _tests(answer, 1):
        return "Root seeds 0 and 1 give the same folds: where is the stream used?"
    return None


def _tests(answer: Callable, seed: int) -> list[list[int]]:
    return [np.asarray(test).tolist() for _, test in answer(_table(), 5, Stream(seed))]


def _table() -> ImageTable:
    """40 animals in 2 to 4 photos each, the last fourth of them dogs."""
    sizes = np.tile([2, 3, 4, 3], 10)
    animals = np.repeat(np.arange(40), sizes)
    files = tuple(f"{row:03d}.jpg" for row in range(len(animals)))
    groups = np.array([f"animal {animal:02d}" for animal in animals])
    labels = (animals >= 30).astype(np.int64)
    return ImageTable("exercise", Path("exercise"), files, labels, ("cat", "dog"), groups, files)
