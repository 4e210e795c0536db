"""Whether a process of this machine works on a run, and how to keep others from it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from common.cli import UserError
from common.locks import holder_of, locked
from common.state import work_folder


@contextmanager
def kept_from_work(run_id: str) -> Iterator[None]:
    """Nobody takes a run up until the end of the block.

    Raises
    ------
    UserError
        When a process works on it.
    """
    folder = work_folder("checkpoints")
    lock = locked(folder / run_id)
    try:
        with locked(folder / ".start"):
            lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"run {run_id}: a process is working on it{holder_of(error)}; expected one that ended"
        ) from None
    try:
        yield
    finally:
        with locked(folder / ".start"):
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def is_at_work(run_id: str) -> bool:
    """Whether a process of this machine works on a run."""
    if not work_folder("checkpoints").joinpath(f"{run_id}.lock").exists():
        return False
    try:
        with kept_from_work(run_id):
            return False
    except UserError:
        return True
