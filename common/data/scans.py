"""Medical images, DICOM and NIfTI: which files they are, what part of one is an image, the way to `common.medical`.

``head.nii.gz#axial=90`` is a slice of a file, ``heart.dcm#frame=3&window=40,400`` a frame of one, shown in a window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import PIL

from common.cli import UserError
from common.state import regular

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from common.data.images import ImageTable

T = TypeVar("T")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
SETTINGS_FILE = "medical.toml"
"""Beside medical images: which slices and frames, and in which window; see :mod:`common.medical.windows`."""
UNSURE = ("file", "study")
"""What images are grouped by where nothing says which are of one patient."""
TAG_COLUMNS = ("site", "maker", "study_year", "sex")
"""Columns for subgroups that the tags of DICOM files give."""
PART = re.compile(r"(.+)#(?=.)((?:(?:frame|sagittal|coronal|axial)=\d+)?(?:(?<=\d)&)?(?:window=[-\d.]+,[\d.]+)?)")


class Listed(NamedTuple):
    """The images in some files, by their names with the part, such as ``head.nii#axial=90``.

    Attributes
    ----------
    labels, groups : dict from str to str
    grouped_by : str
        What a group is: see :attr:`common.data.ImageTable.grouped_by`.
    settings : dict
        How they are shown, of ``medical.toml``.
    """

    labels: dict[str, str]
    groups: dict[str, str]
    grouped_by: str
    settings: dict[str, Any]


def file_and_part(path: Path) -> tuple[Path, str]:
    """The file that holds an image, and which part of it that is: ``axial=90``, empty for the whole."""
    found = PART.fullmatch(path.name)
    return (path.with_name(found[1]), found[2]) if found else (path, "")


def value_for(image: str, values: Mapping[str, T]) -> T | None:
    """What a list beside the images says of one, or of the file that it is a part of."""
    return values.get(image, values.get(file_and_part(Path(image))[0].as_posix()))


def is_scan(path: Path) -> bool:
    """Whether a file is DICOM or NIfTI: by its suffix, or without one by ``DICM`` at byte 128."""
    path = file_and_part(path)[0]
    if path.name.lower().endswith((*DICOM, *NIFTI)):
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # a UID as a name seems to have a suffix
        return False
    try:
        with open(regular(path), "rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def is_dicom(content: bytes) -> bool:
    """Whether these bytes begin a DICOM file."""
    return content[128:132] == b"DICM"


def decoders(scans: bool) -> str:
    """What decodes images, with its versions, as a part of the names of what is kept of them.

    Raises
    ------
    UserError
        When what medical images need is not installed.
    """
    names = {"pydicom": "pydicom", "openjpeg": "pylibjpeg-openjpeg", "nibabel": "nibabel"} if scans else {}
    try:
        found = [f"{name}-{version(package)}" for name, package in names.items()]
    except PackageNotFoundError as error:
        raise lacking_package(error.name or "pydicom") from error
    return "-".join([f"pillow-{PIL.__version__}", *found])


def lacking_package(name: str) -> UserError:
    """What to say when a package of the extra is not installed."""
    return UserError(f"DICOM and NIfTI files need {name}, which is not installed; expected pip install .[medical]")


def installed(name: str) -> Any:
    """A module of a package of the extra.

    Raises
    ------
    UserError
        When it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise lacking_package(name.partition(".")[0]) from None


def scan_image(source: Path | BinaryIO) -> Image.Image:
    """As :func:`common.medical.read_scan`."""
    from common.medical import read_scan

    return read_scan(source)


def listed_scans(folder: Path, labels: Mapping[str, str], groups: Mapping[str, str] | None) -> Listed:
    """As :func:`common.medical.list_scans`."""
    from common.medical import list_scans

    return list_scans(folder, labels, groups)


def images_in(file: Path, settings: Mapping[str, Any] | None) -> list[Path]:
    """The images in a file of any kind, as paths with the part; by some settings, or those beside it."""
    if not is_scan(file):
        return [file]
    from common.medical import parts_of

    return parts_of(file, settings)


def tags_in_files(table: ImageTable, units: np.ndarray) -> dict:
    """As :func:`common.medical.look_at_tags`."""
    from common.medical import look_at_tags

    return look_at_tags(table, units)


def technical_tags(path: Path, names: Iterable[str]) -> tuple[list[float], dict[str, str]]:
    """As :func:`common.medical.technical`."""
    from common.medical import technical

    return technical(path, names)


def tag_column(folder: Path, images: Iterable[str], column: str) -> dict[str, str]:
    """As :func:`common.medical.column_of_tags`."""
    from common.medical import column_of_tags

    return column_of_tags(folder, images, column)
