"""The code that a run had: a commit, which git has here or which came with the run, and what was not committed then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.cli import UserError, confirmed, escaped
from common.state import PROJECT, state_folder, whole_file

MOST = 50 * 10**6
"""Bytes of a commit's files, packed, above which they do not go along with a run."""


def code_file(commit: str) -> Path:
    """Where the code of a commit is kept that came with a run from another machine."""
    return state_folder() / "mlruns" / "code" / f"{commit}.pack"


def pack_code(commit: str) -> bytes | None:
    """A commit and its files as git packs them, without its history; None where it is not here, or is too large."""
    if not _is_commit(commit):
        return None
    if code_file(commit).exists():
        return code_file(commit).read_bytes()
    git = ["git", "-C", str(PROJECT)]
    objects = subprocess.run([*git, "rev-list", "--objects", "--no-walk", commit], capture_output=True)
    if objects.returncode != 0:
        return None
    packed = subprocess.run([*git, "pack-objects", "--stdout", "-q"], input=objects.stdout, capture_output=True)
    return packed.stdout if packed.returncode == 0 and len(packed.stdout) <= MOST else None


def put_code(commit: str, pack: bytes) -> None:
    """Keep the code of a commit that came from another machine; nothing of it runs before somebody agrees."""
    if _is_commit(commit) and not code_file(commit).exists():
        with whole_file(code_file(commit)) as file:
            file.write(pack)


@contextmanager
def code_of(commit: str, diff: bytes, folder: Path, agreed: Callable[[str], bool]) -> Iterator[Path]:
    """A folder with the files of a commit, and what was not committed then.

    Parameters
    ----------
    diff : bytes
        For ``git apply``.
    folder : Path
        To make it in.
    agreed : callable
        Is asked, with a line, whether code that came from another machine may run.

    Raises
    ------
    UserError
        When the commit is not here, or git cannot bring it back.
    """
    project = folder / "project"
    is_here = _is_commit(commit) and _git_works("cat-file", "-e", f"{commit}^{{commit}}")
    if is_here:
        run_git("worktree", "add", "--detach", str(project), commit, folder=PROJECT)
    elif _is_commit(commit) and code_file(commit).exists():
        if not agreed(f"commit {commit}, {code_file(commit).stat().st_size} bytes of code from another machine"):
            raise UserError(f"commit {commit}: its code came from another machine, and is not trusted")
        _unpack(commit, project)
    else:
        missing = f"its code is not here (commit {escaped(commit)})"
        raise UserError(f"{missing}; fetch it, or try the present code with --in-place")
    try:
        if diff.strip():
            (folder / "uncommitted.diff").write_bytes(diff)
            run_git("apply", "--whitespace=nowarn", str(folder / "uncommitted.diff"), folder=project)
        if (PROJECT / "data").exists():
            if os.path.lexists(project / "data"):
                (project / "data").rename(folder / "data")  # the .dvc files of the commit
            (project / "data").symlink_to(PROJECT / "data")
        yield project
    finally:
        if is_here:
            run_git("worktree", "remove", "--force", str(project), folder=PROJECT)


def ask(yes: bool) -> Callable[[str], bool]:
    """For :func:`code_of`: asks on the terminal; `yes` is the answer of a script."""

    def agreed(what: str) -> bool:
        if not (yes or sys.stdin.isatty()):
            raise UserError(f"{what}, which a terminal asks for; --yes runs it")
        return yes or confirmed(f"run {what}?")

    return agreed


def run_git(*arguments: str, folder: Path, content: bytes = b"") -> None:
    """Call git in a folder.

    Raises
    ------
    UserError
        With the last line of what it says.
    """
    done = subprocess.run(["git", "-C", str(folder), *arguments], input=content, capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"git {' '.join(arguments[:2])}: {escaped(said[-1])}")


def _unpack(commit: str, project: Path) -> None:
    """Git names each file by its content, so what comes out is that commit, or nothing."""
    project.mkdir()
    run_git("init", "-q", folder=project)
    run_git("unpack-objects", "-q", folder=project, content=code_file(commit).read_bytes())
    (project / ".git" / "shallow").write_text(f"{commit}\n")
    run_git("checkout", "-q", "--detach", commit, folder=project)


def _git_works(*arguments: str) -> bool:
    return subprocess.run(["git", "-C", str(PROJECT), *arguments], capture_output=True).returncode == 0


def _is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None
