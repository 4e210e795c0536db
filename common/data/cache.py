"""Arrays that are computed once and then read from disk, shared by all processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from common.cli import PROJECT, UserError

CACHE = PROJECT / "cache"


def cached_array(name: str, make: Callable[[], np.ndarray]) -> np.memmap:
    """The array that `make` returns, memory-mapped read-only from ``cache/<name>.npy``.

    The file appears whole or not at all, and only one process makes it; the others wait for it.
    """
    path = CACHE / f"{name}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                part = path.with_suffix(".part")
                with open(part, "wb") as file:
                    np.save(file, make())
                os.replace(part, path)
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to write the cache") from error
    return open_array(path)


def open_array(path: Path) -> np.memmap:
    """A memory-mapped array of :func:`cached_array`."""
    return np.load(path, mmap_mode="r")
