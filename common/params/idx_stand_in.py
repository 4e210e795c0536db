"""A stand-in for MNIST-like downloads: scikit-learn's handwritten digits in the same four files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from common.cli import UserError
from common.params.idx_files import FILES
from common.seeds import Stream
from common.state import whole

SIZE = 28
CHUNK = 10_000
"""Images that are changed at a time."""


def write_standin(folder: Path, n_train: int = 60_000, n_test: int = 10_000, seed: int = 0) -> None:
    """Write the four files of :data:`~common.params.idx_files.FILES`: 1,797 digits (Alpaydin & Kaynak 1998), 28 x 28.

    A digit is in one of the two splits alone. Where more images than digits are asked for, the further ones are digits
    shifted by up to 2 pixels, with other contrast and some noise. The same images on every machine.

    Raises
    ------
    UserError
        When the files cannot be written, or other ones are there.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)
    resize = Image.Resampling.BILINEAR
    images = np.stack([np.asarray(Image.fromarray(image).resize((SIZE, SIZE), resize)) for image in small])
    stream = Stream(seed).at("stand-in")
    order = stream.at("order").numpy().permutation(len(images))
    border = min(max(1, round(len(images) * n_train / (n_train + n_test))), len(images) - 1)
    counts = {"train": (n_train, order[:border]), "test": (n_test, order[border:])}
    for split, (count, rows) in counts.items():
        rows = np.resize(rows, count)
        pixels = images[rows]
        _vary(pixels[border if split == "train" else len(images) - border :], stream.at(split).numpy())
        images_file, labels_file = (folder / name for name in FILES[split])
        _write(images_file, pixels)
        _write(labels_file, digits.target[rows].astype(np.uint8))


def _vary(pixels: np.ndarray, random: np.random.Generator) -> None:
    """Shift, fade and roughen images (n, 28, 28) in place."""
    for start in range(0, len(pixels), CHUNK):
        chunk = pixels[start : start + CHUNK]
        padded = np.pad(chunk, ((0, 0), (2, 2), (2, 2)))
        down, right = random.integers(0, 5, (2, len(chunk), 1, 1))
        rows, columns = down + np.arange(SIZE)[:, None], right + np.arange(SIZE)
        shifted = padded[np.arange(len(chunk))[:, None, None], rows, columns].astype(np.int32)
        strength = random.integers(160, 257, (len(chunk), 1, 1))
        noise = random.integers(-12, 13, chunk.shape, dtype=np.int8)
        chunk[:] = np.where(shifted > 0, np.clip(shifted * strength // 256 + noise, 0, 255), 0)


def _write(path: Path, values: np.ndarray) -> None:
    content = np.array([0x800 + values.ndim, *values.shape], ">u4").tobytes() + values.tobytes()
    try:
        if path.exists() and gzip.decompress(path.read_bytes()) != content:
            raise UserError(f"{path}: another file is there already; move it away")
        with whole(path) as part:
            part.write_bytes(gzip.compress(content, 1, mtime=0))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
