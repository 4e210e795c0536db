"""Folds: the rows of a table for training, for the dev set and for testing, drawn at random or given with the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from common.cli import UserError
from common.data.images import ImageTable
from common.seeds import Stream


class TooFewError(UserError):
    """A class has too few images, or groups of images, for so many folds."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of an image table.

    Attributes
    ----------
    root_split, inner_split : int
        Which outer and which inner fold.
    train, dev, test : ndarray of int64
        Rows of the table: to fit on, to stop early and choose the threshold on, to report on.
    root_splits : int
        How many outer folds there are in all.
    """

    root_split: int
    inner_split: int
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    root_splits: int = 1


def random_fold(table: ImageTable, stream: Stream) -> Fold:
    """One split: the given one where the table has parts, else a random one.

    That has a fifth for testing and a fifth for the dev set; stratified, with groups and copies on one side.

    Raises
    ------
    UserError
        When a class has fewer than five images (or groups), or a given part none; or given parts share some.
    """
    if table.parts is None:
        rest, test = next(stratified_folds(table, np.arange(len(table)), 5, 1, stream.at("test")))
    else:
        rest, dev, test = given_rows(table)
        check_sides(table, {"train": rest, "dev": dev, "test": test}, str(table.root))
        if len(dev):
            return Fold(0, 0, rest, dev, test)
    train, dev = next(stratified_folds(table, rest, 4, 1, stream.at("dev")))
    return Fold(0, 0, train, dev, test)


def given_rows(table: ImageTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of a table with parts that are for training, for the dev set (perhaps none) and for testing.

    Raises
    ------
    UserError
        When a part lacks a class.
    """
    train, dev, test = (np.flatnonzero(table.parts == part) for part in ("train", "dev", "test"))
    for part, rows in (("train", train), ("dev", dev), ("test", test)):
        missing = set(range(len(table.classes))) - set(table.labels[rows])
        if missing and (len(rows) or part != "dev"):
            name = table.classes[min(missing)]
            raise UserError(f"{table.root}: nothing of class {name} is for {part}; expected every class in each part")
    return train, dev, test


def stratified_folds(
    table: ImageTable, rows: np.ndarray, folds: int, repeats: int, stream: Stream
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Repeated stratified k-fold of some rows, with groups and copies on one side: the rest, and what is held out.

    Raises
    ------
    TooFewError
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # over a second

    labels = table.labels[rows]
    groups = None if table.unit_of is None else table.unit_of[rows]
    counts = _counts(labels, groups, len(table.classes))
    smallest = int(np.argmin(counts))
    what = f"{table.root}: {counts[smallest]} {table.units} of class {table.classes[smallest]}, the smallest class"
    what += ", without those for testing" if len(rows) < len(table) else ""
    if counts[smallest] < folds:
        raise TooFewError(f"{what}; expected at least {folds}, one for each fold")
    for repeat in range(repeats):
        splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
        seed = stream.at(f"repeat {repeat}").integer()
        for rest, held_out in splitter(folds, shuffle=True, random_state=seed).split(rows, labels, groups):
            for part in (rest, held_out):
                missing = set(range(len(table.classes))) - set(labels[part])
                if missing:
                    name = table.classes[min(missing)]
                    raise TooFewError(f"{what}; one of {folds} folds has nothing of class {name}")
            yield rows[rest], rows[held_out]


def _counts(labels: np.ndarray, groups: np.ndarray | None, n_classes: int) -> list[int]:
    """How many images, or groups of images, each class has."""
    which = [labels == label for label in range(n_classes)]
    return [int(of.sum()) if groups is None else len(set(groups[of])) for of in which]


def check_sides(table: ImageTable, parts: dict[str, np.ndarray], where: str) -> None:
    """Refuse parts that share an image, a group, or copies of an image, naming them.

    Raises
    ------
    UserError
    """
    rows = np.arange(len(table))
    units = rows if table.unit_of is None else table.unit_of
    kinds = [(rows, ""), (table.same_as, "the same image"), (units, "what copies join")]
    if table.groups is not None:
        kinds.insert(1, (table.groups, f"{table.grouped_by} "))
    for a, b in combinations(parts, 2):
        if not np.intersect1d(units[parts[a]], units[parts[b]]).size:
            continue
        for of, kind in kinds:
            shared = np.intersect1d(of[parts[a]], of[parts[b]])
            if shared.size:
                one, other = (table.files[next(row for row in parts[part] if of[row] == shared[0])] for part in (a, b))
                what = f"{kind}{shared[0]}" if of is table.groups else kind or one
                raise UserError(f"{where}: {what} is in {a} and in {b}" + (f" ({one}, {other})" if kind else ""))


def folds_of(splits: dict, root_split: int, inner_splits: int | None = None) -> list[Fold]:
    """The first `inner_splits` folds (default: all) of one root split.

    Raises
    ------
    UserError
        When the splits hold fewer than asked for.
    """
    if root_split >= len(splits["root_splits"]):
        raise UserError(f"--root-splits: expected at most {len(splits['root_splits'])}, as in the splits file")
    root = splits["root_splits"][root_split]
    nested, of = root["nested_splits"], len(splits["root_splits"])
    if inner_splits is not None and inner_splits > len(nested):
        raise UserError(f"--inner-splits {inner_splits}: expected at most {len(nested)}, as in the splits file")
    test = np.array(root["test_indices"], np.int64)
    return [
        Fold(root_split, i, np.array(n["train_indices"], np.int64), np.array(n["dev_indices"], np.int64), test, of)
        for i, n in enumerate(nested[:inner_splits])
    ]


def folds_of_all(table: ImageTable, splits: dict, inner_splits: int) -> list[Fold]:
    """Folds of all images, without a test set: for the model that is used in the end.

    They are the inner folds of one more root split, made as the file's own. Where the file has one inner fold, its dev
    set is theirs too.

    Raises
    ------
    UserError
        As :func:`common.data.make_splits`, or when the splits have fewer inner folds than asked for.
    """
    root_split, rows = len(splits["root_splits"]), np.arange(len(table))
    if inner_splits > splits["nested_folds"]:
        raise UserError(f"--inner-splits {inner_splits}: expected at most {splits['nested_folds']}")
    if splits["nested_folds"] == 1:
        dev = folds_of(splits, 0)[0].dev
        return [Fold(root_split, 0, np.setdiff1d(rows, dev), dev, rows[:0])]
    stream = Stream(splits["seed"]).at("splits", f"root {root_split}")
    halves = list(stratified_folds(table, rows, splits["nested_folds"], 1, stream))[:inner_splits]
    return [Fold(root_split, i, train, dev, rows[:0]) for i, (train, dev) in enumerate(halves)]
