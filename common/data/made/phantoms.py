"""The embedded medical data set: slices through heads with and without a lesion, after Shepp and Logan's phantom."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.data.made.heads import a_patient, draw_slice
from common.data.made.raster import between
from common.seeds import Stream
from common.state import whole_folder

CLASSES = ("healthy", "lesion")


class Slice(NamedTuple):
    """A slice through a head: which patient's and which of these, its class, and uint8 (size, size)."""

    patient: int
    number: int
    name: str
    pixels: np.ndarray


def make_phantoms(folder: Path, n_patients: int = 150, n_slices: int = 4, size: int = 128, seed: int = 0) -> None:
    """Draw slices through heads into `folder`: every second patient has a lesion, which each of the slices cuts.

    Writes ``<class>/patient_<number>_<slice>.png`` (8 bits, grey) for the classes ``healthy`` and ``lesion``, and
    ``groups.csv`` (`files`, relative to `folder`, and `group`, the patient). The same arguments give the same bytes on
    every machine. The folder appears when it is complete and not before.

    The heads follow the modified phantom of Shepp and Logan (IEEE Trans. Nucl. Sci. 21, 1974; Toft, The Radon
    Transform, DTU, 1996), made of ellipsoids that differ from patient to patient.

    Parameters
    ----------
    folder : Path
        Must not exist yet, or be empty.
    n_patients, n_slices : int
        At least 2, and at least 1.
    size : int
        Pixels per side.
    seed : int
        Non-negative.

    Raises
    ------
    OSError
        If `folder` holds something or cannot be written.
    """
    rows = []
    with (
        whole_folder(folder) as scratch,
        tqdm(total=n_patients * n_slices, desc="drawing heads", unit="slice", disable=None) as bar,
    ):
        for name in CLASSES:
            (scratch / name).mkdir()
        for patient, number, name, pixels in draw_phantoms(n_patients, n_slices, size, seed):
            file = f"{name}/patient_{patient:03d}_{number}.png"
            (scratch / file).write_bytes(grey_png(pixels))
            rows.append(f"{file},patient_{patient:03d}\n")
            bar.update()
        (scratch / "groups.csv").write_text("files,group\n" + "".join(sorted(rows)), newline="\n")


def draw_phantoms(n_patients: int, n_slices: int, size: int, seed: int) -> Iterator[Slice]:
    """The slices of :func:`make_phantoms`, patient by patient."""
    for number in range(n_patients):
        stream = Stream(seed).at("phantoms", str(number))
        lesion = number % 2 == 1
        patient = a_patient(stream.numpy(), lesion)
        for i in range(n_slices):
            rng = stream.at(str(i)).numpy()
            level = patient.level + 0.2 * ((i + between(rng, 0.2, 0.8)) / n_slices - 0.5)
            yield Slice(number, i, CLASSES[lesion], draw_slice(patient, level, rng, size))


def grey_png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels, shape (height, width), stored without compression (RFC 2083, RFC 1951).

    What zlib compresses has other bytes in other versions of it.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    blocks = [lines[i : i + 65535] for i in range(0, len(lines), 65535)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), 65535 - len(block)) + block
        for number, block in enumerate(blocks, 1)
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(lines))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
