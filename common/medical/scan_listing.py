"""Which images are in DICOM and NIfTI files, and of which patient each is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common.cli import UserError
from common.data.scans import NIFTI, UNSURE, Listed, is_scan
from common.medical.dicom import tags_of
from common.medical.nifti import volume_shape
from common.medical.patients import patient_key, pseudonym
from common.medical.windows import PLANES, chosen, medical_settings, window_part
from common.progress import in_threads

BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[_/])")
"""The subject in a path, as the Brain Imaging Data Structure writes it."""


KINDS = {"patient": "PatientID", "study": "StudyInstanceUID"}
"""What a DICOM file is of, by the tag that says it."""


class _Found(NamedTuple):
    parts: list[str]
    """Of the file, in order; one that is empty stands for all of it."""
    kind: str
    which: str
    """What the file is of: the ``patient``, ``study``, ``subject`` or ``file`` `which`; or it is ``damaged``."""


def list_scans(folder: Path, labels: Mapping[str, str], groups: Mapping[str, str] | None) -> Listed:
    """The images in some files: the slices and frames that ``medical.toml`` chooses, each with its file's class.

    Groups are those given; without them a file is of the patient that its PatientID says, by a keyed hash; or of the
    subject in its path, as in BIDS (``sub-01``); or, where nothing says so, of its study, or by itself.

    Parameters
    ----------
    folder : Path
    labels : dict from str to str
        Of files of any kind, relative to `folder`.
    groups : dict from str to str, or None
        Of ``groups.csv``.

    Raises
    ------
    UserError
        Naming ``medical.toml`` and its field, or what is not installed.
    """
    settings, files = medical_settings(folder), sorted(labels)
    found = dict(zip(files, in_threads(partial(_look_at, folder, settings), files, "tags"), strict=True))
    images = {f"{file}#{part}" if part else file: file for file in files for part in found[file].parts}
    grouped_by, names = "group", groups
    if names is None:
        key = patient_key() if {"patient", "study"} & {one.kind for one in found.values()} else b""
        names = {file: _name_of(found[file].kind, found[file].which, key) for file in files}
        kinds = {one.kind for one in found.values()} - {"damaged"}
        grouped_by = next((kind for kind in (*UNSURE, "subject") if kind in kinds), "patient")
    return Listed(
        {image: labels[file] for image, file in images.items()},
        {image: names[file] for image, file in images.items()},
        grouped_by,
        settings,
    )


def parts_of(file: Path, settings: Mapping[str, Any] | None) -> list[Path]:
    """The images in a DICOM or NIfTI file, as paths with the part; one that cannot be read is one image.

    Without settings the ``medical.toml`` beside the file, or above it, holds.
    """
    if not file.is_file():
        return [file]  # a part of one already
    parts = _look_at(file.parent, settings or medical_settings(file.parent), file.name).parts
    return [file.with_name(f"{file.name}#{part}") if part else file for part in parts]


def _look_at(folder: Path, settings: Mapping[str, Any], file: str) -> _Found:
    path = folder / file
    if not is_scan(path):
        return _Found([""], "file", file)
    try:
        return (_of_nifti if file.lower().endswith(NIFTI) else _of_dicom)(path, file, settings)
    except (UserError, MemoryError):
        raise
    except Exception:  # damaged: whoever decodes it says so
        return _Found([""], "damaged", file)


def _of_dicom(path: Path, file: str, settings: Mapping[str, Any]) -> _Found:
    tags = tags_of(path, ["NumberOfFrames", "PatientID", "StudyInstanceUID"])
    count = int(tags.get("NumberOfFrames", 1))
    parts = [""] if count == 1 else _numbered(path, "frame", settings["frames"], count)
    known = [(kind, tags[name]) for kind, name in KINDS.items() if name in tags]
    kind, which = known[0] if known else ("file", file)
    return _Found(_with_window(parts, settings), kind, which)


def _of_nifti(path: Path, file: str, settings: Mapping[str, Any]) -> _Found:
    axis = str(settings["axis"])
    count = volume_shape(path)[PLANES.index(axis)]
    parts = _numbered(path, axis, settings["slices"], count)
    subject = BIDS_SUBJECT.search(file)
    kind, which = ("subject", subject[1]) if subject else ("file", file)
    return _Found(_with_window(parts, settings), kind, which)


def _numbered(path: Path, name: str, which: Any, count: int) -> list[str]:
    try:
        return [f"{name}={number:0{len(str(count - 1))}d}" for number in chosen(which, count)]
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _with_window(parts: list[str], settings: Mapping[str, Any]) -> list[str]:
    return ["&".join(filter(None, (part, window_part(settings)))) for part in parts]


def _name_of(kind: str, value: str, key: bytes) -> str:
    """The group of a file: what would identify a person is hashed."""
    return pseudonym(kind, value, key) if kind in ("patient", "study") else value
