"""Folds of one's own for data, in and out."""

from __future__ import annotations

from pathlib import Path

from common import data
from common.cli import writing
from common.data.given_folds import write_folds


def import_folds(path: str | Path, source: str = "drawn", force: bool = False) -> dict:
    """Make folds of one's own the splits of data, once they are known to leak nothing; returns the splits.

    Parameters
    ----------
    path : str or Path
        See :func:`common.data.own_splits`: a CSV ``files,part``, ``file,fold`` or ``file,root_split,inner_split,part``,
        or JSON: a splits file, or ``list(cv.split(X, y, groups))``.
    source : str
        What ``--data`` takes.
    force : bool
        Replace other splits of the same images.

    Raises
    ------
    UserError
        When the file is none of these, names other images, or shares an image, copies of one or a group between parts.
    """
    table = data.load_images(source, image_size=64)
    splits = data.own_splits(table, Path(path))
    data.save_splits(splits, data.splits_file(table), force)
    return splits


def export_folds(source: str = "drawn", path: str | Path = "splits.csv") -> str:
    """Write the splits of data as a CSV ``file,root_split,inner_split,part``; returns a line that says so.

    Raises
    ------
    UserError
        When the data or their splits cannot be read, or the file cannot be written.
    """
    table = data.load_images(source, image_size=64)
    splits = data.load_splits(table)
    with writing(path):
        count = write_folds(table, splits, Path(path))
    return f"splits of {table.name}: {len(splits['root_splits'])} root splits, {count} rows: {path}"
