"""From the values of a medical image to 256 shades of grey, and the settings of `medical.toml`, which choose them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import UserError
from common.cli.toml_files import read_toml
from common.data.scans import SETTINGS_FILE

PLANES = ("sagittal", "coronal", "axial")
"""The planes of a volume, by the axis that they cut: from left to right, from back to front, from below upwards."""
DEFAULTS: dict[str, Any] = {"axis": "axial", "slices": "middle", "frames": "all", "window": None}
"""What `medical.toml` may hold: `axis` and `slices` of NIfTI files, `frames` of DICOM files, and a `window` for all."""
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR_EXACT") -> np.ndarray:
    """Values as grey, uint8, in a window: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.

    Parameters
    ----------
    values : ndarray of numbers, any shape
    centre, width : float
        Width above 0; of ``LINEAR`` at least 1.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
    """
    values = np.asarray(values, np.float64)
    if function == "SIGMOID":
        return as_grey(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), 0, 1)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return np.where(values > centre, np.uint8(255), np.uint8(0))
    return as_grey(values, centre - width / 2, centre + width / 2)


def as_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as grey, uint8: black up to `low`, white from `high` on; black where both are equal."""
    shares = (np.asarray(values, np.float64) - low) / ((high - low) or np.inf)
    return np.rint(255 * np.clip(np.nan_to_num(shares, posinf=1, neginf=0), 0, 1)).astype(np.uint8)


def medical_settings(folder: Path) -> dict[str, Any]:
    """The settings in the ``medical.toml`` of a folder, or of the one above it; else :data:`DEFAULTS`.

    Raises
    ------
    UserError
        Naming the file and the field, what was found and what was expected.
    """
    path = next((where / SETTINGS_FILE for where in (folder, folder.parent) if (where / SETTINGS_FILE).exists()), None)
    if path is None:
        return dict(DEFAULTS)
    found = read_toml(path, DEFAULTS)
    for name, value in found.items():
        if expected := _not_as_expected(name, value):
            raise UserError(f"{path}: {name}: expected {expected}, found {value!r}")
    return {**DEFAULTS, **found}


def _not_as_expected(name: str, value: Any) -> str | None:
    """What a setting should be, where it is not."""
    if name == "axis":
        return None if value in PLANES else f"one of {', '.join(PLANES)}"
    are_numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if name == "window":
        is_right = are_numbers and len(value) == 2 and np.isfinite(value).all() and value[1] > 0
        return None if is_right else "[centre, width], two numbers, the width above 0"
    is_right = value in ("middle", "all") or (isinstance(value, str) and re.fullmatch("every [1-9][0-9]{0,5}", value))
    is_right = is_right or (value and are_numbers and all(type(n) is int and n >= 0 for n in value))
    return None if is_right else '"middle", "all", "every 10", or a list of numbers from 0 on'


def chosen(which: Any, count: int) -> Sequence[int]:
    """Which of some slices or frames a setting chooses; numbers from 0 on.

    Raises
    ------
    ValueError
        When there is none of that number.
    """
    if which == "all":
        return range(count)
    if which == "middle":
        return [count // 2]
    if isinstance(which, str):
        step = int(which.split()[1])
        return range(min(step // 2, count // 2), count, step)
    numbers = sorted(set(which))
    if numbers[-1] >= count:
        raise ValueError(
            f"expected slices or frames below {count}, as many as it has; {SETTINGS_FILE} says {numbers[-1]}"
        )
    return numbers


def window_part(settings: Mapping[str, Any]) -> str:
    """The window of some settings as it stands in an image's name: ``window=40,400``, or nothing."""
    window = settings["window"]
    return f"window={window[0]:.12g},{window[1]:.12g}" if window else ""
