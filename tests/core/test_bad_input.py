"""Bad input: the real scripts answer with one line that names it and end with code 2, and nothing half-made is left."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from test_data import draw

from common.cli import UserError, train_parser
from common.data import load_images
from conftest import make_tiny_pets
from step_3 import make_dataset_splits

DOWNLOAD = "step_1/download_data.py"
SMALL = ("--fast", "--device", "cpu")
BEFORE = "what cannot be is refused before anything runs"
ONE_FIT = ("--root-splits", 1, "--inner-splits", 1)
DROP = "-dac_override,-dac_read_search"


def runs(project):
    """The level and status of each run."""
    if not (project / "mlflow.db").exists():
        return {}
    query = "SELECT run_uuid, value, status FROM runs JOIN tags USING (run_uuid) WHERE key = 'run_level'"
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        return {run: (level, status) for run, level, status in database.execute(query)}


def left_behind(project):
    """What must not change: data folders without splits, files half written, and runs that seem to be running."""
    data = {p for p in (project / "data").glob("[!.]*") if not (p / "dataset_splits.json").exists()}
    parts = {p for folder in ("data", "cache") for p in (project / folder).rglob("*.part")}
    return data | parts | {run for run, (_, status) in runs(project).items() if status == "RUNNING"}


@pytest.fixture
def refusal(project, run_script):
    """Runs a script with bad input, checks how it ends, and returns its one line of error."""

    def run(script, *arguments, **options):
        before = left_behind(project)
        done = run_script(script, *arguments, **options)
        assert done.returncode == 2, done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("fits: ")]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        assert left_behind(project) == before
        return lines[0]

    return run


# ---- data

FOLDERS = {
    "nothing there": ([], {}, "no images found; expected images/Breed_1.jpg, a folder per class, or info.csv"),
    "no image": ([], {"notes.txt": b"none"}, "no images found"),
    "one class": (["cat/1.jpg", "cat/2.jpg"], {}, "expected images of two or more classes, found 1: cat (2)"),
    "no breed": (["images/Manx_1.jpg", "images/me.jpg"], {}, "images/me.jpg: no label in the file name; expected"),
    "no type": (["1.png"], {"info.csv": b"files,type\n1.png,\n"}, "info.csv, line 2: expected a value for files"),
    "no file": (["1.png"], {"info.csv": b"files,type\n2.png,dog\n"}, "info.csv: 2.png is listed but not there"),
    "columns": (["1.png"], {"info.csv": b"file;label\n"}, "expected the columns files,type, found file;label"),
    "no UTF-8": (["1.png"], {"info.csv": b"files,type\n1.png,\xff\n"}, "info.csv: not a CSV file in UTF-8"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_data_set_of_two_classes(tmp_path, monkeypatch, case):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    names, texts, expected = FOLDERS[case]
    root = tmp_path / "mine"
    root.mkdir()
    draw(root, *names)
    for name, text in texts.items():
        (root / name).write_bytes(text)
    with pytest.raises(UserError) as error:
        load_images(str(root), 64)
    line = str(error.value)
    assert line.startswith(str(root)) and expected in line and "\n" not in line


def test_a_path_that_is_no_folder(tmp_path, refusal):
    assert f"error: {tmp_path}/nowhere: no such folder" in refusal(DOWNLOAD, "--data", tmp_path / "nowhere")
    (tmp_path / "a_file").touch()
    with pytest.raises(UserError, match=f"^{tmp_path}/a_file: a file; expected a folder"):
        load_images(str(tmp_path / "a_file"), 64)


@pytest.fixture(scope="module")
def bound_by_permissions(tmp_path_factory):
    """A command before a script's, so that file permissions hold for it, even where root runs the tests."""
    if os.geteuid() != 0:
        return ()
    locked = tmp_path_factory.mktemp("locked") / "file"
    locked.touch(mode=0o000)
    prefix = ("setpriv", f"--bounding-set={DROP}", f"--inh-caps={DROP}")
    if shutil.which("setpriv") and subprocess.run([*prefix, "test", "-r", locked]).returncode == 1:
        return prefix
    pytest.skip("root may read everything, and setpriv cannot drop that right here")


def test_no_permission(tmp_path, refusal, bound_by_permissions):
    root = make_tiny_pets(tmp_path / "mine", n_per_class=2)
    images = root / "images"
    for locked, data in ((images / "Bengal_1.jpg", root), (images, root), (root, images)):
        mode = locked.stat().st_mode
        locked.chmod(0o000)
        line = refusal(DOWNLOAD, "--data", data, prefix=bound_by_permissions)
        locked.chmod(mode)
        assert str(root) in line and "Permission denied" in line


# ---- flags


@pytest.mark.parametrize(
    ("step", "arguments", "expected"),
    [
        (1, ["--image-size", "big"], "--image-size: expected a whole number from 16 to 1024, found"),
        (2, ["--seed", "-1"], "--seed: expected a whole number from 0 to 9223372036854775807, found"),
        (4, ["--n-trails", "3"], "unrecognized arguments: --n-trails 3"),
        (5, ["--device", "gpu"], "--device: invalid choice: 'gpu'"),
        (None, ["--root-folds", "1"], "--root-folds: expected a whole number of at least 2, found '1'"),
    ],
)
def test_a_flag_that_cannot_be(capsys, step, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        train_parser("", step).parse_args(arguments) if step else make_dataset_splits.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith("error: ") and expected in line


def test_a_script_ends_with_one_line_after_a_flag_that_cannot_be(refusal):
    assert "--root-splits: expected a whole number of at least 1" in refusal("step_3/train.py", "--root-splits", 0)
    line = refusal("step_4/train.py", "--register", "many", "--repeats", 2)
    assert "--repeats: a model is registered by a run without it; expected no --register" in line


NAMES = ("", "../../x", "a:b", "a.b", "a b", "a\n", "\x1b[2J", "é", "x" * 251)


@pytest.mark.hostile(BEFORE)
@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        *(("--register", name, "up to 250 letters, digits, '_' and '-'") for name in NAMES),
        *((flag, "1" + 30 * "0", "a whole number from 1 to 1000000000") for flag in ("--n-trials", "--root-splits")),
        ("--seed", "1" + 30 * "0", "a whole number from 0 to 9223372036854775807"),
        ("--inner-splits", 5000 * "9", "a whole number of at least 1"),
    ],
)
def test_a_number_or_a_name_that_no_database_takes(capsys, flag, value, expected):
    with pytest.raises(SystemExit) as ended:
        train_parser("", 5).parse_args([flag, str(value)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert f"{flag}: expected {expected}" in line and len(line) < 300 and line.isprintable()


# ---- networks and settings


@pytest.fixture
def new_runs(project):
    """Returns the (run_level, status) of the runs since the test began."""
    before = runs(project)
    return lambda: {run for key, run in runs(project).items() if key not in before}


def test_weights_that_do_not_exist_are_refused_before_any_run(refusal, tiny_pets, tmp_path, new_runs):
    missing = tmp_path / "missing.pt"
    line = refusal("step_4/train.py", "--data", tiny_pets, *SMALL, *ONE_FIT, "--weights", missing)
    assert f"--weights {missing}: no such file; expected DEFAULT, none or the path of a state dict" in line
    assert not new_runs()


def test_a_config_file_with_an_unknown_field(tmp_path, refusal):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from common.config import TrainingConfig\n\nconfig = TrainingConfig(epoch=3)\n")
    line = refusal("step_5/train.py", wrong)
    assert f"{wrong}:3: TrainingConfig.epoch: expected a field" in line
    assert "did you mean `epochs`?" in line


def test_a_loss_that_is_not_finite(tmp_path, refusal, tiny_pets, new_runs):
    config = tmp_path / "steep.py"
    config.write_text(
        "from common.config import TrainingConfig\n\n"
        "config = TrainingConfig(warmup_epochs=0, epochs=2, batch_size=8, learning_rate=1e30)\n"
    )
    line = refusal(
        "step_5/train.py", config, "--data", tiny_pets, "--device", "cpu", "--inner-splits", 1, "--n-jobs", 1
    )
    assert "the loss is nan in seed 0 / root " in line
    assert "/ epoch 1, batch 1 (step 1), at learning rate 1e+30; expected a finite loss" in line
    found = new_runs()
    assert {(level, "FAILED") for level in ("root", "root_split", "trial", "fold", "phase")} <= found
    assert {status for level, status in found if level != "phase"} <= {"FAILED", "KILLED"}
