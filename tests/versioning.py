"""A repository with data, for tests of their versions: git, dvc, and what lies where."""

import io
import os
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

from conftest import PROJECT


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def dvc(*arguments):
    """What the program prints."""
    from dvc.cli import main

    output = io.StringIO()
    with redirect_stdout(output):
        code = main(list(arguments))
    assert code == 0, output.getvalue()
    return output.getvalue()


def contents(*names):
    """The bytes of all files but those of DVC."""
    files = (p for name in names for p in [Path(name), *Path(name).rglob("*")] if p.is_file())
    return {p.as_posix(): p.read_bytes() for p in files if p.suffix != ".dvc"}


def objects(store):
    """The files of a remote or a cache, by their MD5 sums; not what a killed DVC has half-copied."""
    found = (p for p in (Path(store) / "files").rglob("*") if p.is_file() and p.suffix != ".tmp")
    return {p.parent.name + p.name: p for p in found}


def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def enter(folder, monkeypatch):
    """Make a repository's folder the working directory, with no settings of whoever runs the tests."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return folder


def make_repository(tmp_path, monkeypatch):
    """Make the working directory: a project with the .gitignore of this one, data, a staged file and an upstream."""
    folder = enter(tmp_path / "project", monkeypatch)
    git("init", "--quiet", "--bare", "--initial-branch", "main", "../origin.git")
    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", "../origin.git")
    git("config", "user.name", "Someone")
    git("config", "user.email", "someone@example.org")
    shutil.copy(PROJECT / ".gitignore", ".")
    write("code.py", "first\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "Begin")
    git("push", "--quiet", "--set-upstream", "origin", "main")
    write("staged.py", "not yet\n")
    git("add", "staged.py")
    for name in ("data/motor.npz", "data/images/cats/a.jpg", "data/images/b.jpg", "other/c.txt"):
        write(name, f"first {name}")
    return folder
