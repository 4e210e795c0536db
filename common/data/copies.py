"""Copies: which images have equal pixels, whatever their files are, and what splits keep on one side because of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import numpy as np

from common.data.cache import cached_array
from common.data.decoding import digest_pixels
from common.progress import in_threads


def first_copies(
    root: Path, files: tuple[str, ...], digests: tuple[str, ...], pixels: np.ndarray | None, key: str, cached: bool
) -> np.ndarray:
    """For each image the row of the first one with the same pixels at full size: its own, or one before it.

    Equal digests are equal images. Of the others, files are decoded only where `pixels` are equal: copies look alike at
    any size. What was found of them is kept under ``cache/``.

    Parameters
    ----------
    root : Path
        The folder of the files; where it is none, the digests are of the pixels or arrays themselves.
    pixels : ndarray of uint8, shape (n, C, size, size), or None
        Decoded images; where they are not, all files are, and one that cannot be read is compared by its bytes.
    key : str
        Of what is kept: the fingerprint of the data, and what decodes them.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    UserError
        When a file cannot be read any more.
    """
    first = _first_rows(digests)
    if not root.is_dir():
        return first
    alike = _look_alikes(pixels, np.unique(first))
    if not len(alike):
        return first

    def make(new) -> tuple[np.ndarray, dict]:
        def digest(row: int) -> str:
            try:
                return digest_pixels(root / files[row])
            except ValueError:
                return digests[row]

        of_row = dict(zip(alike, in_threads(digest, alike, "comparing images"), strict=True))
        found = new(first.shape, "int64")
        found[:] = _first_rows([of_row.get(row, row) for row in first.tolist()])
        return found, {}

    return cached_array(f"copies-{key}", make, cached)[0]


def united(groups: np.ndarray | None, first: np.ndarray) -> np.ndarray | None:
    """What splits keep on one side: a number for each row, equal where rows are of one group, or copies lead there.

    Parameters
    ----------
    groups : ndarray, shape (n,), or None
        The group of each row; None where each is by itself.
    first : ndarray of int64, shape (n,)
        As :func:`first_copies` returns it.

    Returns
    -------
    ndarray of int64, shape (n,), or None
        In the order of the groups' names; None where each row is by itself.
    """
    rows = np.arange(len(first))
    copies = np.flatnonzero(first != rows)
    if groups is None and not copies.size:
        return None
    units = rows if groups is None else np.unique(groups, return_inverse=True)[1]
    for row in copies:
        low, high = sorted((units[row], units[first[row]]))
        if low != high:
            units[units == high] = low
    return units


def _look_alikes(pixels: np.ndarray | None, rows: np.ndarray) -> list[int]:
    """Those of some rows that may be copies: their middle lines are equal, and then all that there is of them."""
    if pixels is None:
        return rows.tolist() if len(rows) > 1 else []
    middle = pixels.shape[2] // 2
    some = _repeated(rows.tolist(), lambda row: pixels[row, :, middle].tobytes())
    return _repeated(some, lambda row: hashlib.sha256(pixels[row].tobytes()).digest())


def _repeated(rows: Iterable[int], key_of: Callable[[int], Hashable]) -> list[int]:
    found = defaultdict(list)
    for row in rows:
        found[key_of(row)].append(row)
    return sorted(row for same in found.values() if len(same) > 1 for row in same)


def _first_rows(keys: Iterable[Hashable]) -> np.ndarray:
    """For each key, where it comes first."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
