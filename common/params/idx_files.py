"""The four idx files that MNIST and Fashion-MNIST come in, checked as they are read."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.state import regular

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
"""The images and the labels of each split; for ``t10k-`` there may be ``test-``."""

MOST_PIXELS = 4096
"""Per side; the header of a damaged file may say any size."""


def files_of(folder: Path, split: str) -> list[Path]:
    """The images and the labels of the split ``train`` or ``test``, by the names that they have in a folder.

    Raises
    ------
    UserError
        When both names of a file are there: which of them counts is not known.
    """
    found = []
    for name in FILES[split]:
        paths = [folder / name, folder / name.replace("t10k-", "test-")]
        there = [path for path in paths if path.exists()]
        if paths[0] != paths[1] and len(there) > 1:
            raise UserError(f"{folder}: expected either {paths[0].name} or {paths[1].name}, found both")
        found.append(there[0] if there else paths[0])
    return found


def read_idx(path: Path, n_dimensions: int) -> np.ndarray:
    """The bytes of one gzipped idx file.

    Parameters
    ----------
    n_dimensions : int
        3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        Shape (n, height, width) or (n,), with n at least 1.

    Raises
    ------
    UserError
        When the file is missing, damaged, cut short, too long, or holds something else.
    """
    try:
        with gzip.open(regular(path)) as file:
            shape = _read_header(path, file.read(4 * (n_dimensions + 1)), n_dimensions)
            expected, content = math.prod(shape), bytearray()
            while len(content) <= expected and (block := file.read(min(1 << 20, expected + 1 - len(content)))):
                content += block
    except OSError as error:  # BadGzipFile too
        raise UserError(f"{path}: {error.strerror or f'not a sound gzip file ({error})'}") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error})") from error
    if len(content) != expected:
        found = f"{len(content)} bytes" if len(content) < expected else "more"
        raise UserError(f"{path}: its header promises {' x '.join(map(str, shape))} bytes, found {found} after it")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_header(path: Path, header: bytes, n_dimensions: int) -> tuple[int, ...]:
    magic = bytes([0, 0, 8, n_dimensions])
    if header[:4] != magic:
        raise UserError(
            f"{path}: expected an idx file of bytes in {n_dimensions} dimensions, which begins with {magic.hex()}, "
            f"found {header[:4].hex() or 'nothing'}"
        )
    if len(header) != 4 * (n_dimensions + 1):
        raise UserError(f"{path}: cut short in its header, after {len(header)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4")[1:])
    if 0 in shape or max(shape[1:], default=1) > MOST_PIXELS:
        raise UserError(
            f"{path}: its header says {' x '.join(map(str, shape))}, expected at least one item, "
            f"and images of 1 to {MOST_PIXELS} pixels per side"
        )
    return shape


def read_split(folder: Path, split: str, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, height, width) and labels (n,), uint8, of the split ``train`` or ``test``.

    Raises
    ------
    UserError
        As :func:`read_idx` does, and when images and labels do not belong together or a label has no class.
    """
    images_file, labels_file = files_of(folder, split)
    labels = read_idx(labels_file, 1)
    images = read_idx(images_file, 3)
    if len(images) != len(labels):
        raise UserError(f"{labels_file}: {len(labels)} labels for the {len(images)} images of {images_file.name}")
    if labels.max() >= len(classes):
        row = int(np.argmax(labels >= len(classes)))
        raise UserError(f"{labels_file}: label {labels[row]} at {row}, expected 0 to {len(classes) - 1}")
    return images, labels
