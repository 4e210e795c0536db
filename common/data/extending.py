"""Splits of data that have grown or shrunk: what is known stays in its fold, what is new is dealt into the folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from common.cli import UserError
from common.data.dealing import deal
from common.data.images import ImageTable
from common.data.splitting import FOLDS, splits_record
from common.seeds import Stream


def extend_splits(table: ImageTable, formers: Sequence[dict]) -> tuple[dict, str]:
    """Splits of a table with the settings of former ones, in which known groups and images keep their folds.

    An image is known by its content, or by its name where that file has changed. New images of a known group, and
    copies of a known image, go where it is. What copies unite of several folds goes to the one that most of it was in.

    Parameters
    ----------
    formers : sequence of dict
        As :func:`common.data.make_splits` returns them, of one setting: the splits to extend, then those that they
        extend in turn, which know images that have come back.

    Returns
    -------
    splits : dict
        With ``extends``, the fingerprint of the data of the first of `formers`.
    said : str
        What has changed, in a line.

    Raises
    ------
    UserError
        When a fold would have no image of a class.
    """
    former = formers[0]
    settings = {name: former[name] for name in FOLDS}
    stream = Stream(former["seed"]).at("splits")
    known = _Known(table, formers)
    every = np.arange(len(table))
    root_splits: list[dict] = []
    was_in = np.zeros(known.n_units)
    for repeat in range(settings["root_repeats"]):
        of = slice(repeat * settings["root_folds"], (repeat + 1) * settings["root_folds"])
        parts = [[root["test_indices"] for root in other["root_splits"][of]] for other in formers]
        tests, found = known.deal(every, parts, stream.at("root", f"repeat {repeat}"), "outer fold")
        was_in = np.maximum(was_in, found)
        for test in tests:
            number, rest = len(root_splits), np.setdiff1d(every, test)
            nested: list[dict] = []
            roots = [other["root_splits"][number]["nested_splits"] for other in formers]
            for inner in range(settings["nested_repeats"]):
                of = slice(inner * settings["nested_folds"], (inner + 1) * settings["nested_folds"])
                parts = [[split["dev_indices"] for split in root[of]] for root in roots]
                place = stream.at(f"root {number}", f"repeat {inner}")
                for dev in known.deal(rest, parts, place, f"outer fold {number}, inner fold")[0]:
                    train = np.setdiff1d(rest, dev)
                    nested.append({"train_indices": train.tolist(), "dev_indices": dev.tolist()})
            root_splits.append({"test_indices": test.tolist(), "nested_splits": nested})
    splits = splits_record(table, former["seed"], settings, root_splits, False, former["fingerprint"])
    return splits, _said(table, former, was_in, root_splits)


class _Known:
    """What is known of the images of a table: in which of the former folds they were."""

    def __init__(self, table: ImageTable, formers: Sequence[dict]) -> None:
        self._table, self._formers, self._known = table, formers, _known_rows(table, formers)
        each = np.arange(len(table))
        self._units = each if table.unit_of is None else np.unique(table.unit_of, return_inverse=True)[1]
        self.n_units = int(self._units.max()) + 1

    def _votes(self, rows: np.ndarray, parts: list[list]) -> np.ndarray:
        """How many of the images of a unit were in each fold, of those in `rows`: (units, folds)."""
        votes, inside = np.zeros((self.n_units, len(parts[0]))), np.isin(np.arange(len(self._table)), rows)
        for former, of_fold, (here, there) in zip(self._formers, parts, self._known, strict=True):
            fold_at = np.full(len(former["files"]), -1)
            for fold, part in enumerate(of_fold):
                fold_at[part] = fold
            was = fold_at[there]
            voting = inside[here] & (was >= 0)
            np.add.at(votes, (self._units[here[voting]], was[voting]), 1)
        return votes

    def deal(
        self, rows: np.ndarray, parts: list[list], place: Stream, where: str
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Rows of each fold, and in how many folds each unit was; `parts` has the rows of each fold of each former."""
        votes, n_folds, classes = self._votes(rows, parts), len(parts[0]), self._table.classes
        counts, had = np.zeros((self.n_units, len(classes))), np.zeros((n_folds, len(classes)))
        np.add.at(counts, (self._units[rows], self._table.labels[rows]), 1)
        fold_of, is_known = votes.argmax(1), votes.any(1)
        np.add.at(had, fold_of[is_known], counts[is_known])
        new = np.flatnonzero(~is_known & counts.any(1))
        wanted = np.broadcast_to(np.maximum(counts.sum(0), 1) / n_folds, had.shape)
        fold_of[new] = deal(counts[new], wanted, had, place.at("extended"))
        for fold, label in np.argwhere(had == 0):
            raise UserError(
                f"{self._table.root}: no image of class {classes[label]} is in {where} {fold} when the splits of "
                f"{self._formers[0]['fingerprint'][:12]} are extended; step_3/make_dataset_splits.py --force makes "
                "others"
            )
        return [rows[fold_of[self._units[rows]] == fold] for fold in range(n_folds)], (votes > 0).sum(1)


def _known_rows(table: ImageTable, formers: Sequence[dict]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of the former splits, rows of the table that it is the first to know, and their rows in it."""
    found: list[dict[int, int]] = [{} for _ in formers]
    seen: set[int] = set()

    def look(names: Sequence[str], row_of: dict[str, int], known: dict[int, int]) -> None:
        new = {row: row_of[name] for row, name in enumerate(names) if name in row_of and row not in seen}
        known.update(new)
        seen.update(new)

    for former, known in zip(formers, found, strict=True):
        look(table.digests, {digest: row for row, digest in enumerate(former["digests"])}, known)
    there = set(table.digests)
    for former, known in zip(formers, found, strict=True):
        if not table.is_arrays:  # their names are numbers
            changed = [row for row, digest in enumerate(former["digests"]) if digest not in there]
            look(table.files, {former["files"][row]: row for row in changed}, known)
    return [(np.array([*known], np.int64), np.array([*known.values()], np.int64)) for known in found]


def _said(table: ImageTable, former: dict, was_in: np.ndarray, root_splits: list[dict]) -> str:
    before, now = Counter(former["digests"]), Counter(table.digests)
    counts = np.array([np.bincount(table.labels[r["test_indices"]], minlength=len(table.classes)) for r in root_splits])
    ranges = zip(counts.min(0), counts.max(0), table.classes, strict=True)
    tested = ", ".join(f"{low} to {high} {name}" for low, high, name in ranges)
    united = int((was_in > 1).sum())
    moved = f"; {united} of the known ones join images of several folds, and are in the fold of most of these"
    return (
        f"splits: those of data {former['fingerprint'][:12]} are extended: {(now - before).total()} "
        f"{'samples' if table.is_arrays else 'images'} added, {(before - now).total()} removed; {(was_in > 0).sum()} "
        f"known {table.units} keep their fold, {(was_in == 0).sum()} are new; an outer fold tests {tested}"
        f"{moved if united else ''}"
    )
