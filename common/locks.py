"""Locks between processes, and what is said of one that cannot be had."""

from __future__ import annotations

import errno
import tempfile
from functools import lru_cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from common.cli import UserError

NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of network disks that have no locks: there a lock is a file that names its holder, and exists as long."""
PATIENCE = 600.0
"""Seconds to wait for such a holder, of which nobody can say from another host whether it still lives."""


def locked(path: Path, timeout: float = -1, poll_interval: float = 0.05) -> BaseFileLock:
    """A lock between processes on what `path` names, kept in a file beside it; waits for at most `timeout` seconds.

    Raises
    ------
    UserError
        When it is acquired on a disk without locks, and one process holds it for longer than :data:`PATIENCE`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = FileLock if _has_flock(path.parent) else _Marker
    return kind(path.with_name(f"{path.name}.lock"), timeout, poll_interval=poll_interval)


class _Marker(SoftFileLock):
    def acquire(self, timeout: float | None = None, **options):  # type: ignore[no-untyped-def, override]
        if (self.timeout if timeout is None else timeout) >= 0:
            return super().acquire(timeout, **options)
        while True:
            before = holder_of(self.lock_file)
            try:
                return super().acquire(PATIENCE, **options)
            except Timeout:
                if (found := holder_of(self.lock_file)) and found == before:
                    raise UserError(f"{self.lock_file}: held for {PATIENCE / 60:.0f} minutes{found}") from None


def holder_of(lock: str | Timeout) -> str:
    """Of a lock's file, or the error that names it, where the disk has no locks: who holds it, and what to do."""
    path = Path(lock.lock_file if isinstance(lock, Timeout) else lock)
    if _has_flock(path.parent):
        return ""
    try:
        process, host = path.read_text().split("\n")[:2]
        named = f"process {int(process)} of host {host.split('?')[0]}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        named = "an unknown process"
    return f": {named} (when that is gone, remove {path})"


@lru_cache
def _has_flock(folder: Path) -> bool:
    try:
        import fcntl

        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_FLOCK
    except ImportError:  # Windows has locks of its own
        pass
    return True
