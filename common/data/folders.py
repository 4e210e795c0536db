"""Copy images into folders Train, Val and Test: by group, stratified, for programs that want one folder a part."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from common import cli
from common.cli import UserError
from common.data.dealing import deal
from common.data.scans import SETTINGS_FILE, UNSURE, file_and_part
from common.seeds import Stream

if TYPE_CHECKING:
    from common.data.images import ImageTable

PARTS = ("Train", "Val", "Test")


def split_data(
    source: str | Path, target: str | Path, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> None:
    """Copy the images of a source into ``Train/<class>``, ``Val/<class>`` and ``Test/<class>`` under `target`.

    Images of one group (of ``groups.csv``) and copies go to the same part, and the classes are as
    frequent in each part as in the source, as far as groups allow. Each part keeps its rows of ``groups.csv``, so it
    can be used as a source itself. What is copied is read again and compared before `target` appears, which happens at
    once at the end.

    Parameters
    ----------
    source : str or Path
        A folder, or a name, that :func:`common.data.find_images` takes.
    target : str or Path
        Must not exist yet.
    fractions : sequence of three floats
        Share of the images for Train, Val and Test: positive, with sum 1.
    seed : int
        Non-negative. The same images, fractions and seed give the same parts.

    Raises
    ------
    UserError
        When a fraction, the source or the target is not as expected, when a part would lack a class, or when a file
        cannot be copied.
    """
    from common.data.sources import find_images
    from common.state import whole_folder

    target = Path(os.path.expanduser(target))
    if len(fractions) != 3 or not all(0 < f < 1 for f in fractions) or not math.isclose(sum(fractions), 1):
        found = " ".join(map(str, fractions))
        raise UserError(f"fractions: found {found}; expected three positive numbers with sum 1, such as 0.7 0.15 0.15")
    if os.path.lexists(target):
        raise UserError(f"{target}: exists already; expected the name of a new folder")
    table = find_images(str(source))
    if target.resolve().is_relative_to(table.root):
        raise UserError(f"{target}: lies inside the source {table.root}; expected a folder outside of it")
    _names_by_class(table)  # refuses some
    part_of = _assign(table, np.asarray(fractions, float), Stream(seed).at("parts"))
    try:
        with (
            whole_folder(target) as scratch,
            tqdm(total=len(table), desc="copying images", unit="file", disable=None) as bar,
        ):
            for part, folder in enumerate(PARTS):
                copy_by_class(table, np.flatnonzero(part_of == part), scratch / folder, bar.update)
    except OSError as error:
        raise UserError(f"{error.filename or target}: cannot be copied ({error.strerror or error})") from error
    print(f"{target}: {_describe(table, part_of)}")


def _names_by_class(table: ImageTable) -> list[str]:
    """Where each file goes in its part: below its class, without the folders that all files of the class share."""
    for name in table.classes:
        if name == "images" or name.startswith((".", "__")) or set(name) & set("/\\:\0"):
            raise UserError(f"{table.root}: class {name!r} cannot be the name of a folder")
    for file in table.files:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise UserError(f"{table.root / 'info.csv'}: {file} lies outside {table.root}")
    files_of = {
        label: [file for file, other in zip(table.files, table.labels, strict=True) if other == label]
        for label in set(table.labels.tolist())
    }
    shared = {label: os.path.commonpath([os.path.dirname(file) for file in files]) for label, files in files_of.items()}
    return [
        f"{table.classes[label]}/{PurePosixPath(file).relative_to(shared[label])}"
        for file, label in zip(table.files, table.labels.tolist(), strict=True)
    ]


def _assign(table: ImageTable, fractions: np.ndarray, stream: Stream) -> np.ndarray:
    """The part of each image."""
    units = np.arange(len(table)) if table.unit_of is None else table.unit_of
    groups = np.unique(units, return_inverse=True)[1]
    counts = np.zeros((groups.max() + 1, len(table.classes)))
    np.add.at(counts, (groups, table.labels), 1)
    wanted = fractions[:, None] * counts.sum(0)
    had = np.zeros_like(wanted)
    part_of = deal(counts, wanted, had, stream)
    for part, row in zip(PARTS, had, strict=True):
        if not row.all():
            name = table.classes[row.argmin()]
            raise UserError(
                f"{table.root}: too few {table.units} of class {name} ({(counts[:, row.argmin()] > 0).sum()}): {part} "
                "would have none; expected more of them, or a larger fraction"
            )
    return part_of[groups]


def copy_by_class(
    table: ImageTable, rows: np.ndarray, folder: Path, copied: Callable[[], object] = lambda: None
) -> None:
    """Copy some images into a folder for each class, with their rows of ``groups.csv``, and read them again to compare.

    Parameters
    ----------
    table : ImageTable
    rows : ndarray of int64
        Rows of the table.
    folder : Path
        Without images yet; folders above it are made.
    copied : callable
        Called after each image.

    Raises
    ------
    UserError
        When an image cannot be kept so: the folder, read as a source, would not have it in its class.
    """
    from common.data.sources import find_images

    names = _names_by_class(table)
    for i in rows:
        copy = file_and_part(folder / names[i])[0]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():  # for another part of the file
            shutil.copyfile(file_and_part(table.root / table.files[i])[0], copy)
        copied()
    if (table.root / SETTINGS_FILE).exists():
        shutil.copyfile(table.root / SETTINGS_FILE, folder / SETTINGS_FILE)
    if table.groups is not None and table.grouped_by not in UNSURE:
        with open(folder / "groups.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["files", "group"])
            of_files = {(file_and_part(Path(names[i]))[0].as_posix(), table.groups[i]) for i in rows}
            writer.writerows(sorted(of_files))
    found = find_images(str(folder))
    copies = dict(zip(found.files, zip(found.digests, found.labels, strict=True), strict=True))
    for i in rows:
        digest, label = copies.get(names[i], (None, None))
        if digest != table.digests[i] or found.classes[label] != table.classes[table.labels[i]]:
            raise UserError(f"{table.root / table.files[i]}: cannot be kept as {names[i]}, in a folder per class")


def _describe(table: ImageTable, part_of: np.ndarray) -> str:
    parts = []
    for part, folder in enumerate(PARTS):
        labels = table.labels[part_of == part]
        counts = ", ".join(f"{(labels == i).sum()} {name}" for i, name in enumerate(table.classes))
        parts.append(f"{len(labels)} in {folder} ({counts})")
    return ", ".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Copy images into folders Train, Val and Test."""
    flags = cli.parser(__doc__)
    flags.add_argument("source", metavar="SOURCE", help=f"folder of images, or one of {', '.join(cli.SOURCES)}")
    flags.add_argument("target", metavar="TARGET", type=Path, help="new folder")
    flags.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=(0.7, 0.15, 0.15),
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the images (default: 0.7 0.15 0.15)",
    )
    flags.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="root seed (default: 0)")
    args = flags.parse_args(argv)
    split_data(args.source, args.target, args.fractions, args.seed)


if __name__ == "__main__":
    cli.run(main)
