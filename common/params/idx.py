"""Images in idx files, as MNIST and Fashion-MNIST come: read at once, or turned into folders of PNG files."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common import cli
from common.cli import UserError
from common.locks import locked
from common.params.idx_files import FILES, files_of, read_idx, read_split
from common.params.idx_stand_in import write_standin
from common.state import regular, whole_folder

__all__ = ["CLASSES", "load_idx", "make_folders", "read_idx", "read_split", "write_standin"]

CLASSES = {
    "digits": tuple("0123456789"),
    "fashion": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
"""Names of the labels 0, 1, ... of MNIST and Fashion-MNIST."""


def load_idx(
    folder: Path,
    split: str = "train",
    image_size: int | None = None,
    classes: Sequence[str] = CLASSES["digits"],
    is_color: bool = False,
    cached: bool = True,
):
    """The :class:`common.data.ImageTable` of one split, straight from the idx files, without files of its own.

    The files are named as :func:`make_folders` names them. Pixels are decoded once, kept under ``cache/`` and
    memory-mapped from there.

    Parameters
    ----------
    image_size : int, optional
        Pixels per side: images are cut to the centre square and resized, as those of other sources; without it they
        stay as they are.
    is_color : bool
        Whether pixels have shape (n, 3, height, width), three times the same, instead of (n, 1, height, width).

    Raises
    ------
    UserError
        As :func:`read_split` does.
    """
    from common.data.cache import cached_array
    from common.data.images import ImageTable

    folder = Path(folder).expanduser().resolve()

    def make(new) -> tuple[np.ndarray, dict]:
        images, labels = read_split(folder, split, classes)
        sized = images if image_size is None else _resized(images, image_size)
        pixels = new((len(images), 3 if is_color else 1, *sized.shape[1:]), "uint8")
        pixels[:] = sized[:, None]
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        return pixels, {"labels": labels.tolist(), "digests": digests}

    content = hashlib.sha256(len(classes).to_bytes(4, "big"))
    for file in files_of(folder, split):
        try:
            content.update(regular(file).read_bytes())
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}") from error
    kind = f"{image_size or 'whole'}-{'color' if is_color else 'grey'}"
    pixels, notes = cached_array(f"idx-{content.hexdigest()[:24]}-{kind}", make, cached)
    return ImageTable(
        name=f"{folder.name}/{split}",
        root=folder / split,
        files=tuple(_name_of(i) for i in range(len(pixels))),
        labels=np.array(notes["labels"], np.int64),
        classes=tuple(classes),
        groups=None,
        digests=tuple(notes["digests"]),
        pixels=pixels,
        cached=cached,
    )


def _name_of(index: int) -> str:
    return f"images/{index:07d}.png"


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    fit = [ImageOps.fit(Image.fromarray(i), (size, size), method=Image.Resampling.BILINEAR) for i in images]
    return np.stack([np.asarray(image) for image in fit])


def make_folders(folder: Path, classes: Sequence[str] = CLASSES["digits"]) -> list[Path]:
    """Turn the four idx files of a folder into ``train/`` and ``test/`` in it, with PNG files and an ``info.csv``.

    Each appears whole or not at all. One that is there already is left as it is if it has the same ``info.csv``.

    Returns
    -------
    list of Path
        Those that were made.

    Raises
    ------
    UserError
        As :func:`read_split` does, and when other files are in the way or the disk is full.
    """
    if len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise UserError(f"--classes {','.join(classes)}: expected names that differ")
    made = []
    splits = {split: read_split(folder, split, classes) for split in FILES}
    try:
        with locked(folder / ".idx"):
            for split, (images, labels) in splits.items():
                table = _info(labels, classes)
                target = folder / split
                if target.exists():
                    if not (target / "info.csv").is_file() or (target / "info.csv").read_bytes() != table:
                        raise UserError(f"{target}: other files are there already; move them away")
                    continue
                for left in folder.glob(f".{split}-*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                with whole_folder(target) as part:
                    (part / "images").mkdir()
                    _write_images(part, images, f"writing {split}")
                    (part / "info.csv").write_bytes(table)
                made.append(target)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
    return made


def make_digits(folder: Path) -> None:
    """The stand-in of 1,797 digits in a folder: the four idx files, and ``train/`` and ``test/`` with its images."""
    write_standin(folder, 1500, 297)
    make_folders(folder)


def _info(labels: np.ndarray, classes: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["files", "type"])
    writer.writerows((_name_of(index), classes[label]) for index, label in enumerate(labels))
    return text.getvalue().encode()


def _write_images(folder: Path, images: np.ndarray, description: str) -> None:
    from PIL import Image

    def write(index: int) -> None:
        Image.fromarray(images[index]).save(folder / _name_of(index), compress_level=1)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(images), desc=description, unit="image", disable=None) as bar,
    ):
        for start in range(0, len(images), 1000):
            for _ in pool.map(write, range(start, min(start + 1000, len(images)))):
                bar.update()


def main(argv: list[str] | None = None) -> None:
    """The command: ``python -m common.params.idx DIR``."""
    flags = cli.parser(__doc__)
    flags.add_argument("folder", type=Path, metavar="DIR", help="folder with the four files; train/ and test/ go there")
    flags.add_argument(
        "--classes", type=_classes, default="digits", metavar="digits|fashion|A,B,...", help="names of labels 0, 1, ..."
    )
    flags.add_argument("--stand-in", action="store_true", help="first write the four files from scikit-learn's digits")
    args = flags.parse_args(argv)
    if args.stand_in:
        write_standin(args.folder)
    made = make_folders(args.folder, args.classes)
    print("\n".join(f"{folder}: made" for folder in made) or f"{args.folder}: train/ and test/ are there already")


def _classes(text: str) -> tuple[str, ...]:
    names = CLASSES.get(text) or tuple(text.split(","))
    if len(names) < 2:
        raise argparse.ArgumentTypeError(f"expected digits, fashion or names with commas between, found {text!r}")
    return names


if __name__ == "__main__":
    cli.run(main)
