"""The git repository around a path: its history of a ``.dvc`` file, and commits of a few files alone."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli import UserError
from common.versions.program import md5_in


def find_repository(path: Path) -> Path | None:
    """The top folder of the git repository that a path lies in, whether or not the path exists."""
    found = git(next(p for p in path.absolute().parents if p.is_dir()), "rev-parse", "--show-toplevel")
    return Path(found.rstrip("\n")) if found else None


def find_place(path: Path) -> tuple[Path, Path]:
    """The top folder of the repository that a path lies in, and the path in full.

    Raises
    ------
    UserError
        When it lies in none.
    """
    path = Path(os.path.abspath(path))
    repository = find_repository(path)
    if repository is None:
        raise UserError(f"{path}: not in a git repository; git init makes one")
    return repository, path.parent.resolve() / path.name


def git(root: Path, *arguments: str) -> str | None:
    """What a git command prints, or None when it fails."""
    done = _run(root, *arguments)
    return done.stdout if done.returncode == 0 else None


def recorded(root: Path, pointer: Path, *options: str) -> Iterator[tuple[str, str | None]]:
    """The commits that changed a ``.dvc`` file, newest first, each with the MD5 sum it holds; ``--all`` branches'."""
    for commit in (git(root, "log", "--format=%H", *options, "--", str(pointer)) or "").split():
        yield commit, md5_in(git(root, "show", f"{commit}:{pointer.relative_to(root)}"))


def ignoring_rule(root: Path, path: Path | str) -> str | None:
    """The line that makes git ignore a path, as ``file:line: pattern``; None where none does.

    A folder whose path ends in a slash is taken as DVC takes it: ``folder/*`` is the folder itself too.
    """
    if git(root, "check-ignore", "--no-index", "-q", "--", str(path)) is None:
        return None
    found = git(root, "check-ignore", "--no-index", "-v", "--", str(path)) or "::"
    return "{}:{}: {}".format(*found.split("\t")[0].split(":", 2))


def commit_files(root: Path, files: Sequence[Path], message: str) -> bool:
    """Commit files as they are, and nothing else, whatever is staged; False when there was nothing to commit.

    Raises
    ------
    UserError
        With what git said.
    """
    names = ["--", *map(str, files)]
    differing = ["status", "--porcelain", "--untracked-files=all", *names]
    if not git(root, *differing):
        return False
    for command in (["add"], ["commit", "--quiet", "--only", f"--message={message}"]):
        done = _run(root, *command, *names)
        if done.returncode and git(root, *differing):  # else a git that outlived its killed caller did it
            said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            raise UserError(f"git commit failed: {said[-1] if 'hook' in done.stderr else said[0]}")
    return True


def push_branch(root: Path, *options: str) -> bool:
    """Push the present branch to its upstream; False when that has all of it.

    Raises
    ------
    UserError
        With what git said.
    """
    done = _run(root, "-c", "push.default=upstream", "push", "--porcelain", *options)
    if done.returncode != 0:
        rejected = re.search(r"^!\t\S+\t(.+)$", done.stdout, re.MULTILINE)
        said = rejected[1] if rejected else (done.stderr.strip() or "no reason given").splitlines()[0]
        raise UserError(f"git push failed: {said}")
    return not re.search(r"^=\t", done.stdout, re.MULTILINE)


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git, for ten seconds again while another holds the index; it ends what it began if this process is killed."""
    literal = [] if arguments[0] == "check-ignore" else ["--literal-pathspecs"]  # which that command does not know
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    end = time.monotonic() + 10
    while True:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *literal, *arguments],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"git: cannot be run ({error.strerror})") from error
        if done.returncode == 0 or "index.lock" not in done.stderr or time.monotonic() > end:
            return done
        time.sleep(0.05)
