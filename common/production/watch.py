"""Runs a command when new data has appeared and settled: python -m common.production.watch --data PATH -- COMMAND...

The data version is a digest of what is there, file by file: a time stamp alone is no change. Data has settled when two
looks, ``--settle`` seconds apart, find the same version; the command then runs with it in ``DATA_VERSION``. Changes
during a run lead to one more run after it. ``cache/watch/<key>.json`` records which version led to which run, by the
id that the command writes into the file ``REPROAI_RUN_ID_FILE``, as every ``train.py`` does:

- The command has finished (exit code 0): it never runs on that version again, also when the data returns to it.
- It has failed: it runs again when the data has changed, or, once, with ``--retry``.
- It was interrupted, with the watcher or by another signal: it runs again at the watcher's next start. A command that
  is still running when its watcher is killed goes on, and the next watcher waits for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from filelock import Timeout

from common import cli
from common.cli import UserError
from common.locks import holder_of, locked
from common.production.commands import Runs
from common.production.contents import Contents
from common.state import work_folder


def main(argv: list[str] | None = None) -> int:
    """Watch until a signal comes, or once; returns the exit code."""
    args, command = _parse(sys.argv[1:] if argv is None else argv)
    path = _path(args.data)
    base = work_folder("watch") / hashlib.sha256(json.dumps([str(path), *command]).encode()).hexdigest()[:16]
    try:
        lock = locked(base, timeout=0).acquire()
    except Timeout as error:
        also = f"with the same command{holder_of(error)}"
        raise UserError(f"--data {path}: another watcher is already there, {also}") from None
    with lock:
        runs = Runs(base, path, command)
        if runs.last("outcome") == "running":
            _say(f"the last watcher was killed: seeing to its run on {_short(runs.last('data_version'))}")
            runs.attend_the_last()
            _say(_outcome(runs))
        try:
            return _watch(Contents(path), runs, args)
        finally:
            if _shown and sys.stderr.isatty():
                print(file=sys.stderr)


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    flags = cli.parser(__doc__)
    flags.usage = "python -m common.production.watch [flags] --data PATH -- COMMAND..."
    flags.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="folder or file to watch; hidden, .part and .tmp files do not count",
    )
    flags.add_argument(
        "--settle",
        type=_seconds,
        default=5,
        metavar="SECONDS",
        help="without a change before the command runs (default: %(default)s)",
    )
    flags.add_argument(
        "--interval", type=_seconds, default=10, metavar="SECONDS", help="between two looks (default: %(default)s)"
    )
    flags.add_argument(
        "--once",
        action="store_true",
        help="wait until the data has settled, run the command if there is something new, and end with its exit code",
    )
    flags.add_argument("--retry", action="store_true", help="start with the command again where it has failed")
    end = argv.index("--") if "--" in argv else len(argv)
    args, command = flags.parse_args(argv[:end]), argv[end + 1 :]
    if not command:
        flags.error("no command: expected -- COMMAND... at the end")
    if shutil.which(command[0]) is None:
        flags.error(f"-- {command[0]}: no such command")
    return args, command


def _path(data: str) -> Path:
    path = Path(os.path.abspath(os.path.expanduser(data)))  # links stay: another target is other data
    if not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    if work_folder("watch").resolve().is_relative_to(path.resolve()):
        raise UserError(f"--data {path}: holds what runs write (cache/); expected a folder of data alone")
    return path


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0 on, found {text!r}")
    return number


def _watch(contents: Contents, runs: Runs, args: argparse.Namespace) -> int:
    seen, code = None, 0
    while True:
        try:
            version = contents.look()
            if version != seen:
                version = _settled(contents, version, args.settle)
        except UserError as error:
            if args.once:
                raise
            _show(f"waiting: {error}")
        else:
            if version != seen and runs.is_due(version, args.retry):
                command = cli.masked(shlex.join(runs.command))
                _say(f"{_short(version)}, {len(contents)} files in {contents.path}: running {command}")
                runs.run(version)
                _say(_outcome(runs))
                code = 1 if runs.last("exit_code") is None else runs.last("exit_code")
            seen = version
            _show(_state(contents, runs, version))
        if args.once:
            return code
        time.sleep(args.interval)


def _settled(contents: Contents, version: str | None, seconds: float) -> str | None:
    while True:
        _show(f"waiting until {contents.path} has settled")
        time.sleep(seconds)
        before, version = version, contents.look()
        if version == before:
            return version


def _short(version: str) -> str:
    return f"data version {version[:12]}"


def _outcome(runs: Runs) -> str:
    ended = f"exit code {runs.last('exit_code')} on {_short(runs.last('data_version'))}"
    match runs.last("outcome"):
        case "finished":
            return f"finished on {_short(runs.last('data_version'))}: run {runs.last('run_id') or 'without a run_id'}"
        case "failed":
            return f"error: {ended}; the command runs again when the data has changed, or with --retry"
    return f"interrupted: {ended}; the command runs again at the next start"


def _state(contents: Contents, runs: Runs, version: str | None) -> str:
    if version is None:
        return f"waiting for data: no files in {contents.path}"
    done = runs.finished(version)
    said = f"run {done['run_id'] or 'without a run_id'}" if done else f"{runs.last('outcome')}, not run again by itself"
    return f"watching {contents.path}: {_short(version)}, {len(contents)} files: {said}"


_shown = ""


def _say(text: str) -> None:
    """A message, as a line of its own."""
    global _shown
    _shown = ""
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _show(text: str) -> None:
    """The state: on a terminal a line that the next one replaces, elsewhere a line when it changes."""
    global _shown
    if sys.stderr.isatty():
        print(f"\r\033[K{text} ({time.strftime('%H:%M:%S')})", end="", file=sys.stderr, flush=True)
    elif text != _shown:
        print(text, file=sys.stderr, flush=True)
    _shown = text


if __name__ == "__main__":
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
    cli.run(lambda: sys.exit(main()))
