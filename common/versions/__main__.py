"""Versions of data: ``python -m common.versions track|status|checkout …``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from common import cli
from common.versions import checkout, status, track


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command says, and say so in one line."""
    flags = cli.parser(__doc__)
    commands = flags.add_subparsers(dest="command", required=True, metavar="track|status|checkout")
    command = commands.add_parser("track", help="put data under DVC, or record their new version")
    command.add_argument("path", type=Path, metavar="PATH")
    command.add_argument("--push", action="store_true", help="copy the data to DVC's remote")
    command.add_argument("--commit", action="store_true", help="commit the .dvc file with git, and nothing else")
    command.add_argument("--git-push", action="store_true", help="push the branch with git, after the data")
    command = commands.add_parser("status", help="which version the data are")
    command.add_argument("path", type=Path, metavar="PATH")
    command = commands.add_parser("checkout", help="restore a former version of the data")
    command.add_argument("version", metavar="VERSION", help="a git revision, or the beginning of an MD5 sum")
    command.add_argument("path", nargs="?", type=Path, metavar="PATH", help="(default: all that is under DVC)")
    arguments = vars(flags.parse_args(argv))
    actions: dict[str, Callable[..., str]] = {"track": track, "status": status, "checkout": checkout}
    print(actions[arguments.pop("command")](**arguments))


if __name__ == "__main__":
    cli.run(main)
