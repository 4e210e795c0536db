"""The flags that all scripts share, and how a script ends: exit codes and one-line errors."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from traceback import walk_tb
from typing import TypeVar

from common.state import PROJECT, state_folder

Item = TypeVar("Item")
WINGS = {
    "eeg": "--data eeg",
    "events": "a broker in the environment",
    "params": "--data digits, or `params` in a config file",
    "production": "--register",
    "versions": "data under DVC",
}
"""Folders of `common` that may be left out, and what needs them."""
SOURCES = ("drawn", "phantoms", "digits", "eeg", "oxford-pets")
"""What ``--data`` takes besides paths."""
MODEL_NAME = r"\w[\w-]{0,249}"
"""What a registered model may be called, so that MLflow takes it in each place: letters and digits are ASCII."""
MOST = 10**9
"""Of anything that a flag counts."""


class UserError(Exception):
    """A mistake in the input: a script shows it as one line and ends with exit code 2.

    The message names the file, field or flag, what was found and what was expected; URLs in it are :func:`masked`.
    """

    exit_code = 2

    def __init__(self, *parts: object) -> None:
        super().__init__(*(masked(part) if isinstance(part, str) else part for part in parts))


def masked(text: str) -> str:
    """A text whose URLs show no password, token or key: ``http://me:***@host/db?token=***``."""
    text = re.sub(r"(:/+[^\s/:]*:)(?:\S*@|(?!\d+(?:\W|$))[^\n@]*@)", r"\1***@", text)  # a password may hold an @
    text = re.sub(r"(https?://)[^\s/:@]+@", r"\1***@", text)  # a token in place of a user
    return re.sub(r"(?i)([?&][^\s=&]*(?:pass|pwd|token|secret|key|sig|auth|cred)[^\s=&]*=)[^\s&]*", r"\1***", text)


class KilledError(UserError):
    """A process of a run was ended by the system, as it does when memory runs out: the same command goes on.

    The exit code is 137, as a shell says of a killed program, so that a scheduler or the watcher runs it again.
    """

    exit_code = 137


class Terminated(SystemExit):
    """SIGTERM has come; the exit code is 143."""


def reason_of(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error, where there is a known name like the one that was found."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {escaped(masked(message))} (see {self.prog} --help)\n")


def escaped(text: str) -> str:
    """The text on one line, with each character that is no plain one escaped, such as a terminal's codes in a name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose errors are one line, with `description`'s first line in its help.

    Raises
    ------
    UserError
        As :func:`check_project`.
    """
    check_project()
    module = getattr(sys.modules["__main__"], "__spec__", None)
    prog = f"python -m {module.name.removesuffix('.__main__')}" if module else None
    return _Parser(prog, description=(description or "").split("\n")[0], allow_abbrev=False)


def check_project(folder: Path | None = None) -> None:
    """Refuse a folder, by default that of all state, from whose path addresses of databases cannot be made.

    Raises
    ------
    UserError
    """
    folder = folder or state_folder()
    if found := re.search(r"[?{}]|%[0-9A-Fa-f]{2}", str(folder)):
        expected = "a path without '?', '{', '}' and '%20' or the like, for MLflow's and Optuna's databases"
        raise UserError(f"{folder}: the project's folder has {found[0]!r} in its path; expected {expected}")


def _precision(text: str) -> str:
    if not re.fullmatch(r"auto|measure|(fp32|bf16)(, \w+ (fp32|bf16))*", text):
        raise argparse.ArgumentTypeError(f"expected auto, measure, fp32 or bf16, found {text!r}")
    return text


def _experiment(text: str) -> str:
    name = datetime.now().strftime(text) if text.isprintable() else text
    if name in ("", ".", "..") or not name.isprintable() or re.search(r"[/\\]", name) or len(name.encode()) > 200:
        found = repr(text) if name == text else f"{text!r}, now {name!r}"
        raise argparse.ArgumentTypeError(f"expected a folder's name: no slashes, at most 200 bytes; found {found}")
    return text


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A converter for argparse: an integer of at least `low` and at most `high`, by default :data:`MOST`."""
    most = MOST if high is None else high

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= most:
            bounds = f"of at least {low}" if high is None and number < low else f"from {low} to {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, found {text!r:.80}")
        return number

    return convert


def seed(text: str) -> int:
    """A converter for argparse: a root seed, which fits into a database."""
    return whole_number(0, 2**63 - 1)(text)


def need_wing(name: str) -> None:
    """Refuse what needs a folder of `common` that was left out.

    Raises
    ------
    UserError
    """
    if not (PROJECT / "common" / name).exists():
        raise UserError(f"{WINGS[name]} needs common/{name}, which is not here")


def _model_name(text: str) -> str:
    need_wing("production")
    if not re.fullmatch(MODEL_NAME, text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected up to 250 letters, digits, '_' and '-', found {text!r:.80}")
    return text


def data_flags(flags: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--skip-unreadable`` and ``--no-cache``."""
    flags.add_argument(
        "--data", default="drawn", metavar="|".join((*SOURCES, "PATH")), help="images to use (default: %(default)s)"
    )
    flags.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    flags.add_argument("--no-cache", action="store_true", help="do without the images and features under cache/")


def train_parser(description: str | None, step: int) -> argparse.ArgumentParser:
    """The flags of ``step_<step>/train.py``: each step has those of the one before and its own.

    Flags whose default is None leave the choice to the step's settings.
    """
    flags = parser(description)
    if step >= 5:
        flags.add_argument(
            "config", nargs="?", default=PROJECT / "step_5" / "config.py", type=Path, help="Python file with `config`"
        )
    data_flags(flags)
    flags.add_argument("--backbone", metavar="NAME", help="small_cnn or a torchvision classification model")
    flags.add_argument("--weights", metavar="DEFAULT|none|PATH", help="where the backbone's weights come from")
    flags.add_argument("--image-size", type=whole_number(16, 1024), metavar="N", help="pixels per side")
    flags.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    flags.add_argument(
        "--precision",
        default="auto",
        type=_precision,
        metavar="{auto,fp32,bf16,measure}",
        help="auto: by processor and backbone, always the same; measure: what is faster now, so results may vary",
    )
    flags.add_argument(
        "--fast-math",
        action="store_true",
        help="on a GPU, allow algorithms that are faster but not deterministic; changes nothing on a CPU",
    )
    flags.add_argument(
        "--seed",
        type=seed,
        default=None if step == 1 else 0,
        metavar="N",
        help="root seed (default: a new one each time)" if step == 1 else "root seed (default: %(default)s)",
    )
    flags.add_argument("--fast", action="store_true", help="small images and few epochs: to try things out")
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    if step >= 2:
        flags.add_argument("--fresh", action="store_true", help="start anew: never resume an unfinished run")
        flags.add_argument(
            "--allow-changed-data", action="store_true", help="take data that differ from their .dvc file"
        )
    if step >= 3:
        flags.add_argument("--root-splits", type=whole_number(1), default=2, metavar="K", help="outer folds to run")
        flags.add_argument(
            "--only-root-split",
            type=whole_number(0),
            metavar="K",
            help="run this outer fold alone",
        )
        flags.add_argument("--inner-splits", type=whole_number(1), default=2, metavar="K", help="inner folds of each")
        flags.add_argument(
            "--n-jobs",
            type=whole_number(1),
            metavar="N",
            help="processes (default: as many as fit the cores)",
        )
    if step >= 4:
        flags.add_argument("--n-trials", type=whole_number(1), metavar="N", help="trials per outer fold")
        flags.add_argument(
            "--register", type=_model_name, metavar="NAME", help="search on all images too, and register that model"
        )
    if step >= 5:
        help_experiment = "MLflow's; strftime codes (default: step_5)"
        flags.add_argument("--experiment", type=_experiment, metavar="NAME", help=help_experiment)
        flags.add_argument("--only-model", type=whole_number(0), metavar="K", help="of the config's models this alone")
    return flags


def with_defaults(
    flags: argparse.ArgumentParser, argv: list[str] | None, defaults: dict[str, object]
) -> argparse.Namespace:
    """The flags, where those that are not given have other defaults than usual.

    There a relative path of data starts at the project folder, not at the working directory.
    """
    try:
        texts = {name: str(value) for name, value in defaults.items() if value is not None}
    except ValueError as error:  # a number of more than 4300 digits
        raise UserError(f"{' or '.join(defaults)}: {error}") from error
    if texts.get("data", SOURCES[0]) not in SOURCES:
        texts["data"] = str(PROJECT / Path(texts["data"]).expanduser())
    flags.set_defaults(**texts)
    return flags.parse_args(argv)


def only(items: Sequence[Item], number: int | None) -> list[tuple[int, Item]]:
    """The items with their numbers, or the one that ``--only-model`` names.

    Raises
    ------
    UserError
        When there is none of that number.
    """
    if number is not None and number >= len(items):
        raise UserError(f"--only-model {number}: expected less than {len(items)}, the number of models of the config")
    return [(i, item) for i, item in enumerate(items) if number in (None, i)]


def root_splits(args: argparse.Namespace) -> Iterable[int]:
    """The outer folds that the flags ask for.

    Raises
    ------
    UserError
        When ``--only-root-split`` is none of ``--root-splits``.
    """
    if args.only_root_split is None:
        return range(args.root_splits)
    if args.only_root_split >= args.root_splits:
        raise UserError(
            f"--only-root-split {args.only_root_split}: expected less than --root-splits {args.root_splits}"
        )
    return [args.only_root_split]


def command_of(step: int, args: argparse.Namespace) -> list[str]:
    """The script of a step and its arguments, as they would be typed in the project folder."""
    words = [f"step_{step}/train.py"]
    for name, value in vars(args).items():
        if name == "config":
            path = Path(value).resolve()
            words.append(str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path))
        elif name == "data" and value not in SOURCES:
            words += ["--data", str(Path(value).expanduser().resolve())]
        elif isinstance(value, bool):
            words += [f"--{name.replace('_', '-')}"] if value and name not in ("fresh", "json") else []
        elif value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


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
    outputs = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):  # closed, or a notebook's
            outputs.append(None)
            continue
        stream.flush()
        outputs.append(_Output(stream.fileno(), "wb", closefd=False))
        options = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(outputs[-1]), **options))
    return outputs[0]


def run(main: Callable[[], object]) -> None:
    """Run a script's `main` and end the process.

    The exit code is 0, 2 with one line after a :class:`UserError`, 130 after Ctrl-C, 137 after a :class:`KilledError`,
    or 143 after SIGTERM. A Ctrl-C after `main` ends the process at once: what it had to do is done then.

    When nobody reads the output any more, as after ``| head -1``, the script goes on in silence: what it computes is
    kept. When its output cannot be written, as on a full disk, it goes on too, says so in the end, and ends with 2.
    """
    signal.signal(signal.SIGTERM, _terminate)
    output = keep_going_without_reader()
    code = problem = None
    try:
        main()
    except UserError as error:
        code, problem = error.exit_code, f"error: {escaped(str(error))}"
    except ModuleNotFoundError as error:
        wing = (error.name or "").removeprefix("common.").split(".")[0]
        if wing not in WINGS or (PROJECT / "common" / wing).exists():
            raise
        code, problem = 2, f"error: {WINGS[wing]} needs common/{wing}, which is not here"
    except KeyboardInterrupt:
        code, problem = 130, "interrupted"
    except SystemExit as end:
        code = end.code
        if place := _place_of_foreign(end):
            code, problem = 2, f"error: {place}: expected it to go on, but it ended the program (SystemExit: {code})"
    finally:
        is_shell = hasattr(sys, "ps1") or sys.flags.interactive
        if not is_shell and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    if output is not None:
        sys.stdout.flush()
        if output.problem and not isinstance(output.problem, BrokenPipeError) and not code:
            code, problem = 2, f"error: standard output: {output.problem.strerror}; all but what was printed is kept"
    if problem:
        print(problem, file=sys.stderr)
    if code:
        raise SystemExit(code)


def _terminate(signal_number: int, frame: object) -> None:
    raise Terminated(143)


def _place_of_foreign(end: SystemExit) -> str | None:
    """Where the program was ended by code that is not ours, such as a config's or a network's."""
    *_, (frame, line) = walk_tb(end.__traceback__)
    file = frame.f_code.co_filename
    if file == argparse.__file__ or Path(file).is_relative_to(PROJECT / "common"):
        return None
    in_process = re.findall(r'File "(.+)", line (\d+)', str(end.__cause__))  # as a pool passes it on
    return ":".join(in_process[-1]) if in_process else f"{file}:{line}"
