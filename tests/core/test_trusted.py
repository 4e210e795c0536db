"""A run from elsewhere: nothing but a step of the recorded commit is run, and code from a store is asked for."""

import io
import json
import shutil
import sys

import pytest
from test_reproduce import Repository

from common.cli import UserError
from common.tracking import recorded_code, reproduce, store

hostile = pytest.mark.hostile("a run's tags, commit and diff make reproduce run nothing that is not asked for")
NEW = "diff --git a/{0} b/{0}\nnew file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+{2}\n"
LINK = "\\ No newline at end of file\n"


@pytest.fixture(scope="module")
def shared(empty_stores, tmp_path_factory):
    """A repository with a store that others write to as well."""
    repository = Repository(tmp_path_factory.mktemp("shared"))
    shutil.copy(empty_stores / "mlflow.db", repository.folder)
    repository.git("checkout", "--quiet", "--", ".")
    (repository.folder.parent / "evil.py").write_text("open('evil was here', 'w')\n")
    return repository


@pytest.fixture
def run_of(shared, monkeypatch):
    """Makes a finished run of any command, commit and diff."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(shared.folder.parent)
    monkeypatch.setenv("REPROAI_STATE", str(shared.folder))
    for module in (reproduce, recorded_code):
        monkeypatch.setattr(module, "PROJECT", shared.folder)
    head = shared.git("rev-parse", "HEAD").strip()

    def make(command, commit=head, diff="", **files):
        _, experiment = store.open_store("step_2")
        command = command if command == "no JSON" else json.dumps(command)
        tags = {"run_level": "root", "step": "step_2", "command": command, "identity": "{}"}
        run_id = shared.client.create_run(experiment, tags=tags).info.run_id
        shared.client.log_param(run_id, "git_commit", commit)
        shared.client.log_text(run_id, diff, "provenance/uncommitted.diff")
        for name, text in files.items():
            shared.client.log_text(run_id, text, f"{name}.py")
        shared.client.set_terminated(run_id)
        return run_id

    return make


def tree(folder):
    own = ("mlruns", "cache", "mlflow.db", ".git/index")
    found = [path for path in folder.rglob("*") if not any(name in str(path) for name in own)]
    return {path: path.read_bytes() for path in found if path.is_file()}


def refused(run_id, shared, yes=True):
    before = tree(shared.folder.parent)
    with pytest.raises(UserError) as error:
        reproduce.main([run_id, *["--yes"] * yes])
    assert tree(shared.folder.parent) == before
    assert str(error.value).isprintable()
    return str(error.value)


NO_STEPS = [["../evil.py"], ["step_2/../../evil.py"], ["step_2/train.py\n"], ["step_2/analyze_predictions.py"]]
NO_STEPS += [["-c", "open('evil was here', 'w')"], [], {"no": "list"}, "no JSON"]
NO_FLAGS = [["step_2/train.py", flag] for flag in ("--no-such-flag\x1b[2J", "--help", 1)]
NO_FLAGS += [
    ["step_5/train.py", "--fast", "../evil.py"],
    ["step_5/train.py", "step_5/config.py", "--experiment", "../x"],
    ["step_3/train.py", "--engine", "tcp://127.0.0.1:1"],
]
NO_CONFIGS = [["step_5/train.py", name] for name in ("step_5/../../evil.py", "no_such.py", "/", "a\0b.py")]


@hostile
@pytest.mark.parametrize("command", NO_STEPS + NO_FLAGS + NO_CONFIGS)
def test_a_command_that_is_no_step_with_its_flags_is_not_run(command, run_of, shared):
    run_id = run_of(command)
    assert refused(run_id, shared).startswith(f"run {run_id}: its ")


@hostile
@pytest.mark.parametrize("commit", ["HEAD", "--orphan=x", "0" * 40, "f" * 39, ":/first"])
def test_a_commit_is_the_hash_of_one_that_is_here(commit, run_of, shared):
    assert refused(run_of(["step_2/train.py"], commit), shared).startswith("its code is not here (commit ")


@hostile
@pytest.mark.parametrize(
    "diff",
    [
        NEW.format("common/../../evil.txt", "100644", "x"),
        NEW.format("/tmp/reproduced-evil.txt", "100644", "x"),
        NEW.format(".git/hooks/post-checkout", "100755", "x"),
        NEW.format("out", "120000", "../..") + LINK + NEW.format("out/evil.txt", "100644", "x"),
        NEW.format("data", "120000", "/tmp") + LINK + NEW.format("data/evil.txt", "100644", "x"),
        "no diff",
    ],
)
def test_a_diff_writes_into_the_worktree_alone(diff, run_of, shared):
    assert refused(run_of(["step_2/train.py"], diff=diff), shared).startswith("git apply")
    assert list((shared.folder / ".git").glob("worktrees/*")) == []


@hostile
@pytest.mark.parametrize("what", ["diff", "config"])
def test_code_from_a_store_is_one_line_without_a_terminal_and_shown_and_asked_for_with_one(
    what, run_of, shared, monkeypatch, capsys
):
    if what == "diff":
        run_id = run_of(["step_2/train.py", "--fast"], diff=NEW.format("common/new.py", "100644", "evil\x1b[2J"))
    else:
        run_id = run_of(["step_5/train.py", "/elsewhere/mine.py"], mine="evil\x1b[2J = 1\n")
    capsys.readouterr()
    told = "code from the tracking store, which a terminal shows and asks for; --yes runs it"
    assert told in refused(run_id, shared, yes=False) and capsys.readouterr().out == ""

    terminal = io.StringIO("no\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert refused(run_id, shared, yes=False).endswith("is not trusted")
    asked = capsys.readouterr().out
    assert "evil\\x1b[2J" in asked and "[y/N]" in asked


@pytest.mark.slow
@pytest.mark.hostile("untracked files are recorded by name and size alone, but for code that the run imports", cases=6)
def test_untracked_code_repeats_and_all_else_is_recorded_by_name_and_size_alone(tmp_path):
    """A config in the clone, one outside, what they import, now or later; scans, a key, and data inside the clone."""
    repository = Repository(tmp_path)
    project, secret = repository.folder, b"a-secret-of-the-lab"
    repository.pets = shutil.copytree(repository.pets, project / "patients")
    for scan in repository.pets.rglob("*.jpg"):
        scan.write_bytes(scan.read_bytes() + secret)
    for name in (".env", "notes.txt", "key.py", "patients/list of names.csv", "line\nbreak"):
        (project / name).write_bytes(secret)
    config = "from common.config import TrainingConfig\nconfig = TrainingConfig()\n"
    (project / "mine.py").write_text(f"import now_used\n{config}def later():\n    import used_later\n")
    (project / "now_used.py").write_text("A = 1\n")
    (project / "used_later.py").write_text("B = 1\n")
    outside = tmp_path / "outside.py"
    outside.write_text(config)
    for path, code in ((project / "mine.py", {"mine.py", "now_used.py", "used_later.py"}), (outside, set())):
        run_id = repository.train(5, path, "--root-splits", 1, "--inner-splits", 1)
        stores = [project / "mlflow.db", *(path for path in (project / "mlruns").rglob("*") if path.is_file())]
        assert [path for path in stores if secret in path.read_bytes()] == []
        folder = project / "mlruns" / "step_5" / run_id / "artifacts" / "provenance"
        listed = (folder / "not_recorded.txt").read_text().splitlines()
        assert {f"{len(secret)} {name}" for name in (".env", "notes.txt", "key.py", "'line\\nbreak'")} <= set(listed)
        scan = repository.pets / "images" / "Bengal_1.jpg"
        assert f"{scan.stat().st_size} patients/images/Bengal_1.jpg" in listed
        diff = (folder / "uncommitted.diff").read_text()
        assert {line[6:] for line in diff.splitlines() if line.startswith("+++ b/")} == {"step_3/train.py", *code}
        path.rename(tmp_path / "moved.py")
        done = repository.reproduce(run_id)
        assert "verdict: bitwise identical" in done.stdout, done.stdout + done.stderr
