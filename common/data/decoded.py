"""The images of a table as digests and as pixels: each file is read once, by several threads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.cli import UserError
from common.data.cache import New
from common.data.decoding import read_image
from common.data.scans import decoders, file_and_part
from common.progress import in_threads
from common.state import regular

if TYPE_CHECKING:
    from common.data.images import ImageTable


def digest_files(root: Path, files: list[str]) -> tuple[str, ...]:
    """SHA-256 (hex) of the bytes of each file, or of its digest and the part of it that an image is."""

    def digest(name: str) -> str:
        try:
            with open(regular(root / name), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, PermissionError):
            return hashlib.sha256(f"unreadable: {name}".encode()).hexdigest()  # who decodes it says why
        except OSError as error:
            raise UserError(f"{root / name}: {error.strerror}") from error

    places = [file_and_part(Path(name)) for name in files]
    once = list(dict.fromkeys(str(file) for file, _ in places))
    of_file = dict(zip(once, in_threads(digest, once, "reading files"), strict=True))
    return tuple(
        hashlib.sha256(f"{of_file[str(file)]}#{part}".encode()).hexdigest() if part else of_file[str(file)]
        for file, part in places
    )


def cache_name(table: ImageTable, size: int) -> str:
    """How the pixels of a table at `size` x `size` are called under ``cache/``: by data, size and decoders."""
    return f"images-{table.fingerprint[:24]}-{size}-{decoders(table.has_scans)}"


def decode_all(table: ImageTable, size: int, new: New) -> tuple[np.ndarray, dict]:
    """Decode all images of a table.

    Parameters
    ----------
    table : ImageTable
    size : int
        Pixels per side.
    new : callable
        Makes an array of a shape and a dtype, to be filled.

    Returns
    -------
    pixels : ndarray of uint8, shape (n, C, size, size)
        Without those that cannot be read; C is 1 where all images are grey, else 3.
    notes : dict
        ``unreadable``: reasons, by file.
    """
    pixels = new((len(table), 3, size, size), "uint8")
    unreadable: dict[str, str] = {}
    coloured: set[int] = set()

    def read(row: int) -> None:
        try:
            image = pixels[row] = read_image(table.root / table.files[row], size)
        except ValueError as error:
            unreadable[table.files[row]] = str(error)
        else:
            if (image != image[:1]).any():
                coloured.add(row)

    for _ in in_threads(read, range(len(table)), "decoding images"):
        pass
    for row in [row for row, file in enumerate(table.files) if unreadable.pop(file, None)]:
        read(row)  # again and alone: others may have taken the memory
    channels = 3 if coloured else 1
    if unreadable or channels == 1:
        kept = [i for i, file in enumerate(table.files) if file not in unreadable]
        every, pixels = pixels, new((len(kept), channels, size, size), "uint8")
        for row, i in enumerate(kept):
            pixels[row] = every[i, :channels]
    return pixels, {"unreadable": dict(sorted(unreadable.items()))}
