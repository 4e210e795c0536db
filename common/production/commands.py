"""The runs of one command on one path: which data version led to which, and what became of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from common.cli import UserError, masked
from common.interrupting import uninterrupted
from common.state import whole_file

COMMAND = """trap : INT TERM HUP
"$@"
code=$?
echo $code >"$0.part" && mv "$0.part" "$0"
"""
"""Runs the command and notes its exit code, also when the watcher is gone by then."""


class Runs:
    """The runs recorded in ``<base>.json``, the newest last; the file is written whole or not at all.

    Each has ``data_version``, ``started`` and ``ended`` (UTC), ``outcome`` (running, finished, failed or interrupted),
    ``exit_code``, ``run_id`` and ``pid`` (of its process group). The run id is what the command has written into the
    file ``<base>.run``, which ``REPROAI_RUN_ID_FILE`` names in its environment, as every ``train.py`` does, or that of
    the line that ``--json`` prints last.

    ``<base>.log`` is the command's standard output, locked as long as one of its processes has it open: that tells
    whether a command that a killed watcher has left is still running. ``<base>.exit`` holds its exit code.

    Raises
    ------
    UserError
        When the record is damaged.
    """

    def __init__(self, base: Path, data: Path, command: list[str]):
        self.data, self.command = data, command
        ends = ("json", "log", "exit", "run")
        self.record, self._log, self._exit, self._made = (Path(f"{base}.{end}") for end in ends)
        self._runs: list[dict] = []
        if self.record.exists():
            try:
                self._runs = json.loads(self.record.read_text())["runs"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.record}: not a record of runs ({error}); without it, all data is new"
                ) from error

    def last(self, field: str) -> object:
        """A field of the newest run; None when there is no run yet."""
        return self._runs[-1][field] if self._runs else None

    def finished(self, version: str | None) -> dict | None:
        """The run that finished on a data version."""
        of_version = (run for run in self._runs if run["data_version"] == version)
        return next((run for run in of_version if run["outcome"] == "finished"), None)

    def is_due(self, version: str | None, retry: bool) -> bool:
        """Whether the command is to be run on a data version: not if it has finished or, unless `retry`, failed."""
        if version is None or self.finished(version):
            return False
        return retry or self.last("data_version") != version or self.last("outcome") != "failed"

    def run(self, version: str) -> None:
        """Run the command to its end; a signal that ends the watcher ends the command first."""
        self._exit.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        self._made.unlink(missing_ok=True)
        self._attend(lambda: self._start(version))

    def attend_the_last(self) -> None:
        """Wait for the command that a killed watcher has left running, if any, and record how it ended."""
        if self.last("outcome") == "running":
            self._attend(lambda: None)

    def _start(self, version: str) -> subprocess.Popen:
        blank = dict.fromkeys(("ended", "exit_code", "run_id", "pid"))
        self._runs.append({"data_version": version, "started": _now(), "outcome": "running", **blank})
        self._save()
        told = {"DATA_VERSION": version, "REPROAI_RUN_ID_FILE": str(self._made)}
        with self._log.open("xb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            process = subprocess.Popen(
                ["sh", "-c", COMMAND, self._exit, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                env={"PYTHONUNBUFFERED": "1"} | os.environ | told,
                process_group=0,
            )
        self._runs[-1]["pid"] = process.pid
        self._save()
        return process

    def _attend(self, start: Callable[[], subprocess.Popen | None]) -> None:
        process, interrupted = None, False
        try:
            with uninterrupted():
                process = start()
            self._show()
        except BaseException as error:
            interrupted = True
            self._end(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise
        finally:
            if process is not None:
                process.wait()
            self._close(interrupted)

    def _show(self) -> None:
        """Pass on what the command prints, until it ends."""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            while True:
                ended = self._has_ended()
                sys.stdout.buffer.write(log.read())
                sys.stdout.flush()
                if ended:
                    return
                time.sleep(0.1)

    def _has_ended(self) -> bool:
        return self._exit.exists() or not self._is_running()

    def _is_running(self) -> bool:
        try:
            with self._log.open("r+b") as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def _end(self, number: int) -> None:
        """End the command with all that it has started; a second signal kills them."""
        try:
            self._signal(number)
            while self.last("pid") and self._is_running():
                time.sleep(0.1)
        except BaseException:
            self._signal(signal.SIGKILL)
            raise

    def _signal(self, number: int) -> None:
        if self._is_running() and self.last("pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.last("pid"), number)

    def _close(self, interrupted: bool) -> None:
        if self.last("outcome") != "running" or not self._has_ended():
            return
        code = int(self._exit.read_text()) if self._exit.exists() else None
        interrupted = interrupted or code is None or code > 128  # 128 and the number of the signal that ended it
        self._runs[-1] |= {
            "ended": _now(),
            "outcome": "finished" if code == 0 else "interrupted" if interrupted else "failed",
            "exit_code": code,
            "run_id": self._run_id(),
            "pid": None,
        }
        self._save()

    def _run_id(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return self._made.read_text()
        try:
            return json.loads(self._log.read_text(errors="replace").splitlines()[-1])["run_id"]
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            return None

    def _save(self) -> None:
        command = [masked(word) for word in self.command]
        with whole_file(self.record, "w") as file:
            json.dump({"data": str(self.data), "command": command, "runs": self._runs}, file, indent=1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
