"""Where images come from: the drawn pets, the Oxford-IIIT Pet download, or any folder."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from common.cli import PROJECT, UserError
from common.data.images import ImageTable, check_classes, decode, digest_files

DATA = PROJECT / "data"
PETS = ("cat", "dog")
OXFORD_NAME = re.compile(r"(?P<breed>[A-Za-z][A-Za-z_]*)_\d+\.\w+")


def load_images(data: str, image_size: int, skip_unreadable: bool = False, cached: bool = True) -> ImageTable:
    """Find, label, fingerprint and decode the images of a source, and print what was found.

    Parameters
    ----------
    data : str
        ``drawn`` (made on first use), ``oxford-pets`` (downloaded on first use), or a folder: in Oxford-IIIT Pet
        layout (``images/Breed_1.jpg``, a capital first letter means cat), with a folder per class, or with an
        ``info.csv`` (``files,type``). A ``groups.csv`` (``files,group``) beside them names the groups.
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
    if data == "drawn":
        name, root = data, _drawn_pets()
    elif data == "oxford-pets":
        name, root = data, download_oxford_pets()
    else:
        root = Path(os.path.expanduser(data)).resolve()
        name = root.name
    table = check_classes(decode(replace(_scan(name, root), cached=cached), image_size, skip_unreadable))
    print(table.describe())
    return table


def download_oxford_pets() -> Path:
    """Download the Oxford-IIIT Pet data set (Parkhi et al. 2012, 800 MB) with torchvision, once; returns its folder.

    The archives are checked against torchvision's MD5 sums. A download that was interrupted goes on with the archive
    that is missing.
    """
    folder = DATA / "oxford-pets" / "oxford-iiit-pet"
    with _lock("oxford-pets"):
        if not folder.exists():
            from torchvision.datasets import OxfordIIITPet

            partial = DATA / "oxford-pets.partial"
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


def _drawn_pets() -> Path:
    folder = DATA / "drawn"
    with _lock("drawn"):
        if not (folder / "images").exists():
            from common.data.drawn import make_drawn_pets

            try:
                make_drawn_pets(folder)
            except OSError as error:
                raise UserError(f"{folder}: the pictures cannot be written ({error.strerror})") from error
    return folder


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    lock = FileLock(DATA / f".{name}.lock")
    try:
        DATA.mkdir(exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"{DATA}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _scan(name: str, root: Path) -> ImageTable:
    try:
        if not root.exists():
            raise UserError(f"--data {root}: no such folder; expected drawn, oxford-pets or a folder of images")
        if not root.is_dir():
            raise UserError(f"--data {root}: a file; expected a folder of images")
        paths, others = _list_images(root)
        if (root / "info.csv").exists():
            labels = _labels_from_csv(root)
        elif (root / "images").is_dir():
            labels = _labels_from_breeds([p for p in paths if p.startswith("images/")], root)
        elif paths and all("/" not in p for p in paths):
            labels = _labels_from_breeds(paths, root)
        else:
            labels = {p: p.split("/")[0] for p in paths if "/" in p}
        groups = _groups(root, labels)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if not labels:
        raise UserError(f"{root}: no images found; expected images/Breed_1.jpg, a folder per class, or info.csv")
    files = sorted(labels)
    classes = PETS if set(labels.values()) <= set(PETS) else tuple(sorted(set(labels.values())))
    skipped = [f"{count} {suffix or 'files without suffix'}" for suffix, count in sorted(others.items())]
    unlabelled = len(set(paths) - set(files))
    if unlabelled:
        skipped.append(f"{unlabelled} images without a label")
    digests = digest_files(root, files)
    if groups is None and len(set(digests)) < len(digests):
        groups = dict(zip(files, digests, strict=True))
    return ImageTable(
        name=name,
        root=root,
        files=tuple(files),
        labels=np.array([classes.index(labels[f]) for f in files], np.int64),
        classes=classes,
        groups=None if groups is None else np.array([groups[f] for f in files]),
        digests=digests,
        skipped=tuple(skipped),
    )


def _list_images(root: Path) -> tuple[list[str], Counter]:
    """Files with an image suffix, sorted, and a count of the other files by suffix."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    images, others = [], Counter()

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for name in names:
            path = (Path(folder) / name).relative_to(root)
            if name.startswith("."):
                continue
            if path.suffix.lower() in suffixes:
                images.append(path.as_posix())
            elif len(path.parts) > 1 and path.parts[0] != "annotations":
                others[path.suffix] += 1
    return sorted(images), others


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
    labels = _read_pairs(root / "info.csv", "files", "type")
    missing = [name for name in labels if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root / 'info.csv'}: {missing[0]} is listed but not there ({len(missing)} such files)")
    return labels


def _groups(root: Path, labels: dict[str, str]) -> dict[str, str] | None:
    if not (root / "groups.csv").exists():
        return None
    groups = _read_pairs(root / "groups.csv", "files", "group")
    missing = sorted(set(labels) - set(groups))
    if missing:
        raise UserError(f"{root / 'groups.csv'}: no group for {missing[0]} ({len(missing)} such files)")
    return groups


def _read_pairs(path: Path, key: str, value: str) -> dict[str, str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            if key not in header or value not in header:
                raise UserError(f"{path}: expected the columns {key},{value}, found {','.join(header) or 'nothing'}")
            pairs: dict[str, str] = {}
            for row in reader:
                if not row[key] or not row[value]:
                    raise UserError(f"{path}, line {reader.line_num}: expected a value for {key} and for {value}")
                if row[key] in pairs:
                    raise UserError(f"{path}, line {reader.line_num}: {row[key]} is listed twice")
                pairs[row[key]] = row[value]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    return pairs
