"""Say in plain words which behaviours of a step hold in a folder of your own, with a hint for each that does not."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import io
import re
import sys
import traceback
from pathlib import Path

from common import cli
from common.cli import UserError, escaped, reason_of
from common.lesson.start import PAGE, shown
from common.state import regular

CONTRACT = Path("tests") / "core" / "test_step_contract.py"
_MARKS = {True: ("✓", "yes"), False: ("✗", "no "), None: ("?", "?  ")}
"""For what holds, what does not, and what could not be looked at; the second where the terminal has ASCII only."""
_LATER = "it comes with step"
_ERROR = "mend this error first: what else the step should do rests on it"


def sign_of(holds: bool | None, out) -> str:
    """A sign for what holds, what does not, and what is not known, of characters that a text stream can write."""
    sign, plain = _MARKS[holds]
    try:
        sign.encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return sign


class _Listener:
    """A plugin of pytest that prints a line per behaviour as its test ends."""

    def __init__(self, folder: Path, out) -> None:
        self.folder, self.out = folder, out
        self.held: list[bool | None] = []
        self.problem = ""

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.problem = str(report.longrepr).strip().splitlines()[-1]

    def pytest_runtest_makereport(self, item, call) -> None:
        if call.excinfo is None and call.when != "call":
            return
        found = call.excinfo.value if call.excinfo else None
        skipped = type(found).__name__ == "Skipped"
        if skipped and _LATER in str(found):
            return
        holds = None if skipped else found is None
        self.held.append(holds)
        behaviour, _, hint = (inspect.getdoc(item.function) or item.name).partition("\nHint: ")
        self._say(f"{sign_of(holds, self.out)} {behaviour}")
        if skipped:
            self._say(f"    not looked at: {found}")
        elif found is not None:
            own = type(found).__name__ == "Failed"  # else an error has ended the script
            told, _, nearer = self._told(found).partition("\nHint: ")  # what was found may bring a hint of its own
            self._say(f"    found: {told}")
            self._say(f"    hint: {nearer or ' '.join(hint.split()) if own else _ERROR}")

    def _say(self, line: str) -> None:
        encoding = self.out.encoding or "ascii"
        print(escaped(line).encode(encoding, "replace").decode(encoding), file=self.out, flush=True)

    def _told(self, error: BaseException) -> str:
        """What a test says of what it found, or an error of the learner's script and where it was raised."""
        if type(error).__name__ == "Failed":
            return str(error)
        places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        own = [f" ({path.name}, line {line})" for path, line in places if path.parent.name == self.folder.name]
        where = own[-1] if own else ""
        if isinstance(error, SystemExit):
            return f"the script ended the program, with exit code {error.code}{where}"
        return f"{type(error).__name__}: {reason_of(error)}{where}"


def check_step(folder: Path, step: int | None = None) -> list[bool | None]:
    """Hold a folder's train.py against the behaviours of its step, and print a line for each.

    Parameters
    ----------
    folder : Path
    step : int, optional
        Where train.py does not say it: ``train_parser(__doc__, step=3)``.

    Returns
    -------
    list of bool or None
        Whether each behaviour that the step promises holds; None for those that could not be looked at.

    Raises
    ------
    UserError
        When there is no such folder or script, it is no Python, it is not yet the step that the folder's
        specification asks for, or the tests are not there.
    """
    script = _script(folder)
    if step is None:
        _begun(script)
    if not (cli.PROJECT / CONTRACT).is_file() or importlib.util.find_spec("pytest") is None:
        lacking = "the package pytest" if (cli.PROJECT / CONTRACT).is_file() else f"{cli.PROJECT / CONTRACT}"
        raise UserError(f"{lacking} is not there; to judge a step takes the repository with its tests, and pytest")
    import pytest

    print("running it on a few tiny pictures; this takes a minute or two", flush=True)
    listener = _Listener(script.parent, sys.stdout)
    flags = [str(cli.PROJECT / CONTRACT), f"--rootdir={cli.PROJECT}", f"--step-dir={script.parent}"]
    flags += ["-o", "addopts=", "-p", "no:cacheprovider", *([f"--step={step}"] if step else [])]
    flags += ["-p", "no:nbval", "-p", "no:hypothesispytest"]  # seconds to import, and not used here
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        code = pytest.main(flags, plugins=[listener])
    if code == pytest.ExitCode.INTERRUPTED and not listener.problem:
        raise KeyboardInterrupt
    if listener.problem or not listener.held:
        raise UserError(listener.problem or f"{shown(folder)}: nothing was judged: {said.getvalue().strip()[-300:]}")
    return listener.held


def _script(folder: Path) -> Path:
    """A folder's train.py, which can be parsed."""
    if not folder.is_absolute() and not folder.exists():
        folder = cli.PROJECT / folder
    if not folder.is_dir():
        raise UserError(f"{shown(folder)}: no such folder; expected one with the train.py of a step")
    script = folder.resolve() / "train.py"
    if not script.is_file():
        raise UserError(f"{shown(folder)}: no train.py in it; expected the folder of a step")
    try:
        ast.parse(regular(script).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{shown(script)}, line {error.lineno}: not Python yet ({error.msg})") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(script)}: cannot be read ({reason_of(error)})") from error
    return script


def _begun(script: Path) -> None:
    """Refuse the scripts of the step before, which hold all that they promise, where the folder asks for a step."""
    page = ""
    with contextlib.suppress(OSError):  # no page, or none that can be read: nothing is asked
        page = regular(script.with_name(PAGE)).read_text(encoding="utf-8", errors="replace")
    found = re.match(r"# Build step (\d)", page)
    said = re.search(r"train_parser\([^()]*?(?:step=|, *)(\d)", script.read_text(encoding="utf-8"))
    if not found or not said:
        return
    asked, name = found[1], shown(script.parent)
    if said[1] != asked:
        raise UserError(
            f"{name}/train.py says that it is step {said[1]}, and {name}/{PAGE} asks for step {asked}: begin with "
            f"train_parser(__doc__, step={asked}), or have it judged as it is with --step {said[1]}"
        )
    if asked == "5" and not script.with_name("config.py").is_file():
        raise UserError(f"{name}: no config.py in it, which step 5 asks for; the script is judged with it")


def main(argv: list[str] | None = None) -> list[bool | None]:
    """Judge a folder. The exit code is 0 when all behaviours hold, else 1."""
    flags = cli.parser(__doc__)
    flags.add_argument("folder", type=Path, metavar="FOLDER", help="such as my_step_3")
    flags.add_argument("--step", type=cli.whole_number(1, 5), metavar="N", help="where its train.py does not say it")
    args = flags.parse_args(argv)
    held = check_step(args.folder, args.step)
    print(f"{held.count(True)} of {len(held)} behaviours hold")
    if held.count(True) < len(held):
        raise SystemExit(1)
    return held


if __name__ == "__main__":
    cli.run(main)
