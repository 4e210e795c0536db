"""Where data come from: drawn or simulated on first use, downloaded, a folder of images, or an `.npz` file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.cli import SOURCES, UserError, parts_in, writing
from common.data.arrays import load_arrays
from common.data.decoded import digest_files
from common.data.image_files import list_images
from common.data.images import ImageTable, check_classes, decode
from common.data.pairs import read_pairs
from common.data.scans import UNSURE, is_scan, listed_scans, value_for
from common.locks import locked
from common.state import data_folder

PETS = ("cat", "dog")
MADE = {
    "drawn": ("drawn", "data.made.drawn", "make_drawn_pets", "", "groups.csv"),
    "phantoms": ("phantoms", "data.made.phantoms", "make_phantoms", "", "groups.csv"),
    "digits": ("digits", "params.idx", "make_digits", "train", "test"),
    "eeg": ("eeg.npz", "eeg.__main__", "make", "", ""),
}
"""Sources that are made here: their place, the module and function that make them, where in it the images are, and what
comes last."""
OXFORD_NAME = re.compile(r"(?P<breed>[A-Za-z][A-Za-z_]*)_\d+\.\w+")


def load_images(data: str, image_size: int, skip_unreadable: bool = False, cached: bool = True) -> ImageTable:
    """Find, label, fingerprint and decode the images of a source, and print what was found.

    Parameters
    ----------
    data : str
        ``drawn``, ``phantoms``, ``digits`` or ``eeg`` (made on first use), ``oxford-pets`` (downloaded on first use),
        or a folder: in Oxford-IIIT Pet layout (``images/Breed_1.jpg``, a capital first letter means cat), with a folder
        per class, with an ``info.csv`` (``files,type``), or with folders Train, Val (or none) and Test that are such
        folders: a split. A ``groups.csv`` (``files,group``) beside them names the groups, else the PatientID of DICOM
        files does. Or an
        ``.npz`` file of arrays, see :func:`common.data.arrays.load_arrays`.
    image_size : int
        Pixels per side.
    skip_unreadable : bool
        Leave out images that cannot be read instead of stopping at the first.
    cached : bool
        Keep what is computed from the images under ``cache/``, and use what is there.

    Raises
    ------
    UserError
        Naming the file or folder, what was found and what was expected.
    """
    arrays = Path(os.path.expanduser(data)).resolve() if data != "eeg" else _made("eeg")
    if arrays.suffix == ".npz" and not arrays.is_dir():
        _check_not_versioned(arrays)
        if not arrays.exists():
            raise UserError(f"{arrays}: no such file; python -m common.eeg {arrays} makes one of EEG")
        table = check_classes(load_arrays(arrays, cached))
    else:
        table = check_classes(decode(replace(find_images(data), cached=cached), image_size, skip_unreadable))
    print(table.describe())
    return table


def find_images(data: str) -> ImageTable:
    """Find, label and fingerprint the images of a source, which is named as in :func:`load_images`; no pixels yet."""
    if data == "oxford-pets":
        return _scan(data, download_oxford_pets())
    if data in MADE:
        return _scan(data, _made(data))
    root = Path(os.path.expanduser(data)).resolve()
    return _scan(root.name, root)


def download_oxford_pets() -> Path:
    """Download the Oxford-IIIT Pet data set (Parkhi et al. 2012, 800 MB) with torchvision, once; returns its folder.

    The archives are checked against torchvision's MD5 sums. A download that was interrupted goes on with the archive
    that is missing.
    """
    folder = data_folder() / "oxford-pets" / "oxford-iiit-pet"
    with _lock("oxford-pets"):
        if not folder.exists():
            from torchvision.datasets import OxfordIIITPet

            partial = data_folder() / "oxford-pets.partial"
            # torchvision takes both folders for a download, even if unpacking the second was interrupted
            shutil.rmtree(partial / folder.name / "annotations", ignore_errors=True)
            print(f"downloading Oxford-IIIT Pet to {folder}")
            try:
                OxfordIIITPet(str(partial), download=True)
            except (OSError, RuntimeError, EOFError, HTTPException) as error:
                addresses = " and ".join(url for url, _ in OxfordIIITPet._RESOURCES)
                raise UserError(
                    f"--data oxford-pets: the download failed ({error}); without a network put {addresses} into "
                    f"{partial / folder.name} and run again, or use --data drawn"
                ) from error
            folder.parent.mkdir(exist_ok=True)
            os.replace(partial / folder.name, folder)
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _made(name: str) -> Path:
    """The folder or file of a source that the project makes itself, on first use, unless it is under DVC and gone."""
    place, module, function, inside, last = MADE[name]
    path = data_folder() / place
    with _lock(name):
        if not (path / last).exists():
            _check_not_versioned(path)
            with writing(path):
                getattr(import_module(f"common.{module}"), function)(path)
    return path / inside


def _check_not_versioned(path: Path) -> None:
    if not path.exists() and path.with_name(f"{path.name}.dvc").is_file():
        raise UserError(
            f"{path}: not here, but under DVC; python -m common.versions checkout HEAD {path} brings it back"
        )


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    lock = locked(data_folder() / f".{name}")
    with writing(data_folder()):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _scan(name: str, root: Path) -> ImageTable:
    try:
        _check_not_versioned(root)
        if not root.exists():
            raise UserError(f"{root}: no such folder; expected {', '.join(SOURCES)} or a folder of images")
        if not root.is_dir():
            raise UserError(f"{root}: a file; expected a folder of images")
        parts = parts_in(root)
        found = _joined(root, parts) if parts else _read(root)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
    labels, groups = found.labels, found.groups
    files = sorted(labels)
    classes = PETS if set(labels.values()) <= set(PETS) else tuple(sorted(set(labels.values())))
    skipped = [f"{count} {suffix or 'files without suffix'}" for suffix, count in sorted(found.others.items())]
    if found.unlabelled:
        skipped.append(f"{found.unlabelled} images without a label")
    digests = digest_files(root, files)
    return ImageTable(
        name=name,
        root=root,
        files=tuple(files),
        labels=np.array([classes.index(labels[f]) for f in files], np.int64),
        classes=classes,
        groups=None if groups is None else np.array([groups[f] for f in files]),
        grouped_by=found.grouped_by,
        about=found.scans and {"scans": found.scans},
        digests=digests,
        skipped=tuple(skipped),
        parts=np.array([parts[file.split("/")[0]] for file in files]) if parts else None,
    )


class _Found(NamedTuple):
    labels: dict[str, str]
    groups: dict[str, str] | None
    others: Counter
    unlabelled: int
    grouped_by: str = "group"
    scans: dict | None = None
    """How medical images are shown, where there are some."""


def _read(root: Path) -> _Found:
    """What is in one folder, as it lies there."""
    paths, others = list_images(root)
    if (root / "info.csv").exists():
        labels = _labels_from_csv(root)
    elif (root / "images").is_dir():
        labels = _labels_from_breeds([p for p in paths if p.startswith("images/")], root)
    elif paths and all("/" not in p for p in paths):
        labels = _labels_from_breeds(paths, root)
    else:
        labels = {p: p.split("/")[0] for p in paths if "/" in p}
    if not labels:
        raise UserError(f"{root}: no images found; expected images/Breed_1.jpg, a folder per class, or info.csv")
    unlabelled = len(set(paths) - set(labels))
    groups = _groups(root, labels)
    if any(is_scan(root / file) for file in labels):
        listed = listed_scans(root, labels, groups)
        return _Found(listed.labels, listed.groups, others, unlabelled, listed.grouped_by, listed.settings)
    return _Found(labels, groups, others, unlabelled)


def _joined(root: Path, parts: dict[str, str]) -> _Found:
    """What is in the folders of a split together, each of which is read as data of its own."""
    listed, expected = ", ".join(parts), "expected Train, Val and Test (or Train and Test), each once, and nothing else"
    strays = [path for path in list_images(root)[0] if path.split("/")[0] not in parts]
    if strays or sorted(parts.values()) not in (["dev", "test", "train"], ["test", "train"]):
        raise UserError(f"{root}: comes split into {', '.join([listed, *strays[:1]])}; {expected}")
    read = {folder: _read(root / folder) for folder in parts}
    labels = {f"{folder}/{file}": label for folder, part in read.items() for file, label in part.labels.items()}
    groups, grouped_by = _groups(root, labels), "group"
    if groups is None and any(part.groups for part in read.values()):
        without = [folder for folder, part in read.items() if part.groups is None]
        if without:
            raise UserError(f"{root / without[0] / 'groups.csv'}: no such file; expected one in each of {listed}")
        groups = {
            f"{folder}/{file}": group for folder, part in read.items() for file, group in (part.groups or {}).items()
        }
        kinds = {part.grouped_by for part in read.values()}
        grouped_by = next((kind for kind in UNSURE if kind in kinds), kinds.pop() if len(kinds) == 1 else "group")
    others = sum((part.others for part in read.values()), Counter())
    unlabelled = sum(part.unlabelled for part in read.values())
    scans = next((part.scans for part in read.values() if part.scans), None)
    return _Found(labels, groups, others, unlabelled, grouped_by, scans)


def _labels_from_breeds(paths: list[str], root: Path) -> dict[str, str]:
    labels = {}
    for path in paths:
        if not OXFORD_NAME.fullmatch(Path(path).name):
            raise UserError(
                f"{root / path}: no label in the file name; expected Breed_1.jpg (cats begin with a capital), "
                "a folder per class, or info.csv"
            )
        labels[path] = "cat" if Path(path).name[0].isupper() else "dog"
    return labels


def _labels_from_csv(root: Path) -> dict[str, str]:
    labels = read_pairs(root / "info.csv", "files", "type")
    missing = [name for name in labels if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root / 'info.csv'}: {missing[0]} is listed but not there ({len(missing)} such files)")
    return labels


def _groups(root: Path, labels: dict[str, str]) -> dict[str, str] | None:
    if not (root / "groups.csv").exists():
        return None
    groups = read_pairs(root / "groups.csv", "files", "group")
    found = {image: value_for(image, groups) for image in labels}
    missing = sorted(image for image, group in found.items() if group is None)
    if missing:
        raise UserError(f"{root / 'groups.csv'}: no group for {missing[0]} ({len(missing)} such files)")
    return {image: group for image, group in found.items() if group is not None}
