"""The code of a commit goes along with a run, and comes back where git does not have that commit."""

import subprocess

import pytest

from common.cli import UserError
from common.tracking import recorded_code
from common.tracking.recorded_code import code_file, code_of, pack_code, put_code


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Makes one, with two commits."""

    def make(name):
        (folder := tmp_path / name).mkdir()
        git(folder, "init", "--quiet")
        for text in ("first", "second"):
            (folder / "step").mkdir(exist_ok=True)
            (folder / "step" / "train.py").write_text(f"print('{text} {name}')\n")
            git(folder, "add", "--all")
            git(folder, "commit", "--quiet", "--message", text)
        return folder

    return make


def test_code_that_came_along_is_that_commit_and_is_had_only_by_who_agrees(repository, tmp_path, monkeypatch):
    here, there = repository("here"), repository("there")
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(recorded_code, "PROJECT", here)
    commit = git(here, "rev-parse", "HEAD")
    (here / "step" / "train.py").write_text("print('not committed')\n")
    diff = f"{git(here, 'diff')}\n".encode()
    pack = pack_code(commit)
    assert pack_code("no git repository") is None and pack_code("0" * 40) is None
    monkeypatch.setattr(recorded_code, "PROJECT", there)

    def code(name, diff=b"", agreed=True):
        (folder := tmp_path / name).mkdir()
        with code_of(commit, diff, folder, lambda what: agreed) as project:
            return git(project, "rev-parse", "HEAD"), (project / "step" / "train.py").read_text()

    with pytest.raises(UserError, match=rf"its code is not here \(commit {commit}\); fetch it"):
        code("missing")
    put_code(commit, pack)
    assert pack_code(commit) == pack  # it goes on to a third machine
    with pytest.raises(UserError, match="came from another machine, and is not trusted"):
        code("refused", agreed=False)
    assert code("committed") == (commit, "print('second here')\n")
    assert code("changed", diff) == (commit, "print('not committed')\n")
    code_file(commit).write_bytes(pack[:-9] + b"another 9")
    with pytest.raises(UserError, match="git unpack-objects"):
        code("damaged")
    put_code("../../outside", pack)
    assert [path.name for path in code_file(commit).parent.iterdir()] == [f"{commit}.pack"]
