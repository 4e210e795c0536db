"""How a file is written: whole or not at all, and so that it outlives a power cut."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, mode: str = "wb") -> Iterator[IO]:
    """A file to write beside `path`; when the block has ended well it takes that name, on disk for good, else it goes.

    Parameters
    ----------
    path : Path
        Is replaced. The folders above it are made.
    mode : {"wb", "w"}
        Text is UTF-8.

    Raises
    ------
    OSError
        When it cannot be written; `path` is then as it was.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            sync(file)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        _sync_folder(path.parent)


def sync(file: IO) -> None:
    """Have what was written to an open file on disk, where a power cut leaves it, when this returns."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
