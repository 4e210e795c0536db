"""Arrays beside images: an `.npz` file with `X`, `y` and perhaps `groups`, as a table of the same kind."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from common.cli import UserError
from common.data.cache import cached_array
from common.data.images import ImageTable
from common.state import regular


def load_arrays(path: Path, cached: bool = True) -> ImageTable:
    """The table of an ``.npz`` file; its rows are samples, named by their number.

    ``python -m common.eeg`` adds ``classes``, a name for each number in ``y``, ``grouped_by``, what a group is, and
    ``metadata``, how recordings were cut.

    Parameters
    ----------
    path : Path
        With ``X``, numbers of shape (n, ...), such as samples x channels x time; ``y``, n labels (integers or text);
        and optionally ``groups``, n names: samples of one group (a subject) belong on the same side of every split.
    cached : bool
        Keep the arrays under ``cache/``, where processes share them.

    Returns
    -------
    ImageTable
        With `pixels` float32 of the shape of ``X``.

    Raises
    ------
    UserError
        Naming the file and its part, what was found and what was expected.
    """
    parts = _read(path)
    x, groups = parts["X"], parts.get("groups")
    classes, labels = _classes_of(parts, path)
    width = len(str(len(x) - 1))
    files = tuple(f"{row:0{width}d}" for row in range(len(x)))
    digests = tuple(hashlib.sha256(sample.tobytes()).hexdigest() for sample in x)
    table = ImageTable(
        name=path.stem,
        root=path,
        files=files,
        labels=labels,
        classes=classes,
        groups=None if groups is None else groups.astype(str),
        digests=digests,
        cached=cached,
        grouped_by=str(parts.get("grouped_by", "group")),
        about=about_recordings(parts, path),
    )

    def make(new) -> tuple[np.ndarray, dict]:
        array = new(x.shape, "float32")
        array[:] = x
        return array, {}

    pixels, _ = cached_array(f"arrays-{table.fingerprint[:24]}", make, cached)
    object.__setattr__(table, "pixels", pixels)
    return table


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of an ``.npz`` file's arrays that are there: as ``np.load`` gives them, if the file is sound.

    Memory is taken for what a member holds, not for what its header promises; nothing is unpickled.

    Raises
    ------
    UserError
        Naming the file, the array and the reason.
    """
    arrays, member = {}, ""
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            there = archive.namelist()
            for name in names:
                if (member := f"{name}.npy") in there:
                    with archive.open(member) as file:
                        arrays[name] = _read_array(file)
    except Exception as error:  # what a damaged file raises depends on its bytes
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        expected = f"expected an .npz file with the arrays {', '.join(names)}"
        raise UserError(f"{path}: {expected} ({member and f'{member}: '}{reason})") from error
    return arrays


def _read_array(file: IO[bytes]) -> np.ndarray:
    layout = np.lib.format
    first = layout.read_magic(file) == (1, 0)
    shape, is_fortran, dtype = (layout.read_array_header_1_0 if first else layout.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError("Python objects instead of numbers or text")
    content, promised = bytearray(), math.prod(shape) * dtype.itemsize
    while len(content) <= promised and (block := file.read(1 << 20)):
        content += block
    if len(content) != promised:
        found = len(content) if len(content) < promised else "more"
        raise ValueError(f"its header promises {promised} bytes, found {found}")
    return np.ndarray(shape, dtype, content, order="F" if is_fortran else "C")


def _read(path: Path) -> dict[str, np.ndarray]:
    parts = read_npz(path, ["X", "y", "groups", "classes", "grouped_by", "metadata"])
    missing = [name for name in ("X", "y") if name not in parts]
    if missing:
        raise UserError(f"{path}: expected the arrays X and y, found no {missing[0]}")
    x = parts["X"]
    for name in ("y", "groups"):
        if name in parts and parts[name].shape != x.shape[:1]:
            raise UserError(f"{path}: {name}: expected {len(x)} values as X has, found shape {parts[name].shape}")
    if parts["y"].dtype.kind not in "iubUS":
        raise UserError(f"{path}: y: expected whole numbers or text, found {parts['y'].dtype}")
    parts["X"] = as_float32(x, path)
    return parts


def as_float32(x: np.ndarray, path: Path) -> np.ndarray:
    """Samples as networks take them, or a UserError: they are numbers, finite, and one at least."""
    if x.ndim < 2 or not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x) or len(x) == 0:
        raise UserError(f"{path}: X: expected real numbers of shape (samples, ...), found {x.dtype} of shape {x.shape}")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers.reshape(len(x), -1)).all(1))[0])
        is_large = np.isfinite(x[row]).all()
        found = f"{np.abs(x[row]).max():.3g}, too large for float32," if is_large else "nan or infinity"
        raise UserError(f"{path}: X: expected finite numbers, found {found} in sample {row}")
    return numbers


def _classes_of(parts: dict[str, np.ndarray], path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, and the label of each sample."""
    y = parts["y"]
    if "classes" not in parts:
        found, labels = np.unique(y, return_inverse=True)
        return tuple(str(label) for label in found.tolist()), labels.astype(np.int64)
    names = tuple(str(name) for name in parts["classes"].ravel().tolist())
    if y.dtype.kind not in "iu" or not set(y.tolist()) <= set(range(len(names))) or len(set(names)) < len(names):
        raise UserError(f"{path}: classes: expected a name of its own for each number in y, found {', '.join(names)}")
    return names, y.astype(np.int64)


def about_recordings(parts: dict[str, np.ndarray], path: Path) -> dict | None:
    """How the arrays of a file were made from recordings, where ``python -m common.eeg`` has written it."""
    try:
        about = json.loads(str(parts["metadata"])) if "metadata" in parts else None
    except ValueError as error:
        raise UserError(f"{path}: metadata: expected JSON, as python -m common.eeg writes it ({error})") from error
    return about if isinstance(about, dict) and "settings" in about else None
