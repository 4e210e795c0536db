"""Where things are kept, and how a file or a folder is written: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of the project's code."""


def state_folder() -> Path:
    """The folder of all that is kept: what ``REPROAI_STATE`` names, or the project folder."""
    return Path(os.environ.get("REPROAI_STATE") or PROJECT).expanduser().absolute()


def data_folder() -> Path:
    """Where data sets that the project makes or downloads lie, and the splits of all."""
    return state_folder() / "data"


def cache_folder() -> Path:
    """Where what can be computed again is kept: what ``REPROAI_CACHE`` names, or ``cache/``."""
    named = os.environ.get("REPROAI_CACHE")
    return Path(named).expanduser().absolute() if named else state_folder() / "cache"


def work_folder(kind: str) -> Path:
    """Where what is not done yet is kept, such as ``checkpoints``: under ``cache/``, wherever arrays are cached."""
    return state_folder() / "cache" / kind


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file at; when the block has ended well it takes that name, else it is removed.

    Parameters
    ----------
    path : Path
        Is replaced. The folders above it are made.

    Raises
    ------
    OSError
        When it cannot be written; `path` is then as it was.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def whole_file(path: Path, mode: str = "wb") -> Iterator[IO]:
    """As :func:`whole`, a file opened to write (text is UTF-8), which is on disk for good when the block has ended."""
    with whole(path) as part, open(part, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file
        sync(file)
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        _sync_folder(Path(path).absolute().parent)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill beside `folder`; it takes its name when the block has ended well, else it is removed.

    Parameters
    ----------
    folder : Path
        Must not exist yet, or be empty. The folders above it are made.

    Raises
    ------
    OSError
        If `folder` holds something or cannot be written.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        os.replace(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def regular(path: Path) -> Path:
    """The path, unless it is a FIFO, a socket or a device, which might be read for ever.

    Raises
    ------
    OSError
        Then, or when there is no such file.
    """
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "expected a regular file, found a FIFO, a socket or a device", str(path))
    return path


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
