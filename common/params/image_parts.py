"""The images to train, to validate and to test with: folders or idx files, or a part that is held out."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.cli import UserError, escaped
from common.data.folding import random_fold
from common.data.images import ImageTable, check_classes, decode
from common.data.sources import find_images
from common.params.idx import load_idx
from common.params.idx_files import FILES, files_of
from common.seeds import Stream


class ImagePart(NamedTuple):
    """Some rows of a table."""

    table: ImageTable
    rows: np.ndarray


def image_parts(folder: Path, image_size: int, stream: Stream) -> dict[str, ImagePart]:
    """The parts ``train``, ``val`` and ``test`` of a folder; a line says where two folders have images in common.

    Where ``val/`` or ``test/`` is missing, a fifth of the images of ``train/`` is held out for it: stratified, and by
    group where there are groups.

    Raises
    ------
    UserError
        When there is nothing to train on, the classes differ between the parts, or there are too few images.
    """
    tables = {part: _table(folder, part, image_size) for part in ("train", "val", "test")}
    table = tables["train"]
    if table is None:
        raise UserError(f"{folder}: expected a folder train/ in it, or the four idx files such as {FILES['train'][0]}")
    parts = {name: ImagePart(found, np.arange(len(found))) for name, found in tables.items() if found is not None}
    for found, _ in parts.values():
        if found.classes != table.classes:
            raise UserError(f"{found.root}: expected the classes of train/, {table.classes}, found {found.classes}")
    for (name, part), (other, another) in combinations(parts.items(), 2):
        _say_copies(part.table, name, another.table, other)
    missing = [name for name in ("test", "val") if name not in parts]
    if missing:
        try:
            fold = random_fold(table, stream.at("held out"))
        except UserError as error:
            problem = str(error).partition(", one for each fold")[0]
            raise UserError(f"{problem} to hold some out, or a folder {missing[-1]}/ beside train/") from error
        held_out = dict(zip(missing, (fold.test, fold.dev), strict=False))
        rest = [fold.train, *([fold.dev] if len(missing) == 1 else [])]
        parts["train"] = ImagePart(table, np.sort(np.concatenate(rest)))
        parts |= {name: ImagePart(table, rows) for name, rows in held_out.items()}
    return parts


def _say_copies(table: ImageTable, name: str, other: ImageTable, other_name: str) -> None:
    assert table.pixels is not None and other.pixels is not None
    seen = {_digest(pixels): file for pixels, file in zip(table.pixels, table.files, strict=True)}
    copies = [(row, seen[digest]) for row, digest in enumerate(map(_digest, other.pixels)) if digest in seen]
    if copies:
        row, file = copies[0]
        print(
            f"{len(copies)} of {len(other)} images of {other_name} are, as the network sees them, images of {name} "
            f"too, such as {escaped(other.files[row])} and {escaped(file)}: scores of {other_name} are too good"
        )


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(pixels.tobytes()).digest()


def _table(folder: Path, part: str, image_size: int) -> ImageTable | None:
    if (folder / part).is_dir():
        table = decode(find_images(str(folder / part)), image_size)
    elif part in FILES and files_of(folder, part)[0].exists():
        table = load_idx(folder, part, image_size)
    else:
        return None
    return check_classes(table) if part == "train" else table
