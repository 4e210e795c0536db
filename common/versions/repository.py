"""The git repository around a path: its state, its history of a file, and commits of a few files alone."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from common.cli import UserError

WAIT = 10.0
"""Seconds to wait for another git that holds the index."""

UNFINISHED = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


@dataclass(frozen=True)
class Repository:
    """A git repository with files.

    Attributes
    ----------
    root : Path
        Its top folder.
    folder : Path
        Where git keeps what is this working tree's own.
    """

    root: Path
    folder: Path

    @classmethod
    def around(cls, path: Path) -> Repository | None:
        """The repository that a path lies in, whether or not the path exists."""
        place = next(p for p in path.absolute().parents if p.is_dir())
        try:
            found = subprocess.run(
                ["git", "-C", str(place), "rev-parse", "--show-toplevel", "--absolute-git-dir"],
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise UserError(f"git: cannot be run ({error.strerror})") from error
        return cls(*map(Path, found.stdout.splitlines())) if found.returncode == 0 else None

    def git(self, *arguments: str) -> str | None:
        """What a git command prints, or None when it fails."""
        done = self._run(*arguments)
        return done.stdout if done.returncode == 0 else None

    def name(self, path: Path) -> str:
        """A path as git names it."""
        return path.relative_to(self.root).as_posix()

    def check_ready(self, committing: bool) -> None:
        """Refuse a repository that cannot be written to now.

        Raises
        ------
        UserError
            When a merge or the like is unfinished, another git holds the index, or, when `committing`, git does not
            know who commits.
        """
        for file, action in UNFINISHED.items():
            if (self.folder / file).exists():
                raise UserError(f"{self.root}: a git {action} is not finished; finish or abort it first")
        lock, end = self.folder / "index.lock", time.monotonic() + WAIT
        while lock.exists():
            if time.monotonic() > end:
                raise UserError(f"{lock}: another git is at work, or was killed: then remove this file")
            time.sleep(0.05)
        for who in ("AUTHOR", "COMMITTER") if committing else ():
            if self.git("var", f"GIT_{who}_IDENT") is None:
                raise UserError(
                    "git does not know who commits; git config user.name NAME and git config user.email ADDRESS tell it"
                )

    def ignoring_rule(self, path: Path | str) -> str | None:
        """The line that makes git ignore a path, as ``file:line: pattern``; None where none does.

        A folder whose path ends in a slash is taken as DVC takes it: ``folder/*`` is the folder itself too.
        """
        if self.git("check-ignore", "--no-index", "-q", "--", str(path)) is None:
            return None
        source, number, pattern = (
            self.git("check-ignore", "--no-index", "-v", "--", str(path)).split("\t")[0].split(":", 2)
        )
        return f"{source}:{number}: {pattern}"

    def text_at(self, revision: str, path: Path) -> str | None:
        """A file's text in a revision; None where the revision does not hold it."""
        return self.git("show", f"{revision}:{self.name(path)}")

    def revision(self, text: str) -> str | None:
        """The commit that a revision means, in full."""
        found = self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
        return found and found.strip()

    def history(self, path: Path, everywhere: bool = False) -> list[str]:
        """The commits that changed a file, newest first: of this branch, or of all branches."""
        branches = ["--all"] if everywhere else []
        return (self.git("log", "--format=%H", *branches, "--", str(path)) or "").split()

    def all_files_ever(self, suffix: str) -> list[Path]:
        """The files of all branches, whether or not they are still there, whose names end like this."""
        names = (self.git("log", "--all", "--format=", "--name-only", "-z") or "").split("\0")
        return [self.root / name for name in dict.fromkeys(names) if name.endswith(suffix)]

    def commit(self, files: Sequence[Path], message: str) -> bool:
        """Commit files as they are, and nothing else, whatever is staged; False when there was nothing to commit.

        Git runs in a session of its own, so that it ends what it began even if this process is killed.

        Raises
        ------
        UserError
            With what git said.
        """
        names = [str(file) for file in files]
        end = time.monotonic() + WAIT
        while self._differs(names):
            done = self._run("add", "--", *names)
            if done.returncode == 0:
                done = self._run("commit", "--quiet", "--only", f"--message={message}", "--", *names)
            if done.returncode == 0:
                return True
            said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            if "index.lock" not in done.stderr or time.monotonic() > end:
                raise UserError(f"git commit failed: {said[-1] if 'hook' in done.stderr else said[0]}")
            time.sleep(0.05)
        return False

    def upstream(self) -> tuple[str, str]:
        """The remote, and the branch there, that the present branch is pushed to.

        Raises
        ------
        UserError
            When no branch is checked out, or it has no upstream.
        """
        branch = (self.git("symbolic-ref", "--quiet", "--short", "HEAD") or "").strip()
        if not branch:
            raise UserError(f"{self.root}: no branch is checked out, so none can be pushed; git switch BRANCH does")
        found = [(self.git("config", f"branch.{branch}.{key}") or "").strip() for key in ("remote", "merge")]
        if not all(found):
            again = f"git push --set-upstream REMOTE {branch}"
            raise UserError(f"branch {branch}: has no upstream to push to; {again} gives it one")
        return found[0], found[1]

    def push(self) -> bool:
        """Push the present branch to its upstream; False when that has all of it.

        Raises
        ------
        UserError
            With what git said.
        """
        remote, branch = self.upstream()
        done = self._run("push", "--porcelain", remote, f"HEAD:{branch}")
        if done.returncode != 0:
            rejected = re.search(r"^!\t\S+\t(.+)$", done.stdout, re.MULTILINE)
            said = rejected[1] if rejected else (done.stderr.strip() or "no reason given").splitlines()[0]
            raise UserError(f"git push to {remote} failed: {said}; the commit stays, the same command pushes it")
        return not re.search(r"^=\t", done.stdout, re.MULTILINE)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While this holds no other process that asks for the same changes the repository's data.

        Raises
        ------
        UserError
            When another process holds it for a minute, or the repository cannot be written.
        """
        lock = FileLock(self.folder / "data_versions.lock")
        try:
            lock.acquire(timeout=60)
        except Timeout as error:
            raise UserError(f"{self.root}: another process is at work on its data (a minute waited)") from error
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from error
        try:
            yield
        finally:
            lock.release()

    def _differs(self, names: list[str]) -> bool:
        return bool(self.git("status", "--porcelain", "--untracked-files=all", "--", *names))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        literal = [] if arguments[0] == "check-ignore" else ["--literal-pathspecs"]  # which that command does not know
        return subprocess.run(
            ["git", "-C", str(self.root), *literal, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            start_new_session=True,
        )


def find_place(path: Path) -> tuple[Repository, Path]:
    """The repository that a path lies in, and the path in full.

    Raises
    ------
    UserError
        When it lies in none.
    """
    path = Path(os.path.abspath(path))
    repository = Repository.around(path)
    if repository is None:
        here = Repository.around(Path.cwd() / "any")
        if here is not None:
            raise UserError(f"{path}: outside the git repository {here.root}; expected a path in it")
        raise UserError(f"{path}: not in a git repository; git init makes one")
    return repository, path.parent.resolve() / path.name
