"""Whole volumes as arrays, for a network of one's own: an `.npz` file like any other, see :mod:`common.data.arrays`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import UserError, writing
from common.data.scans import NIFTI, UNSURE, file_and_part
from common.medical.nifti import volume
from common.progress import in_threads
from common.state import whole_file


def save_volumes(source: str, path: Path, shape: Sequence[int], window: Sequence[float] = ()) -> str:
    """Write the volumes of NIfTI files as ``X``, float32 (n, 1, depth, height, width) in [0, 1], with ``y`` and groups.

    Depth goes from below upwards; each of its slices is as a slice is shown. A volume is brought to the shape by the
    means of its parts.

    Parameters
    ----------
    source : str
        A folder as ``--data`` takes it.
    path : Path
        Written whole or not at all.
    shape : three ints
        Depth, height and width, in voxels.
    window : centre and width, or nothing
        See :func:`common.medical.nifti.volume`; the one of ``medical.toml`` by default.

    Returns
    -------
    str
        What was written, in one line.

    Raises
    ------
    UserError
        Naming the file, what was found and what was expected.
    """
    from common.data import find_images
    from common.medical.windows import medical_settings

    table = find_images(source)
    rows: dict[str, int] = {}
    for row, image in enumerate(table.files):
        rows.setdefault(file_and_part(Path(image))[0].as_posix(), row)
    strays = [file for file in rows if not file.lower().endswith(NIFTI)]
    if strays:
        raise UserError(f"{table.root / strays[0]}: expected NIfTI files; dcm2niix makes one of a DICOM series")
    window = window or medical_settings(table.root)["window"] or ()

    def read(file: str) -> np.ndarray:
        try:
            return _resized(volume(table.root / file, window), shape)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # what a damaged file raises depends on its bytes
            raise UserError(f"{table.root / file}: not a readable image ({error})") from error

    x = np.stack(list(in_threads(read, list(rows), "reading volumes")))[:, None]
    chosen = list(rows.values())
    parts: dict[str, Any] = {"X": x, "y": table.labels[chosen], "classes": np.array(table.classes)}
    if table.groups is not None and table.grouped_by not in UNSURE:
        parts |= {"groups": table.groups[chosen], "grouped_by": np.array(table.grouped_by)}
    with writing(path), whole_file(path) as out:
        np.savez(out, **parts)
    of = f" of {len(set(parts['groups']))} {table.grouped_by}s" if "groups" in parts else ""
    return f"{path}: {len(x)} volumes{of}, each {' x '.join(map(str, x.shape[1:]))}"


def _resized(voxels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    import torch
    from torch.nn.functional import adaptive_avg_pool3d

    shown = np.ascontiguousarray(voxels[::-1, ::-1].T)  # as slices are shown, from below upwards
    depth, height, width = shape
    return adaptive_avg_pool3d(torch.from_numpy(shown).float()[None] / 255, (depth, height, width))[0].numpy()
