"""A repository with data, for tests of their versions: git, dvc, and what lies where."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def dvc(*arguments):
    """What the program prints, as a user calls it."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def make_repository(tmp_path, monkeypatch):
    """Make the working directory: a project with the .gitignore of this one, data, a staged file and an upstream."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    git("init", "--quiet", "--bare", "--initial-branch", "main", tmp_path / "origin.git")
    git("clone", "--quiet", tmp_path / "origin.git", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    git("switch", "--quiet", "--create", "main")
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
    return tmp_path / "project"
