"""The phantoms as DICOM files: two sites with a scanner each, and what scanners differ in, whatever the class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.data.made.phantoms import CLASSES, Slice, draw_phantoms
from common.medical.dicom import import_pydicom
from common.state import whole_folder

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90")
"""Of the slices of a patient in turn: explicit and implicit values, RLE, JPEG 2000 without loss."""


class Scanner(NamedTuple):
    """A scanner: who made it, and by how much and from where on its stored values grow to real ones."""

    maker: str
    model: str
    slope: int
    intercept: int


SCANNERS = (
    Scanner("Northlight", "N1", 2, -1024),
    Scanner("Southfield", "S64", 1, -400),
    Scanner("Eastman", "E7", 4, -200),
)
"""Of the sites, in turn. Grey 0 is the real value -200, and each shade is 4 more."""


def write_phantoms(
    folder: Path, n_sites: int = 2, n_patients: int = 150, n_slices: int = 4, size: int = 128, seed: int = 0
) -> None:
    """Write the slices of :func:`common.data.made.phantoms.make_phantoms` as DICOM files, ``<class>/000_0.dcm``.

    They are 12 bits in 16, with a rescale and a window that give the shades of the PNG files. Site and scanner, whether
    black is high (MONOCHROME1), and the compression are dealt to the classes evenly. The same arguments give the same
    bytes, as far as versions of pydicom and of the encoder do. The folder appears when it is complete and not before.

    Parameters
    ----------
    folder : Path
        Must not exist yet, or be empty.
    n_sites : int
        1 to 3; each site has its scanner.
    n_patients, n_slices, size, seed
        As there.

    Raises
    ------
    OSError
        If `folder` holds something or cannot be written.
    UserError
        When pydicom is not installed.
    """
    import_pydicom()
    total = n_patients * n_slices
    with whole_folder(folder) as scratch, tqdm(total=total, desc="drawing heads", unit="slice", disable=None) as bar:
        for name in CLASSES:
            (scratch / name).mkdir()
        for one in draw_phantoms(n_patients, n_slices, size, seed):
            path = scratch / one.name / f"{one.patient:03d}_{one.number}.dcm"
            _dataset(one, one.patient // 2 % n_sites, seed).save_as(path, enforce_file_format=True)
            bar.update()


def _dataset(one: Slice, site: int, seed: int):
    """The tags and pixels of a slice."""
    pydicom = import_pydicom()
    syntax = pydicom.uid.UID(SYNTAXES[one.number % len(SYNTAXES)])
    tags = pydicom.Dataset()
    for name, value in {**_of_patient(one.patient, seed), **_of_image(one, site, seed)}.items():
        setattr(tags, name, value)
    tags.file_meta = pydicom.dataset.FileMetaDataset()
    tags.file_meta.MediaStorageSOPClassUID, tags.file_meta.MediaStorageSOPInstanceUID = CT_IMAGE, tags.SOPInstanceUID
    tags.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian if syntax.is_compressed else syntax
    tags.PixelData = _stored(one.pixels, SCANNERS[site], tags.PhotometricInterpretation).tobytes()
    tags["PixelData"].VR = "OW"
    if syntax.is_compressed:
        tags.compress(syntax, generate_instance_uid=False)
    return tags


def _of_patient(patient: int, seed: int) -> dict[str, object]:
    year = 2024 + patient // 4 % 2
    return {
        "PatientName": f"Phantom^{patient:03d}",
        "PatientID": f"phantom {seed} {patient:03d}",
        "PatientBirthDate": f"{1940 + patient * 7 % 50}0101",
        "PatientSex": "FM"[patient // 2 // 2 % 2],
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "drawn by a program",
        "StudyDate": f"{year}0301",
        "StudyTime": "120000",
        "StudyID": "1",
        "AccessionNumber": "",
        "StudyInstanceUID": _uid(seed, patient),
        "SeriesInstanceUID": _uid(seed, patient, "series"),
        "SeriesNumber": 1,
    }


def _of_image(one: Slice, site: int, seed: int) -> dict[str, object]:
    scanner, (height, width) = SCANNERS[site], one.pixels.shape
    return {
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": _uid(seed, one.patient, one.number),
        "Modality": "CT",
        "InstanceNumber": one.number + 1,
        "InstitutionName": f"Site {site + 1}",
        "StationName": f"CT{site + 1}",
        "Manufacturer": scanner.maker,
        "ManufacturerModelName": scanner.model,
        "BurnedInAnnotation": "NO",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME1" if one.patient // 4 % 4 == 0 else "MONOCHROME2",
        "Rows": height,
        "Columns": width,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": scanner.slope,
        "RescaleIntercept": scanner.intercept,
        "RescaleType": "HU",
        "WindowCenter": 310.5,
        "WindowWidth": 1021,
    }


def _stored(pixels: np.ndarray, scanner: Scanner, interpretation: str) -> np.ndarray:
    shades = pixels.astype(np.int64) if interpretation == "MONOCHROME2" else 255 - pixels.astype(np.int64)
    return ((4 * shades - 200 - scanner.intercept) // scanner.slope).astype("<u2")


def _uid(*parts: object) -> str:
    return str(import_pydicom().uid.generate_uid(entropy_srcs=["reproai phantoms", *map(str, parts)]))
