"""Where a phase stands, on disk, so that it can go on after its process was killed."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from common.cli import UserError
from common.interrupting import uninterrupted
from common.locks import locked
from common.state import whole_file

PAUSE = 5.0
"""Seconds between two checkpoints of a phase, at least: shorter phases have only the one at their end."""


LIMIT = "most"
"""The file that says how many bytes the checkpoints beside it may take, see :mod:`common.results.budget`."""


class Checkpoint:
    """A file in which a phase keeps where it stands; without a path nothing is kept.

    It is what ``torch.save`` writes: a zip file, which has a checksum of each of its parts.

    Parameters
    ----------
    path : Path, optional
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._last = time.monotonic()

    def load(self) -> dict | None:
        """What was saved last; None if there is nothing, or, with a line that says so, if it cannot be read."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with ZipFile(self.path) as file:
                if (damaged := file.testzip()) is not None:
                    raise BadZipFile(f"wrong checksum of {damaged}")
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # what damaged bytes raise depends on them
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"{self.path}: damaged, so it counts as absent ({reason})", file=sys.stderr)
            return None

    def save(self, state: Callable[[], dict], always: bool = False) -> None:
        """Replace what was saved by what `state` gives, whole or not at all; unless `always`, only after a while.

        A power cut leaves it as it is when this returns. Where a file :data:`LIMIT` beside it says how many bytes the
        checkpoints there may take, one for which there is no room is not written: then its phase begins anew.

        Raises
        ------
        UserError
            When the file cannot be written.
        """
        if self.path is None or not (always or time.monotonic() - self._last >= PAUSE):
            return
        content = state()
        try:  # torch takes an interruption for a failure to write
            with uninterrupted(), _room(self.path, content) as has_room:
                if has_room:
                    with whole_file(self.path) as file:
                        torch.save(content, file)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"{self.path}: the checkpoint cannot be written ({reason})") from error
        self._last = time.monotonic()


@contextmanager
def _room(path: Path, content: dict) -> Iterator[bool]:
    """Whether there is room for a checkpoint; no other takes it until the end of the block."""
    limit = path.with_name(LIMIT)
    if not limit.exists():
        yield True
        return
    with locked(limit):
        used = 0
        for other in path.parent.glob("*.pt"):
            with contextlib.suppress(FileNotFoundError):
                used += other.stat().st_size if other != path else 0
        yield used + _bytes(content) <= int(limit.read_text())


def _bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    return sum(map(_bytes, value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()))


class SavedModels(Checkpoint):
    """A file for each saved epoch, ``epoch-00001.pt`` and so on; the newest that can be read is where one goes on.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, None
        self.on_save: Callable[[Path], None] = lambda path: None

    def load(self) -> dict | None:
        for part in self.folder.glob("*.part"):  # of a process that was killed
            part.unlink()
        for path in sorted(self.folder.glob("epoch-*.pt"), reverse=True):
            self.path = path
            state = super().load()
            if state is not None:
                return state
        return None

    def save(self, state: Callable[[], dict], always: bool = False) -> None:
        if always:
            content = state()
            self.path = self.folder / f"epoch-{content['epoch']:05d}.pt"
            super().save(lambda: content, always)
            self.on_save(self.path)
