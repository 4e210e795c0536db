"""Arrays beside images: an `.npz` file with `X`, `y` and perhaps `groups`, as a table of the same kind."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.data.cache import cached_array
from common.data.images import ImageTable


def load_arrays(path: Path, cached: bool = True) -> ImageTable:
    """The table of an ``.npz`` file; its rows are samples, named by their number.

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
    x, y, groups = parts["X"], parts["y"], parts.get("groups")
    names = [str(label) for label in y.tolist()]
    classes = tuple(str(label) for label in np.unique(y).tolist())
    width = len(str(len(x) - 1))
    files = tuple(f"{row:0{width}d}" for row in range(len(x)))
    digests = tuple(hashlib.sha256(sample.tobytes()).hexdigest() for sample in x)
    if groups is None and len(set(digests)) < len(digests):
        groups = np.array(digests)
    table = ImageTable(
        name=path.stem,
        root=path,
        files=files,
        labels=np.array([classes.index(name) for name in names], np.int64),
        classes=classes,
        groups=None if groups is None else groups.astype(str),
        digests=digests,
        cached=cached,
    )

    def make(new) -> tuple[np.ndarray, dict]:
        array = new(x.shape, "float32")
        array[:] = x
        return array, {}

    pixels, _ = cached_array(f"arrays-{table.fingerprint[:24]}", make, cached)
    object.__setattr__(table, "pixels", pixels)
    return table


def metadata_of(path: Path) -> dict[str, object]:
    """What an ``.npz`` file says of itself under ``metadata``, as JSON; empty if it says nothing."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["metadata"])) if "metadata" in file else {}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return {}


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in ("X", "y", "groups") if name in file}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected an .npz file with the arrays X, y and groups ({error})") from error
    missing = [name for name in ("X", "y") if name not in parts]
    if missing:
        raise UserError(f"{path}: expected the arrays X and y, found no {missing[0]}")
    x = parts["X"]
    if x.ndim < 2 or not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x) or len(x) == 0:
        raise UserError(f"{path}: X: expected real numbers of shape (samples, ...), found {x.dtype} of shape {x.shape}")
    for name in ("y", "groups"):
        if name in parts and parts[name].shape != x.shape[:1]:
            raise UserError(f"{path}: {name}: expected {len(x)} values as X has, found shape {parts[name].shape}")
    if parts["y"].dtype.kind not in "iubUS":
        raise UserError(f"{path}: y: expected whole numbers or text, found {parts['y'].dtype}")
    parts["X"] = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(parts["X"]).all():
        row = int(np.flatnonzero(~np.isfinite(parts["X"].reshape(len(x), -1)).all(1))[0])
        raise UserError(f"{path}: X: expected finite numbers, found nan or infinity in sample {row}")
    return parts
