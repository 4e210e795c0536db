"""What is in a folder now: its data version, from the bytes of its files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from common.cli import UserError

IGNORED = re.compile(r"\..*|.*\.(part|tmp)|.*dataset_splits(-\w+)?\.json", re.IGNORECASE | re.DOTALL)
"""Names that do not count: hidden files, files under way, and what this project makes from the images."""
TICK = 2.0
"""Seconds: the coarsest time stamps of a file system (FAT's)."""


class Contents:
    """The files of a folder (or one file), read again only where they may have changed.

    A file is not read again as long as its size, inode, and times of change and of status change (which no program can
    set) are what they were for at least :data:`TICK` before it was read: a change after that has another time, even
    where time stamps are coarse, or of another machine's clock. So a file is read until it has been at rest for that
    long, then only when it was touched.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def look(self) -> str | None:
        """The data version, or None where there are no files.

        Returns
        -------
        str or None
            SHA-256 (hex) over the sorted relative paths, each with the SHA-256 of its bytes.

        Raises
        ------
        UserError
            When the path is not there, or something in it cannot be read.
        """
        before, self._known = self._known, {}
        version = hashlib.sha256()
        try:
            for name, path in sorted(self._files()):
                with contextlib.suppress(FileNotFoundError):  # gone since, or a link to nothing
                    info = path.stat()
                    if stat.S_ISREG(info.st_mode):
                        self._known[name] = _digest(path, info, before.get(name))
                        version.update(os.fsencode(name) + b"\0" + self._known[name].digest)
        except OSError as error:
            raise UserError(f"{error.filename or self.path}: cannot be read ({error.strerror})") from error
        return version.hexdigest() if self._known else None

    def _files(self) -> Iterator[tuple[str, Path]]:
        self.path.stat()  # a drive that is away is an error, not an empty folder
        if not self.path.is_dir():
            yield self.path.name, self.path
            return
        seen = set(map(str, self.path.resolve().parents))
        for folder, subfolders, names in os.walk(self.path, onerror=_raise_unless_gone, followlinks=True):
            place = os.path.realpath(folder)
            subfolders[:] = sorted(filter(_counts, subfolders)) if place not in seen else []
            for name in filter(_counts, names if place not in seen else []):
                path = Path(folder, name)
                yield path.relative_to(self.path).as_posix(), path
            seen.add(place)  # a link may lead there once more


class _Known(NamedTuple):
    stamp: tuple[int, ...]
    since: float
    digest: bytes
    at_rest: bool


def _digest(path: Path, info: os.stat_result, known: _Known | None) -> _Known:
    stamp = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev)
    now = time.monotonic()
    if known is None or known.stamp != stamp:
        known = _Known(stamp, now, b"", False)
    if known.at_rest:
        return known
    with path.open("rb") as file:
        return known._replace(digest=hashlib.file_digest(file, "sha256").digest(), at_rest=now - known.since >= TICK)


def _counts(name: str) -> bool:
    return not IGNORED.fullmatch(name)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
