"""Whether splits are those of the data, whole, and share nothing between their parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.data.folding import check_sides, folds_of
from common.data.images import ImageTable


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what reading a splits file may raise into one line with its path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: not a splits file ({type(error).__name__}: {error}); step_3/make_dataset_splits.py makes one"
        ) from error


def check_same_files(table: ImageTable, files: Iterable[str], path: Path) -> None:
    """Refuse a file that names other files than those of a table."""
    for kind, names in (
        ("not listed", set(table.files) - {*files}),
        ("listed, but no image", {*files} - {*table.files}),
    ):
        if names:
            raise UserError(f"{path}: {min(names)} of {table.root} is {kind} ({len(names)} such files)")


def check_same_data(table: ImageTable, splits: dict, path: Path) -> None:
    """Refuse splits of other data, saying what differs."""
    if splits["fingerprint"] == table.fingerprint:
        return
    saved = dict(zip(splits["files"], splits["digests"], strict=True))
    found = dict(zip(table.files, table.digests, strict=True))
    kinds = {
        "missing": sorted(saved.keys() - found.keys()),
        "new": sorted(found.keys() - saved.keys()),
        "changed": sorted(name for name in saved.keys() & found.keys() if saved[name] != found[name]),
    }
    differs = ", ".join(f"{len(names)} {kind} ({names[0]})" for kind, names in kinds.items() if names)
    raise UserError(
        f"{path}: made for other data than {table.root}: {differs or 'labels or groups changed'}; "
        "step_3/make_dataset_splits.py extends them to these data, and keeps them"
    )


def check_folds(table: ImageTable, splits: dict, path: Path) -> None:
    """Refuse splits that share an image or a group between parts, or do not test each image once per repeat."""
    tested = np.zeros(len(table), int)
    for fold in (fold for root in range(len(splits["root_splits"])) for fold in folds_of(splits, root)):
        where = f"{path}: root split {fold.root_split}, nested split {fold.inner_split}"
        parts = {"train": fold.train, "dev": fold.dev, "test": fold.test}
        for name, rows in parts.items():
            if rows.size == 0 or rows.min() < 0 or rows.max() >= len(table) or len(set(rows.tolist())) < rows.size:
                raise UserError(f"{where}: {name} is empty, repeats an index, or has one outside 0-{len(table) - 1}")
        check_sides(table, parts, where)
        if fold.inner_split == 0:
            tested[fold.test] += 1
    wrong = np.flatnonzero(tested != splits["root_repeats"])
    if wrong.size and not splits.get("given"):
        raise UserError(
            f"{path}: {table.files[wrong[0]]} is tested {tested[wrong[0]]} times; "
            f"expected once in each of the {splits['root_repeats']} repeats"
        )
