"""Whether a process of this machine works on a run, and how to keep others from it for a while."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import BaseFileLock, Timeout

from common.cli import UserError
from common.locks import holder_of, locked
from common.state import whole_file, work_folder

SPARE = 200
"""Files that may be opened meanwhile."""


def folder_id() -> str:
    """A random name of the folder whose locks tell which of its runs are at work."""
    path = work_folder("folder_id")
    if not path.exists():
        with whole_file(path, "w") as file:
            file.write(uuid.uuid4().hex)
    return path.read_text()


def lock_of_run(run_id: str) -> BaseFileLock:
    """The lock that a process which works on a run holds; whoever takes it, except the run's own, holds the start's."""
    return locked(work_folder("checkpoints") / run_id)


def lock_of_start() -> BaseFileLock:
    """The lock of whoever looks for runs to go on with."""
    return locked(work_folder("checkpoints") / ".start")


def let_go(lock: BaseFileLock) -> None:
    """Release a run's lock and remove its file."""
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextmanager
def kept_from_work(run_id: str) -> Iterator[None]:
    """Nobody takes a run up until the end of the block.

    Raises
    ------
    UserError
        When a process works on it.
    """
    lock = lock_of_run(run_id)
    try:
        with lock_of_start():
            lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"run {run_id}: a process is working on it{holder_of(error)}; expected one that ended"
        ) from None
    try:
        yield
    finally:
        with lock_of_start():
            let_go(lock)


@contextmanager
def all_kept_from_work(run_ids: Sequence[str]) -> Iterator[None]:
    """As :func:`kept_from_work`, of some runs: each takes an open file, of which systems give few unless asked."""
    import resource  # which Windows lacks

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/dev/fd")) + len(run_ids) + SPARE
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft not in (resource.RLIM_INFINITY, hard) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    with ExitStack() as held:
        for run_id in run_ids:
            held.enter_context(kept_from_work(run_id))
        yield


def is_at_work(run_id: str) -> bool:
    """Whether a process of this machine works on a run."""
    if not work_folder("checkpoints").joinpath(f"{run_id}.lock").exists():
        return False
    with lock_of_start():  # until the end, so that nobody finds the lock taken by one who only looks
        lock = lock_of_run(run_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        let_go(lock)
    return False
