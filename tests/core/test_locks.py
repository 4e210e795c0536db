"""Locks between processes, also on network disks that have none of their own."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import Timeout

from common import locks
from common.cli import UserError
from common.locks import holder_of, locked

BROKEN = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
OTHER = """
import errno, fcntl, sys, time
from pathlib import Path
def flock(file, operation):
    raise OSError(int(sys.argv[1]), "no locks here")
fcntl.flock = flock
from common.locks import locked
path = Path(sys.argv[2])
"""
HOLDS = OTHER + 'with locked(path):\n    print("held", flush=True)\n    time.sleep(60)\n'
COUNTS = (
    OTHER
    + """
for _ in range(40):
    with locked(path, poll_interval=0.001):
        number = int(path.read_text())
        time.sleep(0.001)
        path.write_text(str(number + 1))
"""
)


@pytest.fixture(params=BROKEN)
def without_flock(request, monkeypatch):
    """The number of the error that a disk without locks gives, in this process, too."""

    def flock(file, operation):
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    locks._has_flock.cache_clear()
    yield request.param
    locks._has_flock.cache_clear()


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_disk_without_locks_has_them_all_the_same_and_the_dead_hold_none(without_flock, tmp_path):
    path = tmp_path / "what"
    holder = start(HOLDS, without_flock, path)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout) as found:
            locked(path).acquire(timeout=0)
        host = os.uname().nodename
        assert (
            holder_of(found.value) == f": process {holder.pid} of host {host} (when that is gone, remove {path}.lock)"
        )
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with locked(path, timeout=5):
            assert holder_of(f"{path}.lock").startswith(f": process {os.getpid()} of host {host}")
        assert not path.with_name("what.lock").exists()
    finally:
        holder.kill()
        holder.wait()


def test_without_flock_two_processes_never_hold_one_lock(tmp_path):
    (tmp_path / "count").write_text("0")
    both = [start(COUNTS, errno.ENOLCK, tmp_path / "count") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "count").read_text() == "80"


@pytest.mark.parametrize(
    "marker, named", [("4711\nnode-7\n99\n", "process 4711 of host node-7"), ("", "an unknown process")]
)
def test_a_holder_on_a_host_that_is_gone_is_named_and_not_waited_for_for_ever(
    marker, named, without_flock, tmp_path, monkeypatch
):
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    (tmp_path / "what.lock").write_text(marker)
    begin = time.monotonic()
    with pytest.raises(UserError) as found, locked(tmp_path / "what"):
        pass
    assert time.monotonic() - begin < 5
    file = tmp_path / "what.lock"
    assert str(found.value) == f"{file}: held for 0 minutes: {named} (when that is gone, remove {file})"
    assert file.read_text() == marker
    file.unlink()
    with locked(tmp_path / "what"):
        pass


def test_where_there_are_locks_a_file_that_was_left_holds_nothing(tmp_path):
    (tmp_path / "what.lock").write_text("4711\nnode-7\n")
    with locked(tmp_path / "what", timeout=0) as lock, pytest.raises(Timeout) as found:
        locked(tmp_path / "what", timeout=0).acquire()
    assert lock.lock_file == found.value.lock_file == str(tmp_path / "what.lock")
    assert holder_of(found.value) == ""
