"""Versions of data: recorded, pushed, committed and restored, and consistent wherever a process was killed."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from versioning import contents, dvc, git, make_repository, objects, write

from common.cli import UserError
from common.versions import checkout, status, track, version_of
from conftest import PROJECT

pytest.importorskip("dvc")
IMAGES = "data/images"
ALL = {"push": True, "commit": True, "git_push": True}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return make_repository(tmp_path, monkeypatch)


def agree():
    """Git's commit, here and upstream, the .dvc file, the data and the remote say the same, by their own sums."""
    text = Path(f"{IMAGES}.dvc").read_text()
    assert git("show", f"HEAD:{IMAGES}.dvc") == text == git("show", f"origin/main:{IMAGES}.dvc")
    assert git("status", "--porcelain", ".", ":!other").splitlines() == ["A  staged.py"]
    md5 = text.split("md5: ")[1].split("\n")[0]
    stored = {name: path.read_bytes() for name, path in objects("dvcstore").items()}
    assert all(hashlib.md5(content).hexdigest() == name.removesuffix(".dir") for name, content in stored.items())
    assert {f"{IMAGES}/{each['relpath']}": stored[each["md5"]] for each in json.loads(stored[md5])} == contents(IMAGES)
    return md5


def test_versions_of_a_folder_come_back_with_the_same_bytes(folder, monkeypatch):
    first = contents(IMAGES)
    assert "recorded, 3 files pushed, committed, branch pushed; md5" in track(IMAGES, **ALL)
    md5, commit = agree(), git("rev-parse", "HEAD").strip()
    clean = {"path": IMAGES, "state": "clean", "md5": md5, "git_revision": commit}
    assert version_of(IMAGES) == version_of(f"{IMAGES}/cats/a.jpg") == clean
    assert "nothing to do" in track(IMAGES, **ALL) and git("rev-parse", "HEAD").strip() == commit

    write(f"{IMAGES}/b.jpg", "changed")
    write(f"{IMAGES}/new.jpg", "new")
    second = contents(IMAGES)
    monkeypatch.chdir("data")
    assert version_of("images") == {"path": IMAGES, "state": "modified", "md5": None, "git_revision": None}
    assert status("images") == f"{IMAGES}: modified, no version (differs from {IMAGES}.dvc)"
    track("images", **ALL)
    monkeypatch.chdir("..")
    assert agree() != md5

    checkout("HEAD~1")
    assert contents(IMAGES) == first and version_of(IMAGES) == clean
    checkout("main", IMAGES)
    assert contents(IMAGES) == second
    monkeypatch.chdir("data")
    checkout(md5[:8], "images")
    monkeypatch.chdir("..")
    assert contents(IMAGES) == first
    assert git("diff", "--cached", "--name-only").split() == ["staged.py"]


def test_a_file_is_recorded_without_push_and_commit_and_other_changes_stay_out_of_the_commit(folder):
    head = git("rev-parse", "HEAD")
    write(".gitignore", Path(".gitignore").read_text() + "/mine\n")
    write("code.py", "changed\n")
    assert "other: recorded; md5" in track("other")
    assert git("rev-parse", "HEAD") == head and status("other").startswith("other: clean, not committed")
    assert objects("dvcstore") == {} and version_of(IMAGES) is None and status(IMAGES) == f"{IMAGES}: not under DVC"
    assert "other: committed; md5" in track("other", commit=True)
    committed = set(git("show", "--format=", "--name-only", "HEAD").split())
    assert committed == {"other.dvc", ".dvc/config", ".dvc/.gitignore", ".dvcignore"}  # .gitignore has theirs too
    assert git("status", "--porcelain").splitlines() == [" M .gitignore", " M code.py", "A  staged.py"]


@pytest.mark.hostile("data in no version are never lost by a checkout", cases=3)
def test_a_checkout_that_cannot_be_done_leaves_all_as_it_was(folder):
    track(IMAGES, **ALL)
    first = contents(IMAGES)
    write(f"{IMAGES}/b.jpg", "second")
    track(IMAGES, commit=True)
    write(f"{IMAGES}/b.jpg", "mine")
    write(f"{IMAGES}/dataset_splits.json", "{}")
    before, pointer = contents(IMAGES), Path(f"{IMAGES}.dvc").read_text()
    with pytest.raises(UserError, match=r"images/b.jpg: in no version and would be lost; .* track .*images keeps it"):
        checkout("HEAD~1")
    assert contents(IMAGES) == before and Path(f"{IMAGES}.dvc").read_text() == pointer
    write(f"{IMAGES}/b.jpg", "second")
    before = contents(IMAGES)
    shutil.rmtree(".dvc/cache")
    lost = next(path for path in objects("dvcstore").values() if path.read_bytes() == first[f"{IMAGES}/b.jpg"])
    lost.rename("kept")
    for _ in range(2):  # the remote lacks a file, then it is gone
        with pytest.raises(UserError, match=r"^version data/images \(md5 \w+.dir\) is neither whole in the cache"):
            checkout("HEAD~1")
        assert contents(IMAGES) == before and Path(f"{IMAGES}.dvc").read_text() == pointer
        shutil.rmtree(".dvc/cache", ignore_errors=True)
        if Path("dvcstore").exists():
            os.rename("dvcstore", "elsewhere")
    os.rename("elsewhere", "dvcstore")
    Path("kept").rename(lost)
    shutil.rmtree(IMAGES)
    assert status(IMAGES).startswith(f"{IMAGES}: modified")
    checkout("HEAD~1")
    assert contents(IMAGES) == first


def test_a_file_that_the_remote_has_lost_is_told_and_pushed_as_it_says(folder):
    track(IMAGES, **ALL)
    objects("dvcstore")[hashlib.md5(b"first data/images/b.jpg").hexdigest()].unlink()
    told = r"DVC's remote has lost data/images/b.jpg \(of 1\); without files/md5/"
    with pytest.raises(UserError, match=told) as error:
        track(IMAGES, **ALL)
    os.unlink(Path("dvcstore") / re.search(r"without (\S+) there", str(error.value))[1])
    assert "2 files pushed; md5" in track(IMAGES, **ALL)
    agree()


def spoil(name):
    """Bring the repository, with images tracked, into a state that cannot be worked with; returns what to track."""
    if name == "merge":
        write(".git/MERGE_HEAD", git("rev-parse", "HEAD"))
    elif name == "identity":
        git("config", "user.useConfigOnly", "true")
        git("config", "--unset", "user.email")
    elif name == "remote gone":
        os.rename("dvcstore", "elsewhere")
    elif name == "no remote":
        os.truncate(".dvc/config", 0)
    elif name == "far remote":
        write(".dvc/config", "[core]\n remote = far\n['remote \"far\"']\n url = http://127.0.0.1:9/data\n")
    paths = {"git has it": "code.py", "missing": "no.csv", "inside": f"{IMAGES}/b.jpg"}
    return paths.get(name, IMAGES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("remote gone", r"remote store: .*dvcstore is no folder"),
        pytest.param("no remote", "DVC has no remote; dvc remote add --default NAME URL", marks=pytest.mark.slow),
        ("git has it", r"DVC: output 'code.py' is already tracked by SCM .* git rm -r --cached 'code.py'"),
        ("missing", "no.csv: no such file or folder"),
        pytest.param("inside", "b.jpg: inside .*images, which is tracked as a whole", marks=pytest.mark.slow),
        pytest.param(
            "merge", "git commit failed: fatal: cannot do a partial commit during a merge", marks=pytest.mark.slow
        ),
        ("identity", "git commit failed: (Author identity unknown|fatal: no email was given)"),
        ("far remote", r"DVC: failed to transfer .*Cannot connect to host 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_tracked_is_refused_in_one_line_and_nothing_is_lost(folder, name, expected):
    track(IMAGES, **ALL)
    os.utime(f"{IMAGES}.dvc", (0, 0))  # git compares times by the second, and what follows may take less
    git("status")
    write(f"{IMAGES}/b.jpg", "changed")
    shutil.copytree(".", "../before")
    path = spoil(name)
    head, before = git("rev-parse", "HEAD"), contents("data", "code.py")
    with pytest.raises(UserError, match=expected) as error:
        track(path, push=True, commit=True)
    assert "\n" not in str(error.value)
    assert git("rev-parse", "HEAD") == head and contents("data", "code.py") == before
    if name in ("merge", "identity", "far remote"):  # recorded, and the same command does the rest when it can
        assert status(path).startswith(f"{path}: clean, not committed")
        Path(".git/MERGE_HEAD").unlink(missing_ok=True)
        for file in (".git/config", ".dvc/config"):
            shutil.copy(Path("../before") / file, file)
        assert "committed" in track(path, **ALL)
        agree()
    else:
        assert set(git("status", "--porcelain").splitlines()) <= {"A  staged.py", "?? other/", " M .dvc/config"}


def test_no_repository_and_unknown_versions(folder, tmp_path, monkeypatch):
    track("other", commit=True)
    with pytest.raises(UserError, match=r"^nonsense: expected a git revision or the beginning of one MD5 sum, found"):
        checkout("nonsense")
    with pytest.raises(UserError, match=r"^HEAD~1: commit \w{8} holds no other.dvc"):
        checkout("HEAD~1", "other")
    assert version_of(tmp_path / "site") is None
    write("other.dvc", "")
    with pytest.raises(UserError, match=r"other.dvc: not a .dvc file of one file or folder"):
        version_of("other")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a.csv: not in a git repository; git init makes one"):
        track("a.csv")


def start(*arguments):
    """Run the command, with everything imported when it prints a line."""
    code = "import dvc.repo.add, dvc.repo.push; from common.versions.__main__ import main; print(flush=True); main()"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    return process


killed = "track or checkout killed at any moment is run again, and data, commit and both remotes agree"


@pytest.mark.slow
@pytest.mark.hostile(killed, cases=2)
@pytest.mark.parametrize("again", ["the same command", "dvc checkout --force"])
def test_a_checkout_killed_while_it_copies_is_ended_by(again, folder):
    write(f"{IMAGES}/big.jpg", "0" * 200_000_000)
    track(IMAGES, commit=True)
    first = hashlib.md5(Path(f"{IMAGES}/big.jpg").read_bytes()).hexdigest()
    write(f"{IMAGES}/big.jpg", "small")
    track(IMAGES, commit=True)
    process = start("checkout", "HEAD~1", IMAGES)
    while process.poll() is None and not [name for name in os.listdir(IMAGES) if name.endswith(".tmp")]:
        pass
    process.kill()
    process.communicate()
    assert "modified" in status(IMAGES)
    if again == "the same command":
        checkout("HEAD~1", IMAGES)
    else:
        dvc("checkout", "--force", f"{IMAGES}.dvc")
    assert sorted(os.listdir(IMAGES)) == ["b.jpg", "big.jpg", "cats"] and "clean" in status(IMAGES)
    assert hashlib.md5(Path(f"{IMAGES}/big.jpg").read_bytes()).hexdigest() == first


@pytest.mark.hostile(killed, cases=2)
def test_files_that_a_killed_dvc_has_left_empty_do_not_stop_the_next_command(folder):
    track(IMAGES, **ALL)
    for name in (f"{IMAGES}.dvc", ".dvc/tmp/rwlock"):
        write(f"{IMAGES}/b.jpg", name)
        write(name, "")
        assert "recorded" in track(IMAGES, **ALL)
        agree()


@pytest.mark.slow
@pytest.mark.hostile(killed, cases=10)
def test_track_killed_at_ten_moments_is_run_again_and_all_agree(folder):
    rng = random.Random(0)
    duration = None
    for number in range(11):
        for name in (".dvc", "dvcstore") if number % 3 == 0 else ():  # from the very beginning
            shutil.rmtree(name, ignore_errors=True)
        for i in range(40):
            Path(f"{IMAGES}/{i}.bin").write_bytes(rng.randbytes(50_000))
        process, begun = start("track", IMAGES, "--push", "--commit", "--git-push"), time.monotonic()
        if duration is not None:
            time.sleep(duration * (number - rng.random()) / 10)
            process.kill()
        _, said = process.communicate()
        assert duration is not None or process.returncode == 0, said
        duration = duration or time.monotonic() - begun
        assert "md5" in track(IMAGES, **ALL)
        agree()
        assert "nothing to do" in track(IMAGES, **ALL)
