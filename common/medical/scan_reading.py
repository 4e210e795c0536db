"""One medical image: from a file, or the part of it that its name says, to a picture of 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from common.data.scans import NIFTI, file_and_part
from common.medical.dicom import dicom_pixels
from common.medical.nifti import nifti_slice
from common.medical.windows import PLANES


def read_scan(source: Path | BinaryIO) -> Image.Image:
    """The picture in a DICOM or NIfTI file, grey or RGB, at full size.

    Parameters
    ----------
    source : Path or file
        With the part in its name: ``head.nii#axial=90&window=40,400``. An open file is DICOM, its first frame.

    Raises
    ------
    ValueError, and what the decoders raise
        With the reason, when this is no image or is damaged.
    UserError
        When a package is not installed.
    OSError, MemoryError
    """
    if not isinstance(source, Path):
        return Image.fromarray(dicom_pixels(source))
    path, part = file_and_part(source)
    options = dict(option.split("=") for option in part.split("&")) if part else {}
    window = [float(number) for number in options.get("window", "").split(",") if number]
    if not path.name.lower().endswith(NIFTI):
        with open(path, "rb") as file:
            return Image.fromarray(dicom_pixels(file, int(options.get("frame", 0)), window))
    plane, number = next(((name, int(options[name])) for name in PLANES if name in options), ("axial", None))
    return Image.fromarray(nifti_slice(path, plane, number, window))
