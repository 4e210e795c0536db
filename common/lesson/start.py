"""Lay a folder out to build a step in: the scripts of the step before, and a page that says what the step must do."""

from __future__ import annotations

import shutil
from pathlib import Path

from common import cli
from common.cli import UserError, writing
from common.state import whole_folder

STEPS = (2, 3, 4, 5)
SCRIPTS = ("train.py", "analyze_predictions.py")
PAGE = "specification.md"


def start_step(step: int, folder: Path) -> None:
    """Make the folder of a step to build, whole or not at all.

    Parameters
    ----------
    step : int
        From 2 to 5.
    folder : Path
        Must not exist yet.

    Raises
    ------
    UserError
        When it exists or cannot be written, or the project lacks a file of the steps.
    """
    files = [cli.PROJECT / f"step_{step - 1}" / name for name in SCRIPTS] + [cli.PROJECT / f"step_{step}" / PAGE]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file; it is part of the repository")
    if folder.exists():
        raise UserError(f"{folder}: it is there already, and nothing is overwritten; name another folder")
    with writing(folder), whole_folder(folder) as made:
        for file in files:
            shutil.copyfile(file, made / file.name)


def main(argv: list[str] | None = None) -> Path:
    """Make the folder, and say what comes next; returns it."""
    flags = cli.parser(__doc__)
    flags.add_argument("step", type=cli.whole_number(STEPS[0], STEPS[-1]), metavar="N", help="the step to build")
    flags.add_argument("folder", nargs="?", type=Path, help="(default: my_step_N in the project folder)")
    args = flags.parse_args(argv)
    folder = args.folder or cli.PROJECT / f"my_step_{args.step}"
    start_step(args.step, folder)
    name = shown(folder)
    print(f"{name} has the scripts of step {args.step - 1}. Read {name}/{PAGE}, then change {name}/train.py.")
    config = f" {name}/config.py" if args.step == 5 else ""  # without it step 5 takes the project's own
    print(f"to try it out:  python {name}/train.py{config} --fast")
    print(f"to have it judged:  python -m common.lesson.check {name}")
    return folder


def shown(folder: Path) -> str:
    """A folder's path, from the project folder where it lies in it, without a terminal's codes."""
    folder = folder.absolute()
    return cli.escaped(str(folder.relative_to(cli.PROJECT) if folder.is_relative_to(cli.PROJECT) else folder))


if __name__ == "__main__":
    cli.run(main)
