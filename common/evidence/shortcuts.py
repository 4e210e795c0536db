"""Shortcuts: what tells the classes apart without what the images show, such as a file's size, a tag or a border."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.data.decoding import FORMATS
from common.data.images import ImageTable
from common.data.scans import is_scan, technical_tags
from common.evaluation.delong import auc_interval
from common.evaluation.statistics import Interval
from common.evaluation.tested import OuterFold
from common.progress import in_threads

FOLDS = 5
BORDER = 6 / 224
"""Width of a border as a share of the side: 6 pixels of 224."""
LEAST_SIDE = 96
"""Pixels per side from which on a border is apart from what the image shows."""
TAGS = ("Make", "Model", "Software", "BodySerialNumber", "Orientation", "XResolution")
DICOM_TAGS = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "InstitutionName", "StationName")
"""Tags of EXIF and of DICOM that are looked at: their most frequent values, and whether they are there."""


def shortcuts(table, units: np.ndarray) -> dict[str, Interval]:
    """How well each kind of feature that shows nothing of the object tells the classes apart.

    Parameters
    ----------
    table : ImageTable
        Decoded.
    units : ndarray of int, shape (n,)
        Images of one unit are in one fold.

    Returns
    -------
    dict from {"file", "tags", "colour", "border"} to Interval
        ROC AUC of a logistic regression in 5-fold cross-validation by unit, and its 95 % interval (see
        :func:`common.evaluation.delong.auc_interval`). What is the same for all images, or cannot be asked of them, is
        left out; so are all where a class has fewer than 5 units.
    """
    features = {**_of_files(table), "colour": _colours(table.pixels), "border": _borders(table.pixels)}
    sides = features.get("file")
    if sides is None or np.median(sides[:, 1:3].min(1)) < np.log(LEAST_SIDE):
        del features["border"]
    least = min(len(set(units[table.labels == label])) for label in range(len(table.classes)))
    if least < FOLDS:
        return {}
    return {
        name: _separated(values, table.labels, units)
        for name, values in features.items()
        if values.size and np.ptp(values, axis=0).any()
    }


def _separated(values: np.ndarray, labels: np.ndarray, units: np.ndarray) -> Interval:
    units = np.unique(units, return_inverse=True)[1]
    folds = []
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(values, labels, units):
        if len(set(labels[train])) < len(set(labels)) or len(set(labels[test])) < len(set(labels)):
            return Interval(float("nan"), missing="a fold lacks a class")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = model.fit(values[train], labels[train]).predict_proba(values[test])
        probabilities = found[:, 1] if found.shape[1] == 2 else found
        folds.append(OuterFold(labels[test], probabilities[None], units[test], np.array([0.5])))
    return auc_interval(folds)


def _of_files(table: ImageTable) -> dict[str, np.ndarray]:
    """Size, sides and compression of each file, and its EXIF tags; nothing where there are no files of images."""
    if not table.root.is_dir():
        return {}
    of_files, tags = zip(*in_threads(_of_file, [table.root / name for name in table.files], "files"), strict=True)
    return {"file": np.array(of_files), "tags": np.column_stack(list(_indicators(tags)) or [np.zeros((len(tags), 0))])}


def _of_file(path: Path) -> tuple[list, dict[str, str]]:
    if is_scan(path):
        return technical_tags(path, DICOM_TAGS)
    n_bytes = path.stat().st_size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                tables = list(getattr(image, "quantization", None) or {})
                steps = [np.mean(image.quantization[number]) for number in tables]  # type: ignore[attr-defined]
                exif = exif_of(image)
                kind, channels = FORMATS.index(image.format or ""), len(image.getbands())
    except Exception:  # it was left out when the images were decoded, or is unlike any other
        return [float(np.log(max(1, n_bytes))), 0, 0, 0, 0, 0, 0, 0], {}
    pixels = width * height
    sides = np.log([width, height, width / height]).tolist()
    compression = [float(np.log(8 * n_bytes / pixels)), float(np.mean(steps)) if steps else 0.0]
    return [float(np.log(n_bytes)), *sides, *compression, kind, channels], exif


def exif_of(image: Image.Image) -> dict[str, str]:
    """The EXIF tags of an image by their names, also those about how the photo was taken."""
    exif = image.getexif()
    every = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    return {ExifTags.TAGS.get(number, str(number)): str(value).strip("\0 ") for number, value in every.items()}


def _indicators(tags: tuple[Mapping[str, str], ...]) -> Iterator[np.ndarray]:
    for name in (*TAGS, *DICOM_TAGS):
        values, counts = np.unique([of.get(name, "") for of in tags], return_counts=True)
        for value in values[np.argsort(-counts)][:10]:
            yield np.array([of.get(name, "") == value for of in tags], float)


def _colours(pixels: np.ndarray) -> np.ndarray:
    return _chunks(pixels, lambda images: images.mean((2, 3)))


def _borders(pixels: np.ndarray) -> np.ndarray:
    wide = max(1, round(BORDER * pixels.shape[-1]))

    def of(images: np.ndarray) -> np.ndarray:
        sides = (images[:, :, :wide], images[:, :, -wide:], images[..., :wide], images[..., -wide:])
        return np.concatenate([*(side.mean((2, 3)) for side in sides), *(side.std((2, 3)) for side in sides)], axis=1)

    return _chunks(pixels, of)


def _chunks(pixels: np.ndarray, function) -> np.ndarray:
    starts = range(0, len(pixels), 512)
    return np.concatenate([function(pixels[start : start + 512].astype(np.float32)) for start in starts])
