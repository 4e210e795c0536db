"""Arrays that are computed once and then read from disk, shared by all processes."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.locks import locked
from common.state import cache_folder

CHUNK = 1 << 24
"""Bytes read at a time when an array is checked."""

New = Callable[[tuple[int, ...], str], np.ndarray]


def cached_array(
    name: str, make: Callable[[New], tuple[np.ndarray, dict]], keep: bool = True
) -> tuple[np.ndarray, dict]:
    """An array with notes about it, memory-mapped read-only from ``cache/<name>.npy`` and ``.json``.

    The files appear whole or not at all, and only one process makes them; the others wait for it. The first time that
    a process asks for an array it is compared with its checksum, and made again when it is damaged or incomplete.

    Parameters
    ----------
    make : callable
        Gets ``new(shape, dtype)``, which gives arrays of zeros on disk to fill, and returns one of them, filled, with
        a dict that JSON can hold.
    keep : bool
        False for an array in memory, without reading or writing the cache.

    Raises
    ------
    UserError
        When the cache cannot be written.
    """
    if not keep:
        return make(np.zeros)
    path = cache_folder() / f"{name}.npy"
    try:
        with locked(path):
            notes = _notes_if_sound(path)
            if notes is None:
                notes = _make(path, make)
    except OSError as error:
        reason = "no permission to write" if isinstance(error, PermissionError) else error.strerror or error
        raise UserError(f"{error.filename or path}: {reason}; --no-cache does without the cache, in memory") from error
    return open_array(path), notes


def open_array(path: Path) -> np.memmap:
    """A memory-mapped array of :func:`cached_array`."""
    return np.load(path, mmap_mode="r")


def copied_array(path: Path) -> np.ndarray:
    """A memory-mapped array of another cache, copied into this one."""

    def make(new: New) -> tuple[np.ndarray, dict]:
        array, notes = open_array(path), json.loads(path.with_suffix(".json").read_text())
        copy = new(array.shape, str(array.dtype))
        copy[:] = array
        return copy, {name: value for name, value in notes.items() if name != "checksum"}

    return cached_array(path.stem, make)[0]


def _make(path: Path, make: Callable[[New], tuple[np.ndarray, dict]]) -> dict:
    parts = []

    def new(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        parts.append(path.with_suffix(f".part{len(parts)}"))
        array = np.lib.format.open_memmap(parts[-1], mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, but would kill the process later
            with open(parts[-1], "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, parts[-1].stat().st_size)
        return array

    try:
        array, notes = make(new)
        array.flush()
        part, beside = Path(array.filename), path.with_suffix(".json.part")
        beside.write_text(json.dumps({"checksum": _checksum(part), **notes}))
        path.with_suffix(".json").unlink(missing_ok=True)
        os.replace(part, path)
        os.replace(beside, path.with_suffix(".json"))
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return notes


def _notes_if_sound(path: Path) -> dict | None:
    try:
        notes = json.loads(path.with_suffix(".json").read_text())
        found = path.stat()
        if _checksum_once(path, found.st_size, found.st_mtime_ns) == notes.pop("checksum"):
            return notes
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


@lru_cache(maxsize=64)
def _checksum_once(path: Path, size: int, modified: int) -> int:
    return _checksum(path)


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            checksum = zlib.crc32(block, checksum)
    return checksum
