"""Data that `track` put under DVC are plain DVC's too: its own commands see, bring, keep and restore them."""

import os
import re
import shutil
from pathlib import Path

import pytest
from versioning import contents, dvc, enter, git, make_repository, objects, write

from common.cli import UserError
from common.versions import checkout, status, track

pytest.importorskip("dvc")
TRACKED = ("data/motor.npz", "data/images", "other")
plain_dvc = pytest.mark.hostile("plain DVC sees all that is tracked, and deletes nothing")
git_push = pytest.mark.hostile("--git-push ends with data and commit pushed, or says in one line why not")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return make_repository(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A file and a folder under data/ and one elsewhere tracked, and pushed to a store beside the repository."""
    with pytest.MonkeyPatch.context() as patch:
        folder = make_repository(tmp_path_factory.mktemp("template"), patch)
        track("other", commit=True)
        (folder.parent / "store").mkdir()
        dvc("remote", "modify", "store", "url", "../store")
        git("commit", "--quiet", "-m", "Store", ".dvc/config")
        for name in TRACKED:
            track(name, push=True, commit=True, git_push=True)
        return folder.parent


@pytest.fixture
def tracked(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "copy", symlinks=True)
    return enter(tmp_path / "copy" / "project", monkeypatch)


@plain_dvc
def test_a_fresh_clone_pulls_all_and_finds_it_clean(tracked, monkeypatch):
    before = contents(*TRACKED)
    git("clone", "--quiet", "../origin.git", "../clone")
    monkeypatch.chdir("../clone")
    assert contents(*TRACKED) == {}
    dvc("pull")
    assert contents(*TRACKED) == before
    assert "up to date" in dvc("status") and "in sync" in dvc("status", "--cloud") and dvc("diff") == ""
    held = objects(".dvc/cache").keys()
    dvc("gc", "--workspace", "--force")
    assert objects(".dvc/cache").keys() == held and held
    assert git("status", "--porcelain") == ""
    assert all(status(name).startswith(f"{name}: clean, commit ") for name in TRACKED)


@plain_dvc
def test_what_dvc_adds_is_a_version_here_and_former_ones_come_back_to_dvc(tracked):
    write("data/drawn/images/d.jpg", "not under DVC")
    git("checkout", "--quiet", "-b", "more")
    before = contents("data", "other")
    for name in ("data/motor.npz", "data/images/new.jpg", "other/c.txt"):
        write(name, f"second {name}")
    after = contents("data", "other")
    said = dvc("status")
    assert all(re.search(rf"modified: +{name}$", said, re.MULTILINE) for name in TRACKED)
    assert set(dvc("diff").split()) >= {"data/motor.npz", "data/images/new.jpg", "other/c.txt"}

    dvc("add", *TRACKED)
    git("commit", "--quiet", "--all", "-m", "By hand")
    held = objects("../store")
    assert "5 files pushed" in dvc("push")  # of two folders the lists too
    assert len(objects("../store").keys() - held.keys()) == 5
    head = git("rev-parse", "HEAD")[:8]
    assert all(status(name).startswith(f"{name}: clean, commit {head}") for name in TRACKED)
    assert "nothing to do" in track("data/images", push=True, commit=True)

    checkout("main")
    assert contents("data", "other") == before and "up to date" in dvc("status")
    git("checkout", "--quiet", "more", "--", ".")
    dvc("checkout")
    assert contents("data", "other") == after
    git("reset", "--quiet", "--hard", "main")
    dvc("pull")
    assert contents("data", "other") == before


@plain_dvc
def test_git_ignores_all_in_data_but_the_dvc_files(tracked):
    write("data/.drawn.lock", "")
    write("data/drawn/dataset_splits.json", "{}")
    write("data/table.csv", "1")
    write("data/images.dvc.part", "1")
    assert git("status", "--porcelain", "--untracked-files=all") == "A  staged.py\n"
    assert git("ls-files", "data").split() == ["data/images.dvc", "data/motor.npz.dvc"]
    write("data/new.dvc", "")
    assert git("status", "--porcelain") == "A  staged.py\n?? data/new.dvc\n"


@plain_dvc
def test_splits_in_a_tracked_folder_are_no_change_of_it_and_stay(tracked):
    write("data/images/dataset_splits.json", "{}")
    write("data/images/dataset_splits-0123456789ab.json", "{}")
    assert "clean" in status("data/images") and "up to date" in dvc("status")
    write("data/images/new.jpg", "new")
    track("data/images", commit=True)
    checkout("HEAD~1", "data/images")
    git("checkout", "--quiet", "HEAD", "--", "data/images.dvc")
    dvc("checkout")
    splits = ["dataset_splits-0123456789ab.json", "dataset_splits.json"]
    assert sorted(os.listdir("data/images")) == ["b.jpg", "cats", *splits, "new.jpg"]


def remedied(rules, said):
    """The rules with the remedy that a message names."""
    if lines := re.search(r"with (.+) as lines at the end of .gitignore", said):
        return [*rules, *lines[1].split()]
    old, new = re.search(r"gitignore:\d+: (\S+)\); with (\S+) in place of that line", said).groups()
    return [new if rule == old else rule for rule in rules]


@plain_dvc
@pytest.mark.parametrize(
    ("rules", "name"),
    [
        pytest.param(["/data/*", "!/data/*.dvc"], "data/images", marks=pytest.mark.slow),
        (["**/data/*/", "/data/*.npz"], "data/images"),
        pytest.param(["data"], "data/images", marks=pytest.mark.slow),
        pytest.param(["/data/*"], "data/motor.npz", marks=pytest.mark.slow),
        (["/data/?*", "!/data/*.dvc"], "data/images/cats"),
        pytest.param(["*.dvc"], "other", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_data_that_git_hides_from_dvc_are_refused_with_a_remedy_that_works(folder, rules, name):
    text = contents(name)
    for _ in range(3):
        Path(".gitignore").write_text("\n".join([*rules, ""]))
        try:
            track(name, push=True, commit=True)
            break
        except UserError as error:
            assert str(error).count("\n") == 0 and "gitignore:" in str(error)
            assert not Path(".dvc").exists() and not Path("dvcstore").exists() and not Path(f"{name}.dvc").exists()
            rules = remedied(rules, str(error))
    assert "in place" not in status(name) and f"{name}.dvc" in git("ls-files").split()
    assert contents(name) == text
    changed = next(iter(text))
    write(changed, "changed")
    assert f"{name}.dvc:" in dvc("status")
    assert not [line for line in git("status", "--porcelain").split("\n") if line.startswith("??") and changed in line]


@plain_dvc
def test_status_warns_where_an_old_gitignore_hides_data_from_dvc(tracked):
    before = Path(".gitignore").read_text()
    number = before.splitlines().index("/data/?*") + 1
    Path(".gitignore").write_text(before.replace("/data/?*", "/data/*"))
    for name, says in (("data/motor.npz", True), ("other", False)):
        assert (f"dvc checkout would delete the data (.gitignore:{number}: /data/*)" in status(name)) == says
    write("data/motor.npz", "changed")
    with pytest.raises(UserError, match=r"with /data/\?\* in place of that line"):
        track("data/motor.npz")


@git_push
def test_git_push_that_cannot_be_done_is_refused_before_anything_is_changed(folder):
    with pytest.raises(UserError, match="--git-push: expected --push and --commit too"):
        track("other", push=True, git_push=True)
    for branch, expected in (
        (["--create", "mine"], "fatal: The current branch mine has no upstream branch"),
        (["--detach"], "fatal: You are not currently on a branch"),
        (["main"], r"\[rejected\] \(fetch first\)"),
    ):
        git("switch", "--quiet", *branch)
        if branch == ["main"]:
            git("clone", "--quiet", "../origin.git", "../colleague")
            colleague = ["-C", "../colleague", "-c", "user.name=A", "-c", "user.email=a@b.c"]
            git(*colleague, "commit", "--quiet", "--allow-empty", "-m", "Theirs")
            git(*colleague, "push", "--quiet")
        with pytest.raises(UserError, match=f"^git push failed: {expected}") as error:
            track("other", push=True, commit=True, git_push=True)
        assert "\n" not in str(error.value) and not Path(".dvc").exists() and not Path("other.dvc").exists()


@git_push
def test_a_push_that_fails_keeps_the_commit_and_the_same_command_ends_it(folder):
    write("../origin.git/hooks/pre-receive", "#!/bin/sh\nexit 1\n")
    os.chmod("../origin.git/hooks/pre-receive", 0o700)
    arguments = {"push": True, "commit": True, "git_push": True}
    with pytest.raises(UserError, match=r"^git push failed: \[remote rejected\] \(pre-receive hook declined\)$"):
        track("other", **arguments)
    assert len(objects("dvcstore")) == 2 and "other.dvc" in git("show", "--name-only", "HEAD").split()
    os.unlink("../origin.git/hooks/pre-receive")
    assert track("other", **arguments).startswith("other: branch pushed; md5 ")
    assert git("ls-remote", "origin", "main").split()[0] == git("rev-parse", "HEAD").strip()
    assert track("other", **arguments).startswith("other: nothing to do; md5 ")
