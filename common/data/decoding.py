"""One image at a time: from the bytes of a file to pixels, and back."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.cli import UserError
from common.data.scans import is_dicom, is_scan, scan_image
from common.state import regular

T = TypeVar("T")
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What photos may be: formats that Pillow decodes itself. It would start Ghostscript for EPS."""
PLENTY = 1 << 30
"""Bytes that must be free, though not used, for an image to count as damaged."""


def read_image(path: Path, size: int) -> np.ndarray:
    """Decode one image file, or a part of one as :mod:`common.data.scans` names it; see :func:`decode_image`.

    Raises
    ------
    UserError
        When the system does not give its bytes or the memory, which says nothing of the image.
    """
    return _of_file(path, lambda image: _square(image, size, 3))


def digest_pixels(path: Path) -> str:
    """SHA-256 (hex) of an image at full size, with its shape: equal for equal pixels, whatever the files.

    Raises
    ------
    ValueError, UserError
        As :func:`read_image`.
    """

    def digest(image: Image.Image) -> str:
        return hashlib.sha256(b"%d %d " % image.size + image.tobytes()).hexdigest()

    return _of_file(path, digest)


def read_whole(path: Path) -> np.ndarray:
    """Decode one image file at full size: uint8 (C, height, width), with C 1 where it is grey, else 3.

    Raises
    ------
    ValueError, UserError
        As :func:`read_image`.
    """
    pixels = _of_file(path, np.asarray).transpose(2, 0, 1)
    return pixels if (pixels != pixels[:1]).any() else pixels[:1]


def png_of(path: Path) -> bytes:
    """An image file as PNG, at full size: the picture, without the tags of its file; raises as :func:`read_whole`."""
    return as_png(read_whole(path))


def _of_file(path: Path, function: Callable[[Image.Image], T]) -> T:
    try:
        return _of_image(path if is_scan(path) else regular(path).read_bytes(), function)
    except MemoryError as error:
        raise UserError(f"{path}: not enough memory to read this image; expected more, or smaller images") from error
    except (FileNotFoundError, PermissionError) as error:  # a link to nowhere, or a file of somebody else
        raise ValueError(error.strerror) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def decode_image(content: bytes, size: int, channels: int = 3) -> np.ndarray:
    """Decode an image in one of :data:`FORMATS`, or DICOM: centre square, resized to `size`, RGB, or grey.

    Returns
    -------
    ndarray of uint8, shape (channels, size, size)

    Raises
    ------
    ValueError
        With the reason, when this is no image, is damaged, or has a pixel type without a plain meaning in 8 bits.
    MemoryError, OSError
        When the system is short of memory or of something else, which says nothing of the image.
    """
    return _of_image(content, lambda image: _square(image, size, channels))


def _square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    square = ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    if channels == 1:
        return np.asarray(square.convert("L"))[None]  # the one value of R, G and B where these are equal
    return np.asarray(square).transpose(2, 0, 1)


def _of_image(content: bytes | Path, function: Callable[[Image.Image], T]) -> T:
    """What a function makes of an image, RGB at full size; of the bytes of a file, or of a medical one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(content, Path) or is_dicom(content):
                return function(
                    scan_image(content if isinstance(content, Path) else io.BytesIO(content)).convert("RGB")
                )
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"pixel type {image.mode} (32 bits) has no fixed range")
        return function(ImageOps.exif_transpose(image).convert("RGB"))
    except (UserError, ModuleNotFoundError):  # what decodes it is not installed
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"not a readable image (expected one of {', '.join(FORMATS)})") from error
    except Exception as error:  # decoders raise errors of many types on damaged files
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        np.empty(PLENTY, np.uint8)  # some decoders call a shortage of memory damage: is there enough of it?
        raise ValueError(f"not a readable image ({error})") from error


def as_png(pixels: np.ndarray) -> bytes:
    """An image, uint8 (C, height, width) with C 1 or 3, as the bytes of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(content, "PNG")
    return content.getvalue()
