"""DVC's own commands, run in a repository: their progress shows on a terminal, and their errors are one line."""

from __future__ import annotations

import contextlib
import logging
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.cli import UserError


def pointer_of(data: Path) -> Path:
    """The ``.dvc`` file of a file or folder."""
    return data.with_name(f"{data.name}.dvc")


def md5_in(text: str | None) -> str | None:
    """The MD5 sum in the text of a ``.dvc`` file; None where there is none, or several."""
    found = re.findall(r"^[- ] md5: ([0-9a-f]{32}(?:\.dir)?)$", text or "", re.MULTILINE)
    return found[0] if len(found) == 1 else None


def find_dvc(start: Path, top: Path) -> Path | None:
    """The nearest folder with DVC, from `start` up to `top`."""
    return next((p for p in (start, *start.parents) if p.is_relative_to(top) and (p / ".dvc").is_dir()), None)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        reason = record.exc_info[1] if record.exc_info else None
        self.said.append(f"{record.getMessage()} ({reason})" if reason else record.getMessage())


@contextlib.contextmanager
def open_dvc(root: Path) -> Iterator[Any]:
    """DVC in a folder, as ``dvc.repo.Repo``, whose methods are the commands of the ``dvc`` program.

    Raises
    ------
    UserError
        When DVC is not installed, or with the first error that a command in the context tells.
    """
    try:
        from dvc.exceptions import DvcException  # type: ignore[import-untyped]
        from dvc.repo import Repo  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError("versions of data need DVC: pip install 'reproai[versions]'") from error
    errors = _Errors()
    for logger in map(logging.getLogger, ("dvc", "dvc_data", "dvc_objects")):
        logger.propagate, logger.handlers = False, [errors]
    lock = root / ".dvc" / "tmp" / "rwlock"
    if lock.exists() and not lock.read_text():  # a dvc that was killed as it wrote it: no other would start
        lock.unlink()
    try:
        with Repo(str(root)) as repo:
            yield repo
    except (DvcException, OSError) as error:
        said = [*errors.said, str(error), type(error).__name__]
        raise UserError(f"DVC: {textwrap.shorten(next(filter(None, said)), 500)}") from error


def transfer(repo: Any, action: str, pointers: Iterable[Path]) -> int:
    """Have data pushed or fetched; returns how many files were.

    DVC keeps the list of files that it had begun to make: where it was killed meanwhile, it would take that part for
    all of them, ever after, and push or fetch no others.
    """
    repo.drop_data_index()
    return getattr(repo, action)(targets=[str(pointer) for pointer in pointers])
