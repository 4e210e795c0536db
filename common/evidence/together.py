"""Photos that one camera took at about the same time: most likely of one animal or patient."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from PIL import Image

from common.data.decoding import FORMATS
from common.data.images import ImageTable
from common.evidence.shortcuts import exif_of
from common.progress import in_threads

TOGETHER = 60.0
"""Seconds between two photos of one camera."""


def taken_together(table: ImageTable) -> list[tuple[int, int]]:
    """Rows of images that one camera (by its serial number in EXIF) took within :data:`TOGETHER` of each other."""
    if not table.root.is_dir():
        return []
    moments = defaultdict(list)
    for row, found in enumerate(in_threads(_moment, [table.root / name for name in table.files], "tags")):
        if found is not None:
            moments[found[0]].append((found[1], row))
    pairs = []
    for of_camera in map(sorted, moments.values()):
        for (before, one), (after, other) in pairwise(of_camera):
            if (after - before).total_seconds() <= TOGETHER:
                pairs.append((min(one, other), max(one, other)))
    return pairs


def _moment(path: Path) -> tuple[str, datetime] | None:
    try:
        with Image.open(path, formats=FORMATS) as image:
            tags = exif_of(image)
        return tags["BodySerialNumber"], datetime.strptime(tags["DateTimeOriginal"], "%Y:%m:%d %H:%M:%S")
    except Exception:  # an image without them, or with damaged ones
        return None
