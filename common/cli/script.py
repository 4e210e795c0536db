"""How a script ends: its exit code, its one line of error, and what becomes of its output when nobody reads it."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb

from common.cli.errors import UserError, escaped, lacking
from common.interrupting import let_signals_end, raise_signals
from common.state import PROJECT

OBJECTS = 20_000
"""From one look for unreachable objects to the next; with Python's 700 imports take a tenth longer."""

_code: int | str | None = None


class _Output(io.FileIO):
    """A standard stream; from its first failure on, what is written there goes nowhere."""

    problem: OSError | None = None

    def write(self, data) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self.problem = error
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return len(data)


def keep_going_without_reader() -> _Output | None:
    """Let this process go on when nobody reads its output any more (``| head -1``), or when its disk is full.

    Returns
    -------
    _Output or None
        The standard output, whose `problem` says why it ended; None where it is not a file of this process.
    """
    outputs: list[_Output | None] = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):  # closed, or a notebook's
            outputs.append(None)
            continue
        stream.flush()
        output = _Output(stream.fileno(), "wb", closefd=False)
        outputs.append(output)
        options = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(output), **options))
    return outputs[0]


def run(main: Callable[[], object]) -> None:
    """Run a script's `main` and end the process.

    The exit code is 0, 2 with one line after a :class:`UserError`, 130 after Ctrl-C, 137 after a :class:`KilledError`,
    or 143 after SIGTERM. A signal after `main` ends the process at once: what it had to do is done then.

    When nobody reads the output any more, as after ``| head -1``, the script goes on in silence: what it computes is
    kept. When its output cannot be written, as on a full disk, it goes on too, says so in the end, and ends with 2.
    """
    global _code
    gc.set_threshold(OBJECTS)
    if main.__module__ == "__main__":
        atexit.register(_leave)  # as the first one it is called last
    output = keep_going_without_reader()
    code: int | str | None = None
    problem: str | None = None
    try:
        raise_signals()
        main()
    except UserError as error:
        code, problem = error.exit_code, f"error: {escaped(str(error))}"
    except ModuleNotFoundError as error:
        wing = (error.name or "").removeprefix("common.").split(".")[0]
        if not (problem := lacking(wing)):
            raise
        code, problem = 2, f"error: {problem}"
    except KeyboardInterrupt:
        code, problem = 130, "interrupted"
    except SystemExit as end:
        code = end.code
        if place := _place_of_foreign(end):
            code, problem = 2, f"error: {place}: expected it to go on, but it ended the program (SystemExit: {code})"
    finally:
        if not (hasattr(sys, "ps1") or sys.flags.interactive):
            let_signals_end()
    if output is not None:
        sys.stdout.flush()
        if output.problem and not isinstance(output.problem, BrokenPipeError) and not code:
            code, problem = 2, f"error: standard output: {output.problem.strerror}; all but what was printed is kept"
    if problem:
        print(problem, file=sys.stderr)
    _code = code or 0
    if code:
        raise SystemExit(code)


def _leave() -> None:
    """End the process when all is done: to take it apart, module by module, takes Python seconds."""
    if isinstance(_code, int):
        kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)  # a text is flushed into its buffer first
        left_open = [found for found in gc.get_objects() if type(found) in kinds]  # by somebody, too
        for stream in sorted(left_open, key=lambda found: kinds.index(type(found))):
            with suppress(OSError, ValueError):  # full or closed
                stream.flush()
        os._exit(_code)


def _place_of_foreign(end: SystemExit) -> str | None:
    """Where the program was ended by code that is not ours, such as a config's or a network's."""
    *_, (frame, line) = walk_tb(end.__traceback__)
    file = frame.f_code.co_filename
    if file == argparse.__file__ or Path(file).is_relative_to(PROJECT / "common"):
        return None
    in_process = re.findall(r'File "(.+)", line (\d+)', str(end.__cause__))  # as a pool passes it on
    return ":".join(in_process[-1]) if in_process else f"{file}:{line}"
