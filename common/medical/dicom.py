"""DICOM files by pydicom: their tags, and a frame as a picture of 8 bits.

Stored values become real ones by the modality LUT or rescale (PS3.3, C.11.1), then grey by the VOI LUT or window
(C.11.2); MONOCHROME1 is inverted, palettes and YBR become RGB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from common.data.scans import installed
from common.medical.windows import FUNCTIONS, as_grey, windowed
from common.state import regular

MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 27)
"""Of one frame, as Pillow's limit; more are refused before any is decoded."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
FRAMES = (0x52009229, 0x52009230)
"""Where multi-frame files keep what holds for all frames and for each."""


def import_pydicom():
    """The package pydicom, which takes values as they are, also odd ones; raises as :func:`installed`."""
    pydicom = installed("pydicom")
    installed("pydicom.pixels")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def tags_of(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Tags of a file by their keywords, those of some that are there and not empty; its values are not read.

    ``TransferSyntaxUID`` and ``SOPClassUID`` are always among them.

    Raises
    ------
    ValueError, and what pydicom raises
        When this is no DICOM file.
    """
    with open(regular(path), "rb") as file:
        head = _head(file, [*names, "SOPClassUID"])
    found = {name: str(head.get(name) or "").strip() for name in (*names, "SOPClassUID")}
    found["TransferSyntaxUID"] = str(head.file_meta.get("TransferSyntaxUID") or "")
    return {name: value for name, value in found.items() if value}


def _head(file: BinaryIO, names: list[str] | None = None):
    """All tags before the pixels, or those named."""
    pydicom = import_pydicom()
    start = file.read(1 << 16)
    if start[128:132] != b"DICM":
        raise ValueError("not a DICOM file (no DICM at byte 128)")
    if DEFLATED in start:  # pydicom would inflate it, to any size
        raise ValueError("deflated as a whole, which is not read; dcmconv +te writes it anew")
    file.seek(0)
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=names)


def dicom_pixels(file: BinaryIO, frame: int = 0, window: Sequence[float] = ()) -> np.ndarray:
    """A frame as a picture, uint8: (height, width), or (height, width, 3) where it is in colour.

    Without a window, also in the file, black is the lowest value of the frame and white the highest.

    Parameters
    ----------
    file : file, opened to read bytes
    frame : int
        From 0 on.
    window : centre and width, or nothing
        Of the values after the modality LUT, instead of the file's own; by ``LINEAR_EXACT``.

    Raises
    ------
    ValueError, and what pydicom and the decoders raise
        With the reason, when this is no image, is damaged, or is compressed in a way that nothing here decodes.
    """
    pydicom = import_pydicom()
    head = _head(file)
    _check_image(head, frame)
    stored = pydicom.pixels.pixel_array(file, index=frame)
    if head.PhotometricInterpretation == "PALETTE COLOR":
        return _eight_bits(pydicom.pixels.apply_color_lut(stored, head))
    if head.get("SamplesPerPixel", 1) > 1:
        return _eight_bits(stored[..., :3], head.BitsStored)
    values = _real(stored, head, frame)
    shades = windowed(values, window[0], window[1]) if window else _shown(values, head, frame)
    return 255 - shades if head.PhotometricInterpretation == "MONOCHROME1" else shades


def _check_image(head, frame: int) -> None:
    pydicom = import_pydicom()
    if "Rows" not in head or "Columns" not in head:
        raise ValueError(f"holds no image ({getattr(head.get('SOPClassUID'), 'name', 'of no class')})")
    if not 0 < head.Rows * head.Columns <= MOST_PIXELS:
        raise ValueError(f"expected 1 to {MOST_PIXELS} pixels, found {head.Columns} x {head.Rows}")
    if frame >= (frames := int(head.get("NumberOfFrames") or 1)):
        raise ValueError(f"expected a frame below {frames}, as many as it has, found {frame}")
    syntax = head.file_meta.get("TransferSyntaxUID")
    try:
        decoder = syntax and pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:  # what pydicom raises for a syntax that it does not know
        decoder = None
    if decoder is None or not decoder.is_available:
        found = f"{syntax.name} ({syntax})" if syntax else "none"
        raise ValueError(f"transfer syntax {found}: nothing here decodes it; dcmdjpeg or gdcmconv --raw does")


def _eight_bits(colours: np.ndarray, bits: int = 16) -> np.ndarray:
    return (colours if colours.dtype == np.uint8 else colours >> max(0, bits - 8)).astype(np.uint8)


def _group(head, frame: int, sequence: str):
    """Where a frame's tags of one kind are: its own, those of all frames, or the file's."""
    every, shared = head.get("PerFrameFunctionalGroupsSequence"), head.get("SharedFunctionalGroupsSequence")
    for group in (every[frame] if every and frame < len(every) else None, shared[0] if shared else None):
        if group is not None and group.get(sequence):
            return group[sequence][0]
    return head


def _real(stored: np.ndarray, head, frame: int) -> np.ndarray:
    tags = _group(head, frame, "PixelValueTransformationSequence")
    if tags.get("ModalityLUTSequence"):
        return _looked_up(stored, tags.ModalityLUTSequence[0])[0]
    if tags.get("RescaleSlope") is None or tags.get("RescaleIntercept") is None:
        return stored
    return stored * float(tags.RescaleSlope) + float(tags.RescaleIntercept)


def _shown(values: np.ndarray, head, frame: int) -> np.ndarray:
    tags = _group(head, frame, "FrameVOILUTSequence")
    if tags.get("VOILUTSequence"):
        shades, bits = _looked_up(values, tags.VOILUTSequence[0])
        return as_grey(shades, 0, 2**bits - 1)
    centre, width = (_first(tags.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(tags.get("VOILUTFunction") or "LINEAR")
    if centre is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-9):
        return windowed(values, centre, width, function if function in FUNCTIONS else "LINEAR")
    return as_grey(values, float(np.nanmin(values)), float(np.nanmax(values)))


def _first(value) -> float | None:
    """The first of a tag's numbers, where there is one."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return None if not several or several[0] in (None, "") else float(several[0])


def _looked_up(values: np.ndarray, item) -> tuple[np.ndarray, int]:
    """Values in a look-up table, and its bits; pydicom's own takes tables of 8 or 16 bits alone."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries, data = entries or 1 << 16, item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) <= entries + 1 else "<u2")
    table = np.atleast_1d(np.asarray(data))[:entries]
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)], bits
