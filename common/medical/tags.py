"""What the tags of DICOM files tell: patients under two names, makers and sites, and what must not leave the files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from common.data.images import ImageTable
from common.data.scans import NIFTI, file_and_part, is_scan
from common.medical.dicom import tags_of
from common.progress import in_threads

IDENTIFYING = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "CountryOfResidence",
    "MilitaryRank",
    "MedicalRecordLocator",
    "AccessionNumber",
    "AdmissionID",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "InstitutionAddress",
    "PatientComments",
    "AdditionalPatientHistory",
)
"""Tags that identify a person, after the Basic Profile of DICOM PS3.15, annex E."""
IN_NAMES = ("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber")
"""Those that are looked for in the names of files."""
ONE_PATIENT = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""Tags whose value is of one patient."""
COLUMNS = {"site": "InstitutionName", "maker": "Manufacturer", "study_year": "StudyDate", "sex": "PatientSex"}
WITH_TEXT = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3")
"""Classes known for text in the pixels: secondary captures and ultrasound."""
PLACEHOLDER = 3
"""Groups with one name and birth date from which on it is no person's, such as ``ANONYMOUS``."""


def look_at_tags(table: ImageTable, units: np.ndarray) -> dict:
    """What an audit asks of the tags, for JSON: without any of their values.

    Parameters
    ----------
    table : ImageTable
    units : ndarray of int, shape (n,)
        Equal for images of one group.

    Returns
    -------
    dict
        ``files``: how many DICOM files; ``shared``: for each of :data:`ONE_PATIENT` pairs of rows of different units
        that have the same value; ``alike``: pairs with the name and birth date of one person; ``identifying``: in how
        many files each of :data:`IDENTIFYING` is; ``in_names``: in the names of how many files the value of a tag is;
        ``burnt_in``: rows of images that say so, ``perhaps_burnt_in``: rows of those that may have text in them.
    """
    rows: dict[str, int] = {}
    for row, image in enumerate(table.files):
        rows.setdefault(file_and_part(Path(image))[0].as_posix(), row)
    names = dict.fromkeys((*IDENTIFYING, *ONE_PATIENT, "PatientSex", "BurnedInAnnotation", "PatientIdentityRemoved"))
    tags = {rows[file]: of for file, of in _tags_of_all(table.root, rows, tuple(names)).items() if of is not None}
    files = {row: file for file, row in rows.items()}
    named = {"PatientName", "PatientBirthDate"}
    persons = {row: " ".join(of[name] for name in sorted(named)) for row, of in tags.items() if named <= of.keys()}
    counted = Counter(name for of in tags.values() for name in IDENTIFYING if name in of)
    in_names = Counter(
        name
        for row, of in tags.items()
        if of.get("PatientIdentityRemoved") != "YES"
        for name in IN_NAMES
        if name in of and _is_in(name, of[name], f"{table.root}/{files[row]}")
    )
    burnt = {row: _burnt_in(of) for row, of in tags.items()}
    return {
        "files": len(tags),
        "shared": {
            name: _shared({row: of[name] for row, of in tags.items() if name in of}, units) for name in ONE_PATIENT
        },
        "alike": _shared(persons, units, PLACEHOLDER),
        "identifying": dict(counted.most_common()),
        "in_names": dict(in_names.most_common()),
        "burnt_in": [row for row, level in burnt.items() if level == "yes"],
        "perhaps_burnt_in": [row for row, level in burnt.items() if level == "perhaps"],
    }


def _tags_of_all(root: Path, files: Iterable[str], names: tuple[str, ...]) -> dict[str, dict[str, str] | None]:
    """The tags of each file; None of one that is not DICOM, or cannot be read."""

    def read(file: str) -> dict[str, str] | None:
        if file.lower().endswith(NIFTI) or not is_scan(root / file):
            return None
        try:
            return tags_of(root / file, names)
        except Exception:  # whoever decodes it says so
            return None

    files = list(files)
    return dict(zip(files, in_threads(read, files, "tags"), strict=True))


def _shared(values: Mapping[int, str], units: np.ndarray, most: float = float("inf")) -> list[tuple[int, int]]:
    """Pairs of rows with one value and of different units, one for each two units that follow each other."""
    by_value: dict[str, dict[int, int]] = defaultdict(dict)
    for row, value in sorted(values.items()):
        by_value[value].setdefault(int(units[row]), row)
    return [pair for of in by_value.values() if len(of) < most for pair in pairwise(sorted(of.values()))]


def _burnt_in(tags: Mapping[str, str]) -> str:
    said = tags.get("BurnedInAnnotation", "").upper()
    if said in ("YES", "NO"):
        return said.lower()
    kind = f"{tags.get('SOPClassUID', '')}."
    return "perhaps" if kind.startswith(tuple(f"{uid}." for uid in WITH_TEXT)) else "no"


def _is_in(name: str, value: str, path: str) -> bool:
    """Whether the value of a tag is in a path: a family name as a word, anything else by its letters and digits."""
    if name == "PatientName":
        family = re.findall(r"\w+", value.casefold().split("^")[0])
        words = re.findall(r"[^\W_]+", path.casefold())
        return any(len(part) > 2 and part in words for part in family)
    plain = re.sub(r"[\W_]", "", value.casefold())
    return len(plain) > 3 and plain in re.sub(r"[\W_]", "", path.casefold())


def technical(path: Path, names: Iterable[str]) -> tuple[list[float], dict[str, str]]:
    """What a scan's file says of itself without its picture: numbers, as of a photo's file, and tags.

    Returns
    -------
    list of 8 floats
        Logarithms of bytes, width, height, width by height, and bits per pixel; 0; a number for the transfer syntax;
        channels. Zeros but for the bytes where there is no such thing.
    dict from str to str
        Those of some names, of a DICOM file.
    """
    path = file_and_part(path)[0]
    n_bytes = max(1, path.stat().st_size)
    sizes = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")
    try:
        tags = tags_of(path, [*names, *sizes])
        height, width, frames, channels = (int(tags.get(name, 1)) for name in sizes)
        syntax = float(tags["TransferSyntaxUID"].rpartition(".")[2])
        each = n_bytes / frames
        shape = np.log([each, width, height, width / height, 8 * each / (width * height)]).tolist()
    except Exception:  # NIfTI; or it was left out when the images were decoded
        return [float(np.log(n_bytes)), 0, 0, 0, 0, 0, 0, 0], {}
    return [*shape, 0.0, syntax, channels], {name: tags[name] for name in names if name in tags}


def column_of_tags(folder: Path, images: Iterable[str], column: str) -> dict[str, str]:
    """A column of a table of images, of the tags of their files: one of :data:`common.data.scans.TAG_COLUMNS`.

    A file that lacks the tag has ``unknown``, one that is not DICOM is left out. Of the study's date the year alone.
    """
    name, images = COLUMNS[column], list(images)
    files = {image: file_and_part(Path(image))[0].as_posix() for image in images}
    tags = _tags_of_all(folder, sorted(set(files.values())), (name,))
    found = {image: of.get(name, "unknown") for image in images if (of := tags[files[image]]) is not None}
    return {
        image: value[:4] if column == "study_year" and value != "unknown" else value for image, value in found.items()
    }
