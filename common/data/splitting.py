"""Nested cross-validation splits of a table are made: as many folds as are asked for, or as there are images for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from common.cli import UserError
from common.data.folding import TooFewError, given_rows, stratified_folds
from common.data.images import ImageTable
from common.seeds import Stream

FOLDS = ("root_folds", "root_repeats", "nested_folds", "nested_repeats")
"""The settings of splits, besides their seed."""
USUAL = [(10, 10), *((folds, folds - 1) for folds in range(10, 2, -1))]
"""Root and nested folds, unless told otherwise: the first that there are enough images or groups for."""

MORE = "python -m common.eeg --groups block makes more groups: stretches of each recording"


def make_splits(
    table: ImageTable,
    stream: Stream,
    root_folds: int | None = None,
    root_repeats: int = 1,
    nested_folds: int | None = None,
    nested_repeats: int = 1,
) -> dict:
    """Nested cross-validation splits: repeated stratified k-fold at both levels, with groups and copies on one
    side.

    Where no number of folds is given, it is ten, or as many as there are groups for: with eight subjects 8 and 7. A
    table whose parts are given has them: one root split, and one nested split or, without a dev set, nested folds.

    Returns
    -------
    dict
        What :func:`save_splits` writes: ``files``, ``digests``, ``fingerprint``, the settings, ``given`` (whether the
        splits come from elsewhere, so that not every image need be tested), perhaps ``extends`` (the fingerprint of
        the data whose splits :func:`common.data.extending.extend_splits` was given), and ``root_splits``, a list of
        ``{"test_indices": [...], "nested_splits": [{"train_indices": [...], "dev_indices": [...]}, ...]}`` with rows
        of ``files``.

    Raises
    ------
    UserError
        When a class has fewer images (or groups) than there are folds, saying how many folds there can be.
    """

    def split(root_folds: int, nested_folds: int, root_repeats: int = 1, nested_repeats: int = 1) -> dict:
        root_splits: list[dict] = []
        if table.parts is None:
            roots = stratified_folds(table, np.arange(len(table)), root_folds, root_repeats, stream.at("root"))
        else:
            train, dev, test = given_rows(table)
            roots, root_folds, root_repeats = iter([(train, test)]), 1, 1
            nested_folds, nested_repeats = (1, 1) if len(dev) else (nested_folds, nested_repeats)
        for rest, test in roots:
            inner = stream.at(f"root {len(root_splits)}")
            halves = (
                stratified_folds(table, rest, nested_folds, nested_repeats, inner)
                if nested_folds > 1
                else [(rest, dev)]
            )
            nested = [{"train_indices": train.tolist(), "dev_indices": dev.tolist()} for train, dev in halves]
            root_splits.append({"test_indices": test.tolist(), "nested_splits": nested})
        settings = dict(zip(FOLDS, (root_folds, root_repeats, nested_folds, nested_repeats), strict=True))
        return splits_record(table, stream.root_seed, settings, root_splits, table.parts is not None)

    refused: TooFewError | None = None
    asked = [(root_folds or roots, nested_folds or nested) for roots, nested in USUAL]
    for folds in dict.fromkeys(asked):
        try:
            return split(*folds, root_repeats, nested_repeats)
        except TooFewError as error:
            refused = error
    raise UserError(f"{refused}; {_what_works(table, split, *asked[0])}")


def splits_record(
    table: ImageTable,
    seed: int,
    settings: dict[str, int],
    root_splits: list[dict],
    given: bool,
    extends: str | None = None,
) -> dict:
    """What a splits file holds, see :func:`make_splits`."""
    return {
        "data": table.name,
        "fingerprint": table.fingerprint,
        "seed": seed,
        **settings,
        **({"given": True} if given else {}),
        **({"extends": extends} if extends else {}),
        "files": list(table.files),
        "digests": list(table.digests),
        "root_splits": root_splits,
    }


def _what_works(table: ImageTable, split: Callable[[int, int], dict], root_folds: int, nested_folds: int) -> str:
    """The most folds that a table has enough images for, as flags."""
    most = int(np.bincount(table.labels).min())
    for roots in range(min(root_folds, most), 1, -1):
        for nested in range(min(nested_folds, most), 1, -1):
            with contextlib.suppress(TooFewError):
                split(roots, nested)
                return (
                    f"the most that works is step_3/make_dataset_splits.py --root-folds {roots} --nested-folds {nested}"
                )
    more = f"; {MORE}" if table.is_arrays and table.groups is not None else ""
    return f"no number of folds works: nested folds take three of each class{more}"
