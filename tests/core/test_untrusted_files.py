"""Files from anywhere: images of other formats, pipes and devices, links in circles, odd names."""

import ast
import io
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_bad_input import DOWNLOAD, refusal  # noqa: F401
from test_cnn import Linear

from common.cli import UserError
from common.config.file import load_experiment
from common.data import find_images, load_images
from common.data.decoding import FORMATS, decode_image
from common.data.folding import Fold
from common.data.image_files import list_images
from common.data.splits import load_splits, save_splits, splits_file
from common.data.splitting import make_splits
from common.evaluation import predictions_table
from common.model.backbones import load_backbone
from common.params.idx import load_idx, read_idx
from common.production.ensemble import Ensemble, UnreadableImage
from common.production.predict import _files, _read
from common.seeds import Stream
from conftest import PROJECT, make_tiny_pets

PROGRAMS = pytest.mark.hostile("no program is started for an image")
ENDLESS = "what is no regular file is refused at once, and never waited for"
CIRCLES = "a folder is read once, whatever links lead to it"
NAMES = "no name breaks a line, a table or a terminal"


@pytest.fixture
def quickly():
    """Ends what waits for ever, so that it fails."""

    def fail(*_):
        raise AssertionError("waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---- formats


def eps():
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "EPS")
    return file.getvalue()


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program in the place of Ghostscript; returns the file that it makes when it is started."""
    started, folder = tmp_path / "started", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch '{started}'\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return started


@PROGRAMS
def test_postscript_under_the_name_of_a_photo_is_refused_in_training(tmp_path, refusal, ghostscript):  # noqa: F811
    root = make_tiny_pets(tmp_path / "mine", n_per_class=2)
    (root / "images" / "Bengal_1.jpg").write_bytes(eps())
    line = refusal(DOWNLOAD, "--data", root, PATH=os.environ["PATH"])
    assert f"images/Bengal_1.jpg: not a readable image (expected one of {', '.join(FORMATS)})" in line
    assert not ghostscript.exists()


@PROGRAMS
def test_postscript_is_refused_by_a_registered_model(ghostscript):
    network = Linear((3, 8, 8), 1)
    network.image_size = 8
    with pytest.raises(UnreadableImage, match=r"expected one of .*JPEG, .*TIFF"):
        Ensemble([network], [0.5], ["cat", "dog"]).predict(pd.DataFrame({"image": [eps()]}))
    assert not ghostscript.exists()


def test_files_named_as_postscript_are_left_out(tmp_path):
    root = make_tiny_pets(tmp_path / "mine", n_per_class=2)
    for name in ("a.eps", "b.ps"):
        (root / "images" / name).write_bytes(eps())
    table = find_images(str(root))
    assert len(table) == 4
    assert table.skipped == ("1 .eps", "1 .ps")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_that_is_taken_can_be_read(form):
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, form)
    assert decode_image(file.getvalue(), 16).shape == (3, 16, 16)


def test_every_place_that_opens_an_image_names_the_formats():
    opened = [
        (path, call)
        for folder in ("common", "step_*")
        for path in PROJECT.glob(f"{folder}/**/*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Image.open"
    ]
    assert opened
    assert [str(path) for path, call in opened if "formats" not in {key.arg for key in call.keywords}] == []


# ---- pipes and devices


def lines_of(tmp_path, kind, name):
    """Something at that place that never ends."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.hostile(ENDLESS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["images/Bengal_1.jpg", "groups.csv", "info.csv"])
def test_in_a_folder_of_images(tmp_path, quickly, monkeypatch, kind, name):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    root = make_tiny_pets(tmp_path / "mine", n_per_class=2)
    path = lines_of(root, kind, name)
    with pytest.raises(UserError, match="expected a regular file, found a FIFO, a socket or a device") as error:
        load_images(str(root), 32)
    assert str(path) in str(error.value)


@pytest.mark.hostile(ENDLESS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.npz", lambda path: load_images(str(path), 32)),
        ("a.py", load_experiment),
        ("a.pt", lambda path: load_backbone("small_cnn", str(path))),
        ("a.safetensors", lambda path: load_backbone("small_cnn", str(path))),
        ("a.jpg", lambda path: [_read(file) for file in _files([path])]),
        ("labels.gz", lambda path: read_idx(path, 1)),
        ("train-images-idx3-ubyte.gz", lambda path: load_idx(path.parent)),
    ],
)
def test_as_a_file_of_any_other_kind(tmp_path, quickly, kind, name, read):
    path = lines_of(tmp_path, kind, name)
    with pytest.raises(UserError, match=r"expected a regular file|a file; expected a folder"):
        read(path)


@pytest.mark.hostile(ENDLESS)
def test_as_a_splits_file(tmp_path, quickly, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    table = find_images(str(make_tiny_pets(tmp_path / "mine")))
    save_splits(make_splits(table, Stream(0), 3, 1, 3), splits_file(table))
    path = lines_of(splits_file(table).parent, "pipe", splits_file(table).name)
    with pytest.raises(UserError, match="expected a regular file") as error:
        load_splits(table)
    assert str(path) in str(error.value)


# ---- links


def classes(root):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, len(name), ord(name[0]))).save(root / name / f"{i}.png")
    return root


@pytest.mark.hostile(CIRCLES)
@pytest.mark.parametrize(
    "links",
    [
        {"cat/again": ".", "up": ".."},
        {"cat/far_up": "/"},
        {"cat/a": "../dog", "dog/b": "../cat"},
        {"a_first": "cat", "z_last": "dog"},
        {"cat/self": "self"},
    ],
    ids=str,
)
def test_links_within_or_above_the_folder_change_nothing(tmp_path, quickly, links):
    root = classes(tmp_path / "mine")
    before = find_images(str(root)).fingerprint
    for name, target in links.items():
        (root / name).symlink_to(target)
    assert find_images(str(root)).fingerprint == before
    assert list_images(root)[0] == sorted(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3))


@pytest.mark.hostile(CIRCLES)
def test_a_folder_elsewhere_that_two_links_lead_to_is_read_once(tmp_path, quickly):
    classes(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat" / "round").symlink_to("..")
    root = tmp_path / "mine"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).symlink_to(tmp_path / "elsewhere")
    assert list_images(root)[0] == sorted(f"a/{name}/{i}.png" for name in ("cat", "dog") for i in range(3))


# ---- names


@pytest.mark.hostile(NAMES, cases=4)
def test_names_with_line_breaks_and_codes_are_shown_escaped(tmp_path, refusal, run_script):  # noqa: F811
    root = os.fsencode(tmp_path) + b"/s\x1b[2Jet\xff"
    for name in (b"c\nat\x1b[31m", b"d\rog\xfe"):
        os.makedirs(root + b"/" + name)
        for i in range(2):
            with open(root + b"/" + name + b"/a\n\x1b]0;%d.png" % i, "wb") as file:
                Image.new("RGB", (8, 8), (i, name[0], 0)).save(file, "PNG")
    done = run_script(DOWNLOAD, "--data", os.fsdecode(root))
    assert (done.returncode, done.stderr) == (0, "")
    assert r"data s\x1b[2Jet\udcff: 4 images (2 c\nat\x1b[31m, 2 d\rog\udcfe)" in done.stdout
    assert "\x1b" not in done.stdout
    with open(root + b"/d\rog\xfe/a\n\x1b]0;0.png", "wb"):
        pass
    line = refusal(DOWNLOAD, "--data", os.fsdecode(root))
    assert r"/d\rog\udcfe/a\n\x1b]0;0.png: not a readable image" in line
    assert r"\x1b" in refusal("step_2/train.py", "--no\nsuch\x1b[31m")


@pytest.mark.hostile(NAMES)
def test_a_table_of_predictions_with_such_names_reads_back_as_it_was(tmp_path):
    root = tmp_path / "mine"
    for name in ("c\rat", 'd\n,"og\x1b'):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, ord(name[0]), 0)).save(root / name / f"\r\u2028{i}.png")
    table = find_images(str(root))
    table = replace(table, groups=np.array(["a\n\x1b[31m", "b,\u2028"] * 3))
    rows = np.arange(6)
    fold = Fold(0, 0, rows[:0], rows[:3], rows[3:])
    made = predictions_table(table, fold, np.full(3, 0.25), np.full(3, 0.75), 0.5)
    made.to_csv(tmp_path / "a.csv", index=False, lineterminator="\n")
    assert len((tmp_path / "a.csv").read_bytes().splitlines()) == 7
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), made)
    assert set(made["class"]) == {r"c\rat", 'd\\n,"og\\x1b'}
