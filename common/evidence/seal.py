"""Seals the labels of some patients with a key that another person keeps: ``python -m common.evidence.seal``.

``python -m common.evidence.seal --data scans --share 0.2 --output sealed_scans --key ~/scans.key``
"""

from __future__ import annotations

import contextlib
import os
import secrets
from argparse import ArgumentTypeError
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import cli, data
from common.cli import UserError
from common.seeds import Stream
from common.state import sync, whole_file, whole_folder

if TYPE_CHECKING:
    from common.data.images import ImageTable

LABELS, IMAGES, LEARN = "labels.sealed", "sealed", "learn"
"""What lies in a sealed folder: the labels, the images that they are of, and data to learn from."""
MOST_PARTS = 20
"""A share is one of so many equal parts, or several."""


def reads_file(key_file: Path) -> Path:
    """Where the reads are counted: beside the key."""
    return key_file.with_name(f"{key_file.name}.reads")


def choose_sealed(table: ImageTable, share: Fraction, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from, and those to seal: stratified, with groups and copies on one side.

    Parameters
    ----------
    table : ImageTable
    share : Fraction
        k / n: the images are dealt into n equal folds, k of which are sealed.
    stream : Stream

    Raises
    ------
    UserError
        When a class has fewer images, or groups, than there are folds.
    """
    from common.data.folding import TooFewError, stratified_folds

    rows = np.arange(len(table))
    try:
        folds = [held_out for _, held_out in stratified_folds(table, rows, share.denominator, 1, stream.at("folds"))]
    except TooFewError as error:
        raise UserError(f"--share {share}: {error}") from error
    which = stream.at("which").numpy().choice(len(folds), share.numerator, replace=False)
    sealed = np.sort(np.concatenate([folds[number] for number in which]))
    return np.setdiff1d(rows, sealed), sealed


def write_seal(
    table: ImageTable, learn: np.ndarray, sealed: np.ndarray, budget: int, folder: Path, key_file: Path
) -> None:
    """Write a sealed folder, and its key and the count of its reads outside of it: the folder whole or not at all.

    Parameters
    ----------
    table : ImageTable
    learn, sealed : ndarray of int64
        Rows of the table.
    budget : int
        How many predictions may be scored.
    folder, key_file : Path
        Must not exist yet.

    Raises
    ------
    UserError
        When an image cannot be read, or something cannot be written.
    """
    from common.data.folders import copy_by_class
    from common.evidence.encryption import encrypted, new_key

    key, number = new_key(), secrets.token_hex(16)
    try:
        with whole_folder(folder) as scratch:
            copy_by_class(table, learn, scratch / LEARN)
            of_images = _write_images(table, sealed, scratch / IMAGES)
            record = {"id": number, "classes": table.classes, "budget": budget, "images": of_images}
            (scratch / LABELS).write_bytes(encrypted("labels", record, key))
            with _new_key_file(key_file, key), whole_file(reads_file(key_file)) as file:
                file.write(encrypted("reads", {"id": number, "answers": [], "losses": None}, key))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from error


def _write_images(table: ImageTable, rows: np.ndarray, folder: Path) -> dict[str, tuple[int, int]]:
    """Write images in a random order, under random names, without anything but pixels; label and patient of each."""
    from common.data.decoding import as_png, read_whole
    from common.progress import in_threads

    folder.mkdir()
    units = np.arange(len(table)) if table.unit_of is None else table.unit_of
    named = [(f"{secrets.token_hex(8)}.png", int(row)) for row in np.random.default_rng().permutation(rows)]

    def write(one: tuple[str, int]) -> None:
        name, row = one
        try:
            pixels = read_whole(table.root / table.files[row])
        except ValueError as error:
            raise UserError(f"{table.root / table.files[row]}: {error}") from error
        (folder / name).write_bytes(as_png(pixels))
        os.utime(folder / name, (0, 0))

    for _ in in_threads(write, named, "sealing images"):
        pass
    return {name: (int(table.labels[row]), int(units[row])) for name, row in sorted(named)}


@contextlib.contextmanager
def _new_key_file(path: Path, key: bytes) -> Iterator[None]:
    """A file that only its owner reads; removed, with the count of reads, when the block fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(key + b"\n")
            sync(file)
        yield
    except BaseException:
        for made in (path, reads_file(path)):
            made.unlink(missing_ok=True)
        raise


def _check_places(folder: Path, key_file: Path) -> None:
    if key_file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--key {key_file}: lies in {folder}; expected a place outside of it")
    for flag, path in (("--output", folder), ("--key", key_file), ("--key", reads_file(key_file))):
        if os.path.lexists(path):
            raise UserError(f"{flag} {path}: exists already; expected a new name")
        if flag == "--key" and not path.parent.is_dir():  # those above the folder are made
            raise UserError(f"{flag} {path}: no folder {path.parent}")


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text).limit_denominator(MOST_PARTS)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= Fraction(1, 2):
        raise ArgumentTypeError(f"expected a share from {1 / MOST_PARTS} to 0.5, found {text!r:.80}")
    return share


def main(argv: list[str] | None = None) -> None:
    """The command: ``python -m common.evidence.seal --data … --share 0.2 --output FOLDER --key KEYFILE``."""
    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    cli.audit_flags(flags)
    flags.add_argument(
        "--share", type=_share, default="0.2", metavar="X", help="of the patients (default: %(default)s)"
    )
    flags.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="new folder")
    flags.add_argument("--key", type=Path, required=True, metavar="KEYFILE", help="new file, outside of that folder")
    help_budget = "how many predictions may be scored (default: %(default)s)"
    flags.add_argument("--budget", type=cli.whole_number(1), default=20, metavar="N", help=help_budget)
    flags.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="root seed (default: %(default)s)")
    args = flags.parse_args(argv)
    folder, key_file = args.output.expanduser().absolute(), args.key.expanduser().absolute()
    _check_places(folder, key_file)
    table = data.load_images(args.data, 64, args.skip_unreadable, not args.no_cache)
    if not table.root.is_dir():
        raise UserError(f"--data {args.data}: arrays; expected images")
    if folder.resolve().is_relative_to(table.root.resolve()):
        raise UserError(f"--output {folder}: lies in {table.root}; expected a place outside of it")
    learn, sealed = choose_sealed(table, args.share, Stream(args.seed).at("sealed"))
    _check_apart(table, learn, sealed, args)
    write_seal(table, learn, sealed, args.budget, folder, key_file)
    units = np.arange(len(table)) if table.unit_of is None else table.unit_of
    for place, rows in ((LEARN, learn), (IMAGES, sealed)):
        print(f"{folder / place}: {len(rows)} images, {len(np.unique(units[rows]))} {table.units}")
    print(f"{folder / LABELS}: may be read {args.budget} times, by python -m common.evidence.score")
    print(f"give {key_file} and {reads_file(key_file)} to another person, and delete them here, with {table.root}:")
    print("whoever has the key or the data can see the labels")


def _check_apart(table: ImageTable, learn: np.ndarray, sealed: np.ndarray, args) -> None:  # type: ignore[no-untyped-def]
    """The audit of the data, with the sealed images for testing."""
    from common.data.folding import Fold
    from common.evidence.audit import before_run

    before_run(table, [[Fold(0, 0, learn, learn[:0], sealed)]], args)


if __name__ == "__main__":
    cli.run(main)
