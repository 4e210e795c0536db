"""Versions of data: recorded, pushed, committed and restored, and consistent wherever a process was killed."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from common.cli import UserError
from common.versions import checkout, status, track, version_of
from conftest import PROJECT

pytest.importorskip("dvc")


def git(*arguments, check=True):
    return subprocess.run(["git", *arguments], check=check, capture_output=True, text=True).stdout


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A git repository, the working directory, with a folder of data and something else staged."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init", "--quiet", "--initial-branch", "main")
    git("config", "user.name", "Someone")
    git("config", "user.email", "someone@example.org")
    (root / "code.py").write_text("first\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "Code")
    (root / "staged.py").write_text("not yet\n")
    git("add", "staged.py")
    (root / "pets" / "cats").mkdir(parents=True)
    (root / "pets" / "cats" / "one.txt").write_text("one")
    (root / "pets" / "two.txt").write_text("two")
    return root


def contents(data):
    return {p.relative_to(data).as_posix(): p.read_bytes() for p in sorted(data.rglob("*")) if p.is_file()}


def agree(root, name="pets"):
    """Git's commit, the .dvc file, the data and the remote say the same, by their own sums."""
    text = (root / f"{name}.dvc").read_text()
    assert git("show", f"HEAD:{name}.dvc") == text
    assert git("status", "--porcelain").splitlines() == ["A  staged.py"]
    md5 = text.split("md5: ")[1].split("\n")[0]

    def stored(md5):
        content = (root / "dvcstore" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5.removesuffix(".dir")
        return content

    assert {entry["relpath"]: stored(entry["md5"]) for entry in json.loads(stored(md5))} == contents(root / name)
    return md5


def test_versions_of_a_folder_come_back_with_the_same_bytes(folder):
    first = contents(folder / "pets")
    assert "recorded, 3 objects pushed, committed" in track("pets", push=True, commit=True)
    md5 = agree(folder)
    commit = git("rev-parse", "HEAD").strip()
    assert version_of("pets") == {"path": "pets", "state": "clean", "md5": md5, "git_revision": commit}
    assert version_of("pets/cats/one.txt") == version_of("pets")
    assert "nothing to do" in track("pets", push=True, commit=True) and git("rev-parse", "HEAD").strip() == commit

    (folder / "pets" / "two.txt").write_text("changed")
    (folder / "pets" / "three.txt").write_text("new")
    second = contents(folder / "pets")
    assert version_of("pets") == {"path": "pets", "state": "modified", "md5": None, "git_revision": None}
    assert status("pets") == "pets: modified, no version (differs from pets.dvc)"
    track("pets", push=True, commit=True)
    assert agree(folder) != md5

    checkout("HEAD~1")
    assert contents(folder / "pets") == first and version_of("pets")["git_revision"] == commit
    checkout("main", "pets")
    assert contents(folder / "pets") == second
    checkout(md5[:8], "pets")
    assert contents(folder / "pets") == first
    assert git("diff", "--cached", "--name-only").split() == ["staged.py"]


def test_data_that_only_the_remote_has_are_fetched(folder):
    track("pets", push=True, commit=True)
    before = contents(folder / "pets")
    shutil.rmtree("pets")
    shutil.rmtree(".dvc/cache")
    assert status("pets").startswith("pets: modified")
    checkout("HEAD")
    assert contents(folder / "pets") == before and status("pets").startswith("pets: clean, commit ")
    shutil.rmtree("pets")
    shutil.rmtree(".dvc/cache")
    os.rename("dvcstore", "elsewhere")
    with pytest.raises(UserError, match="dvcstore is no folder"):
        checkout("HEAD")
    os.mkdir("dvcstore")
    with pytest.raises(UserError, match="is neither in the cache nor in the remote"):
        checkout("HEAD")


def test_a_file_that_the_remote_has_lost_is_pushed_again(folder):
    track("pets", push=True, commit=True)
    md5 = hashlib.md5(b"two").hexdigest()
    (folder / "dvcstore" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    assert "1 object pushed; md5" in track("pets", push=True, commit=True)
    agree(folder)


def test_a_file_is_recorded_without_push_and_commit(folder):
    head = git("rev-parse", "HEAD")
    (folder / "table.csv").write_text("1\n")
    assert "table.csv: recorded; md5" in track("table.csv")
    assert git("rev-parse", "HEAD") == head and status("table.csv").startswith("table.csv: clean, not committed")
    assert not (folder / "dvcstore" / "files").exists()
    assert "committed" in track("table.csv", commit=True)
    assert git("status", "--porcelain", "table.csv", "table.csv.dvc", ".gitignore", ".dvc") == ""
    assert version_of("pets") is None and status("pets") == "pets: not under DVC"


def test_other_changes_stay_out_of_the_commit(folder):
    (folder / "code.py").write_text("changed\n")
    (folder / ".gitignore").write_text("/mine\n")
    git("add", ".gitignore")
    git("commit", "--quiet", "--only", "-m", "Mine", "--", ".gitignore")
    (folder / ".gitignore").write_text("/mine\n/more\n")
    track("pets", commit=True)
    changed = git("show", "--format=", "--name-only", "HEAD").split()
    assert set(changed) == {
        "pets.dvc",
        ".dvc/config",
        ".dvc/.gitignore",
        ".dvcignore",
    }  # .gitignore has a line of theirs
    assert git("status", "--porcelain").splitlines() == [" M .gitignore", " M code.py", "A  staged.py"]


def test_data_in_no_version_are_never_overwritten(folder):
    track("pets", commit=True)
    (folder / "pets" / "two.txt").write_text("mine")
    with pytest.raises(UserError, match=r"two.txt: in no version and would be lost; .* track .*pets keeps it"):
        checkout("HEAD")
    assert (folder / "pets" / "two.txt").read_text() == "mine"


def test_an_interrupted_checkout_is_no_version(folder):
    track("pets", commit=True)
    (folder / "pets" / "two.txt").write_text("changed")
    track("pets", commit=True)
    (folder / ".git" / "data_checkout.json").write_text('{"pets.dvc": "HEAD~1"}')
    git("checkout", "HEAD~1", "--", "pets.dvc")
    (folder / "pets" / ".abcdefghijklmnopqrstuv.tmp").write_text("half a fi")  # as DVC leaves them
    with pytest.raises(UserError, match=r"a checkout was interrupted .* run it again: .* checkout HEAD~1 pets"):
        track("pets")
    checkout("HEAD~1", "pets")
    assert sorted(contents(folder / "pets")) == ["cats/one.txt", "two.txt"]
    assert (folder / "pets" / "two.txt").read_text() == "two"


def spoil(name):
    """Bring the repository, with pets tracked, into a state that cannot be worked with; returns what to track."""
    if name == "merge":
        with open(".git/MERGE_HEAD", "w") as file:
            file.write(git("rev-parse", "HEAD"))
    elif name == "identity":
        git("config", "user.useConfigOnly", "true")
        git("config", "--unset", "user.email")
    elif name == "remote gone":
        os.rename("dvcstore", "elsewhere")
    elif name == "no remote":
        os.truncate(".dvc/config", 0)
    elif name == "far remote":
        with open(".dvc/config", "w") as file:
            file.write("[core]\n remote = far\n['remote \"far\"']\n url = http://127.0.0.1:9/data\n")
    elif name == "git has it":
        return "code.py"
    elif name == "outside":
        return "../elsewhere.csv"
    elif name == "missing":
        return "nothing.csv"
    elif name == "ignored":
        os.makedirs("hidden/data")
        with open("hidden/data/a.txt", "w") as file, open(".git/info/exclude", "a") as exclude:
            file.write("a")
            exclude.write("/hidden/\n")
        return "hidden/data"
    elif name == "inside":
        return "pets/two.txt"
    elif name == "empty":
        os.mkdir("empty")
        return "empty"
    return "pets"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("merge", "a git merge is not finished; finish or abort it first"),
        ("identity", "git does not know who commits; git config user.name NAME"),
        ("remote gone", r"remote store: .*dvcstore is no folder"),
        ("no remote", "DVC has no remote; dvc remote add --default NAME URL"),
        ("far remote", "remote far: .* does not answer"),
        ("git has it", "code.py: kept by git itself; git rm -r --cached code.py"),
        ("outside", r"elsewhere.csv: outside the git repository .*project; expected a path in it"),
        ("missing", "nothing.csv: no such file or folder"),
        ("ignored", r"git ignores hidden/data.dvc, .*exclude:\d+: /hidden/\)"),
        ("inside", r"two.txt: inside .*pets, which is tracked as a whole; track that"),
        ("empty", "empty: an empty folder"),
    ],
)
def test_what_cannot_be_tracked_is_refused_before_anything_is_changed(folder, name, expected):
    (folder.parent / "elsewhere.csv").write_text("1")
    track("pets", push=True, commit=True)
    (folder / "pets" / "two.txt").write_text("changed")
    path = spoil(name)

    def state():
        files = {k: v for k, v in contents(folder).items() if not k.startswith((".git/", ".dvc/tmp/"))}
        return files, git("rev-parse", "HEAD"), git("status", "--porcelain")

    before = state()
    with pytest.raises(UserError, match=expected) as error:
        track(path, push=True, commit=True)
    assert "\n" not in str(error.value)
    assert state() == before


def test_no_repository_and_unknown_versions(folder, tmp_path, monkeypatch):
    track("pets", commit=True)
    with pytest.raises(
        UserError, match="nonsense: expected a git revision or the beginning of one MD5 sum, found neith"
    ):
        checkout("nonsense")
    with pytest.raises(UserError, match=r"HEAD~1: commit \w{8} holds no pets.dvc"):
        checkout("HEAD~1", "pets")
    assert version_of(tmp_path / "site") is None
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a.csv: not in a git repository; git init makes one"):
        track("a.csv")


READY = """import dvc.repo.add, dvc.repo.push
from common.versions.__main__ import main
print(flush=True)
main()"""


def killed_track(moment):
    """Run `track`, and kill it some seconds after it has imported everything; None lets it end."""
    command = [sys.executable, "-c", READY, "track", "pets", "--push", "--commit", "--git-push"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    start = time.monotonic()
    if moment is not None:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert moment is not None or process.returncode == 0, said
    return time.monotonic() - start


def kill_and_run_again(folder, moments):
    rng = random.Random(0)
    duration = None
    git("init", "--quiet", "--bare", "../origin.git")
    git("remote", "add", "origin", "../origin.git")
    git("push", "--quiet", "--set-upstream", "origin", "main")
    for number in range(moments + 1):
        for name in (".dvc", "dvcstore") if number % 3 == 0 else ():  # from the very beginning
            shutil.rmtree(name, ignore_errors=True)
        for i in range(60):
            (folder / "pets" / f"{i}.bin").write_bytes(rng.randbytes(50_000))
        if duration is None:
            duration = killed_track(None)
        else:
            killed_track(duration * (number - rng.random()) / moments)
            assert "md5" in track("pets", push=True, commit=True, git_push=True)
        agree(folder)
        assert git("ls-remote", "origin", "main").split()[0] == git("rev-parse", "HEAD").strip()
        assert "nothing to do" in track("pets", push=True, commit=True, git_push=True)


killed = "track killed at any moment is run again, and data, commit and both remotes agree"


@pytest.mark.hostile(killed, cases=3)
def test_track_killed_at_any_moment_is_run_again_and_all_agree(folder):
    kill_and_run_again(folder, 3)


@pytest.mark.slow
@pytest.mark.hostile(killed, cases=10)
def test_track_killed_at_ten_moments_is_run_again_and_all_agree(folder):
    kill_and_run_again(folder, 10)
