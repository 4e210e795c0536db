"""NIfTI files by nibabel: their slices as pictures, and whole volumes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.data.scans import installed
from common.medical.windows import PLANES, as_grey, windowed
from common.state import regular

MOST_VOXELS = 1 << 29
"""Of one volume; more are refused before any is read."""
PERCENTILES = (1, 99)
"""Of a volume's values: black and white where no window is given."""
KEPT = 4
"""Volumes that stay in memory, for their other slices."""
_one_at_a_time: dict[Path, threading.Lock] = defaultdict(threading.Lock)


def import_nibabel():
    """The package nibabel, quiet about oddities of headers; raises as :func:`common.data.scans.installed`."""
    nibabel = installed("nibabel")
    nibabel.imageglobals.logger.setLevel("ERROR")
    return nibabel


def volume_shape(path: Path) -> tuple[int, int, int]:
    """How many voxels a volume has from left to right, from back to front and from below upwards.

    Only the header is read.

    Raises
    ------
    ValueError, and what nibabel raises
        With the reason, when this is no volume of numbers, or has more than :data:`MOST_VOXELS`.
    """
    return _opened(path).shape


def _opened(path: Path):
    """The image in its nearest standard orientation, unread, of three axes."""
    nibabel = import_nibabel()
    image = nibabel.load(regular(path))
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"expected a volume of 2 or 3 axes, found the shape {' x '.join(map(str, image.shape))}")
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise ValueError(f"expected at most {MOST_VOXELS} voxels, found {' x '.join(map(str, shape))}")
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"expected real numbers, found voxels of {image.get_data_dtype()}")
    if shape != image.shape or len(shape) < 3:
        image = nibabel.four_to_three(image)[0] if len(image.shape) == 4 else _of_three_axes(image, shape)
    return nibabel.as_closest_canonical(image)


def _of_three_axes(image, shape: Sequence[int]):
    voxels = np.asanyarray(image.dataobj).reshape((*shape, *(1,) * (3 - len(shape))))
    return type(image)(voxels, image.affine)


def volume(path: Path, window: Sequence[float] = ()) -> np.ndarray:
    """All voxels as grey, uint8, in the nearest standard orientation: left to right, back to front, below upwards.

    Values are those of the file after its slope and intercept. Without a window, black is their 1st percentile and
    white their 99th.

    Parameters
    ----------
    path : Path
    window : centre and width, or nothing
    """
    stamp = path.stat()
    with _one_at_a_time[path]:
        return _volume(path, tuple(window), stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _volume(path: Path, window: tuple[float, ...], size: int, modified: int) -> np.ndarray:
    values = np.asarray(_opened(path).get_fdata(dtype=np.float32, caching="unchanged"))
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("expected numbers, found none that are finite")
    if window:
        return windowed(np.where(finite, values, -np.inf), window[0], window[1])
    low, high = np.percentile(values[finite], PERCENTILES)
    return as_grey(np.where(finite, values, low), float(low), float(high))


def nifti_slice(path: Path, plane: str, number: int | None, window: Sequence[float] = ()) -> np.ndarray:
    """A slice as grey, uint8 (height, width), as radiologists look at it: the patient's right, or front, on the left.

    Parameters
    ----------
    path : Path
    plane : {"sagittal", "coronal", "axial"}
    number : int, optional
        From 0 on; by default the middle one.
    window : centre and width, or nothing
        See :func:`volume`.

    Raises
    ------
    ValueError
        When there is no such slice, or as :func:`volume_shape`.
    """
    voxels, axis = volume(path, window), PLANES.index(plane)
    number = voxels.shape[axis] // 2 if number is None else number
    if number >= voxels.shape[axis]:
        raise ValueError(f"expected a slice below {voxels.shape[axis]}, as many as it has, found {plane}={number}")
    return np.ascontiguousarray(voxels.take(number, axis)[::-1, ::-1].T)
