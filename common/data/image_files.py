"""Which files of a folder are images, links to folders followed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from common.data.decoding import FORMATS
from common.data.scans import is_scan


def list_images(root: Path) -> tuple[list[str], Counter]:
    """Files with the suffix of an image, or DICOM without one, sorted; and a count of the other files by suffix."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    images: list[str] = []
    others: Counter[str] = Counter()
    for folder, names in _folders(root):
        for name in names:
            path = (folder / name).relative_to(root)
            if name.startswith("."):
                continue
            if path.suffix.lower() in suffixes or is_scan(folder / name):
                images.append(path.as_posix())
            elif len(path.parts) > 1 and path.parts[0] != "annotations":
                others[path.suffix] += 1
    return sorted(images), others


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders with the names of their files: real ones first, then where links lead, but none twice, nor above root."""

    def identity(folder: Path) -> tuple[int, int]:
        return folder.stat().st_dev, folder.stat().st_ino

    def refuse(error: OSError) -> None:
        raise error

    seen, tops = set(map(identity, root.resolve().parents)), [root]
    for top in tops:
        for name, folders, names in os.walk(top, onerror=refuse):
            folder = Path(name)
            if identity(folder) in seen:
                folders.clear()
                continue
            seen.add(identity(folder))
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
            tops += [folder / f for f in folders if (folder / f).is_symlink()]
            yield folder, names
