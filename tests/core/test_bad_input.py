"""Bad input: the real scripts answer with one line that names it and end with code 2, and nothing half-made is left."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError, train_parser, with_defaults
from common.model.backbones import load_backbone
from conftest import make_tiny_pets

DOWNLOAD = "step_1/download_data.py"
SPLIT = "step_3/make_dataset_splits.py"
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


def draw(root, *names):
    for name in names:
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (20, 20, 3), np.uint8)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)


# ---- data

FOLDERS = {
    "nothing there": ([], {}, "no images found; expected images/Breed_1.jpg, a folder per class, or info.csv"),
    "no image": ([], {"a/notes.txt": "none"}, "no images found"),
    "one class": (["cat/1.jpg", "cat/2.jpg"], {}, "expected images of two or more classes, found 1: cat (2)"),
    "no breed": (
        ["images/Manx_1.jpg", "images/photo.jpg"],
        {},
        "images/photo.jpg: no label in the file name; expected",
    ),
    "no type": (
        ["1.png", "2.png"],
        {"info.csv": "files,type\n1.png,cat\n2.png,\n"},
        "info.csv, line 3: expected a value for files and for type",
    ),
    "file missing": (
        ["1.png"],
        {"info.csv": "files,type\n1.png,cat\n2.png,dog\n"},
        "info.csv: 2.png is listed but not there",
    ),
    "other columns": (
        ["1.png"],
        {"info.csv": "file;label\n1.png;cat\n"},
        "info.csv: expected the columns files,type, found file;label",
    ),
    "no UTF-8": (["1.png"], {"info.csv": b"files,type\n1.png,\xff\n"}, "info.csv: not a CSV file in UTF-8"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_data_set_of_two_classes(tmp_path, refusal, case):
    names, texts, expected = FOLDERS[case]
    root = tmp_path / "mine"
    root.mkdir()
    draw(root, *names)
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert f"error: {root}" in (line := refusal(DOWNLOAD, "--data", root))
    assert expected in line


def test_a_path_that_is_no_folder(tmp_path, refusal):
    (tmp_path / "a_file").touch()
    assert f"--data {tmp_path}/a_file: a file; expected a folder" in refusal(DOWNLOAD, "--data", tmp_path / "a_file")
    assert f"--data {tmp_path}/nowhere: no such folder" in refusal(DOWNLOAD, "--data", tmp_path / "nowhere")


def test_fewer_images_of_a_class_than_folds(tmp_path, refusal, project):
    make_tiny_pets(tmp_path / "few_pets", n_per_class=6)
    line = refusal(SPLIT, "--data", tmp_path / "few_pets", "--nested-folds", 2)
    assert f"{tmp_path}/few_pets: 6 images of class cat; expected at least 10" in line
    assert "--root-folds" in line
    assert not (project / "data" / "few_pets").exists()


def test_unreadable_images_are_named_and_can_be_skipped(tmp_path, refusal, run_script):
    root = make_tiny_pets(tmp_path / "damaged_pets", n_per_class=2)
    whole = (root / "images" / "beagle_1.jpg").read_bytes()
    for name, content in {"beagle_1.jpg": whole[: len(whole) // 2], "beagle_3.jpg": b""}.items():
        (root / "images" / name).write_bytes(content)
    line = refusal(DOWNLOAD, "--data", root)
    assert f"error: {root}/images/beagle_1.jpg: not a readable image" in line
    assert "1 more like it; --skip-unreadable" in line
    done = run_script(DOWNLOAD, "--data", root, "--skip-unreadable")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 images (2 cat, 1 dog)" in done.stdout
    for name in ("beagle_1.jpg", "beagle_3.jpg"):
        assert f"left out: images/{name}: not a readable image" in done.stdout


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
    for locked, data, expected in (
        (root / "images" / "Bengal_1.jpg", root, "Permission denied"),
        (root / "images", root, "cannot be read (Permission denied)"),
        (root, root / "images", "cannot be read (Permission denied)"),
    ):
        mode = locked.stat().st_mode
        locked.chmod(0o000)
        line = refusal(DOWNLOAD, "--data", data, prefix=bound_by_permissions)
        locked.chmod(mode)
        assert str(root) in line
        assert expected in line


def test_splits_of_other_data_or_fewer_than_asked_for(tmp_path, refusal, run_script, project):
    root = make_tiny_pets(tmp_path / "pets_with_splits")
    assert run_script(SPLIT, "--data", root, "--root-folds", 3, "--nested-folds", 3).returncode == 0
    file = project / "data" / "pets_with_splits" / "dataset_splits.json"
    splits = file.read_bytes()
    line = refusal("step_3/train.py", "--data", root, "--root-splits", 4)
    assert "--root-splits" in line
    assert "at most 3" in line
    draw(root, "images/Bengal_1.jpg")
    line = refusal("step_4/train.py", "--data", root)
    assert f"{file}: made for other data than {root}: 1 changed (images/Bengal_1.jpg)" in line
    assert file.read_bytes() == splits
    other = ("--data", root, "--root-folds", 3, "--nested-folds", 2)
    assert run_script(SPLIT, *other).returncode == 0
    (kept,) = file.parent.glob("dataset_splits-*.json")
    assert kept.read_bytes() == splits and file.read_bytes() != splits
    assert f"{file}: holds other splits already; --force" in refusal(SPLIT, *other[:-1], 3)


# ---- flags


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("step_1/train.py", ["--image-size", 8], "--image-size: expected a whole number from 16 to 1024, found"),
        ("step_1/train.py", ["--image-size", "big"], "--image-size: expected a whole number from 16 to 1024, found"),
        ("step_2/train.py", ["--seed", -1], "--seed: expected a whole number from 0 to 9223372036854775807, found"),
        ("step_3/train.py", ["--root-splits", 0], "--root-splits: expected a whole number of at least 1, found '0'"),
        ("step_4/train.py", ["--n-trails", 3], "unrecognized arguments: --n-trails 3"),
        ("step_5/train.py", ["--device", "gpu"], "--device: invalid choice: 'gpu'"),
        (SPLIT, ["--root-folds", 1], "--root-folds: expected a whole number of at least 2, found '1'"),
        (SPLIT, ["--nested-folds", 10**30], "--nested-folds: expected a whole number from 2 to 1000000000, found"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be(refusal, script, arguments, expected):
    assert expected in refusal(script, *arguments)


NAMES = ("", " ", ".", "../../x", "/x", "a/b", "a:b", "a.b", "a b", "a\n", "\x1b[2J", "é", "x" * 251)


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
    with pytest.raises(SystemExit):
        with_defaults(train_parser("", 5), [], {flag[2:].replace("-", "_"): value})


@pytest.mark.hostile(BEFORE)
@pytest.mark.parametrize("name", ["../../x", "good"])
def test_what_cannot_be_registered_is_refused_before_any_fit(tmp_path, refusal, new_runs, name):
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=(200, 8)), y=np.arange(200) % 2)
    config = tmp_path / "config.py"
    config.write_text(
        "from common.config import TrainingConfig\nfrom torch import nn\n\n"
        "config = TrainingConfig(model=nn.Linear(8, 1), augmentation=None)\n"
        f"data = {str(tmp_path / 'a.npz')!r}\nregister = {name!r}\n"
    )
    line = refusal("step_5/train.py", config, "--device", "cpu", *ONE_FIT)
    assert ("--register good: expected images" if name == "good" else "--register: expected up to 250 letters") in line
    assert not new_runs()


def test_a_device_that_is_not_there(refusal, tiny_pets):
    line = refusal("step_1/train.py", "--data", tiny_pets, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert "--device cuda: not available" in line


# ---- networks and settings


@pytest.fixture
def new_runs(project):
    """Returns the (run_level, status) of the runs since the test began."""
    before = runs(project)
    return lambda: {run for key, run in runs(project).items() if key not in before}


def test_a_backbone_that_does_not_exist(refusal, tiny_pets, new_runs):
    line = refusal("step_2/train.py", "--data", tiny_pets, *SMALL, "--backbone", "nonsense")
    assert "--backbone nonsense: no such model; expected small_cnn or one of torchvision's" in line
    assert not new_runs()


def test_weights_that_do_not_exist_or_are_damaged(refusal, tiny_pets, tmp_path, new_runs):
    missing, text = tmp_path / "missing.pt", tmp_path / "text.pt"
    text.write_text("a text")
    line = refusal("step_1/train.py", "--data", tiny_pets, *SMALL, "--weights", missing)
    assert f"--weights {missing}: no such file; expected DEFAULT, none or the path of a state dict" in line
    line = refusal("step_4/train.py", "--data", tiny_pets, *SMALL, *ONE_FIT, "--weights", text)
    assert f"--weights {text}: not a state dict" in line
    assert not new_runs()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a text", b"\x80\x02}q\x00"])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_any_bytes_that_are_no_weights_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        load_backbone("small_cnn", str(tmp_path / name))
    assert str(error.value).startswith(f"--weights {tmp_path / name}: not a state dict (")
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_fetched(refusal, tmp_path, tiny_pets):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    line = refusal("step_1/train.py", "--data", tiny_pets, *SMALL, "--backbone", "resnet18", **nowhere)
    assert "--backbone resnet18: its weights could not be fetched" in line
    assert f"into {tmp_path}/hub/checkpoints, or use --weights none" in line
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_config_file_that_is_missing_or_has_an_unknown_field(tmp_path, refusal):
    assert f"{tmp_path}/none.py: expected a Python file" in refusal("step_5/train.py", tmp_path / "none.py")
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
    line = refusal("step_5/train.py", config, "--data", tiny_pets, "--device", "cpu", "--inner-splits", 1)
    assert "the loss is nan in seed 0 / root " in line
    assert "/ epoch 1, batch 1 (step 1), at learning rate 1e+30; expected a finite loss" in line
    found = new_runs()
    assert {(level, "FAILED") for level in ("root", "root_split", "trial", "fold", "phase")} <= found
    assert {status for level, status in found if level != "phase"} <= {"FAILED", "KILLED"}
