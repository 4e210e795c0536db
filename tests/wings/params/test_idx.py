"""idx files: read, refused, turned into folders, loaded at once, a stand-in; and any `info.csv`."""

import datetime
import gzip
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from common.cli import UserError
from common.data import sources
from common.data.images import decode
from common.params import idx
from common.params.idx import load_idx, make_folders, read_split, write_standin
from common.params.idx_files import FILES
from conftest import PROJECT

IMAGES, LABELS = FILES["train"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(home):
    write_standin(home / "digits", 30, 12)
    return home / "digits"


def pack(*shape, content=None, magic=None):
    content = bytes(np.prod(shape, dtype=int)) if content is None else content
    return struct.pack(f">{len(shape) + 1}I", magic or 0x800 + len(shape), *shape) + content


def write(folder, images, labels):
    folder.mkdir(exist_ok=True)
    (folder / IMAGES).write_bytes(gzip.compress(images, 1))
    (folder / LABELS).write_bytes(gzip.compress(labels, 1))


def test_values_are_read_as_they_were_written(home):
    pixels = np.arange(2 * 3 * 5, dtype=np.uint8)
    write(home / "x", pack(2, 3, 5, content=pixels.tobytes()), pack(2, content=bytes([9, 0])))
    images, labels = read_split(home / "x", "train", idx.CLASSES["digits"])
    assert (images == pixels.reshape(2, 3, 5)).all() and labels.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (
            b"",
            pack(2),
            f"{IMAGES}: expected an idx file of bytes in 3 dimensions, which begins with 00000803, found no",
        ),
        (
            pack(2),
            pack(2),
            f"{IMAGES}: expected an idx file of bytes in 3 dimensions, which begins with 00000803, found 0",
        ),
        (pack(2, 4, 4), pack(2, magic=0xD01), f"{LABELS}: expected an idx file of bytes in 1 dimensions"),
        (pack(2, 4, 4)[:9], pack(2), f"{IMAGES}: cut short in its header, after 9 bytes"),
        (pack(2, 4, 4)[:-1], pack(2), f"{IMAGES}: its header promises 2 x 4 x 4 bytes, found 31 bytes after it"),
        (pack(2, 4, 4) + b"x", pack(2), f"{IMAGES}: its header promises 2 x 4 x 4 bytes, found more after it"),
        (pack(2**32 - 1, 4096, 4096, content=b""), pack(2), f"{IMAGES}: its header promises 4294967295 x 4096 x 4096"),
        (pack(2, 4, 5000, content=b""), pack(2), f"{IMAGES}: its header says 2 x 4 x 5000, expected"),
        (pack(0, 4, 4), pack(2), f"{IMAGES}: its header says 0 x 4 x 4, expected at least one item"),
        (pack(2, 4, 4), pack(3), f"{LABELS}: 3 labels for the 2 images of {IMAGES}"),
        (pack(2, 4, 4), pack(2, content=b"\1\12"), f"{LABELS}: label 10 at 1, expected 0 to 9"),
    ],
)
def test_what_does_not_hold_together_is_refused_in_one_line(images, labels, problem, home):
    write(home / "x", images, labels)
    with pytest.raises(UserError) as error:
        make_folders(home / "x")
    assert problem in str(error.value) and "\n" not in str(error.value)
    assert {path.name for path in (home / "x").iterdir()} == {IMAGES, LABELS}


@pytest.mark.parametrize("name", [*FILES["train"], *FILES["test"]])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip", "missing", "a folder"])
def test_a_damaged_file_is_named_and_nothing_is_made(damage, name, folder):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "no gzip":
        path.write_bytes(b"<html>404 Not Found</html>")
    elif damage == "a folder":
        path.mkdir()
    before = set(folder.iterdir())
    with pytest.raises(UserError, match=name):
        make_folders(folder)
    assert set(folder.iterdir()) == before


def test_the_folders_hold_what_the_files_hold_and_load_idx_gives_the_same_table(folder, monkeypatch):
    classes = idx.CLASSES["fashion"]
    assert make_folders(folder, classes) == [folder / "train", folder / "test"]
    for split, count in [("train", 30), ("test", 12)]:
        images, labels = read_split(folder, split, classes)
        table = decode(sources._scan(split, folder / split), 28)
        assert len(table) == count and table.skipped == ()
        assert [table.classes[label] for label in table.labels] == [classes[label] for label in labels]
        assert (table.pixels == images[:, None]).all()
        at_once = load_idx(folder, split, 28, classes)
        assert (at_once.pixels == table.pixels).all() and at_once.files == table.files
        assert at_once.pixels.shape == table.pixels.shape and at_once.root == table.root
        assert [at_once.classes[label] for label in at_once.labels] == [classes[label] for label in labels]
    before = (folder / "train" / "info.csv").stat().st_mtime_ns
    assert make_folders(folder, classes) == []
    assert (folder / "train" / "info.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="train: other files are there already"):
        make_folders(folder)


def test_load_idx_decodes_once_and_again_when_the_files_change(folder, monkeypatch):
    reads = []
    read = idx.read_split
    monkeypatch.setattr(idx, "read_split", lambda *args: reads.append(args) or read(*args))
    first = load_idx(folder)
    assert (first.pixels.shape, first.pixels.dtype) == ((30, 1, 28, 28), np.uint8)
    assert load_idx(folder).fingerprint == first.fingerprint and len(reads) == 1
    assert load_idx(folder, image_size=16).pixels.shape == (30, 1, 16, 16)
    assert load_idx(folder, image_size=16).fingerprint == first.fingerprint and len(reads) == 2
    assert (load_idx(folder, cached=False).pixels == first.pixels).all() and len(reads) == 3
    os.remove(folder / IMAGES)
    os.remove(folder / LABELS)
    write_standin(folder.parent / "other", 30, 12, seed=1)
    for name in FILES["train"]:
        os.replace(folder.parent / "other" / name, folder / name)
    assert load_idx(folder).fingerprint != first.fingerprint and len(reads) == 4


def test_a_conversion_that_is_killed_leaves_no_half_made_folder_and_can_be_run_again(home):
    folder = home / "killed"
    write_standin(folder, 20_000, 10)
    command = [sys.executable, "-m", "common.params.idx", str(folder)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(folder.glob(".train-*/images/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "train").exists()
    write(folder, *(gzip.decompress((folder / name).read_bytes()) for name in FILES["test"]))  # 10 images are quicker
    again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [f"{folder / split}: made" for split in FILES]
    assert len(list(folder.glob("train/images/*.png"))) == 10
    assert not list(folder.glob(".train-*"))


def test_the_command_says_what_is_wrong_in_one_line(home):
    command = [sys.executable, "-m", "common.params.idx"]
    done = subprocess.run([*command, str(home / "none")], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {home / 'none' / LABELS}: No such file or directory\n"
    done = subprocess.run([*command, "x", "--classes", "a"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_the_stand_in_is_the_same_each_time_and_its_test_digits_are_not_in_its_training_set(home):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_standin(home / name, 2500, 500, seed)
    a, b, c = (read_split(home / name, "train", idx.CLASSES["digits"]) for name in "abc")
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all() and not (a[0] == c[0]).all()
    assert a[0].shape == (2500, 28, 28) and set(a[1]) == set(range(10)) and a[0].max() == 255
    test, _ = read_split(home / "a", "test", idx.CLASSES["digits"])
    assert len({image.tobytes() for image in a[0]}) > 2450
    assert not {image.tobytes() for image in a[0]} & {image.tobytes() for image in test}
    write_standin(home / "a", 2500, 500)  # again: as they are
    with pytest.raises(UserError, match="another file is there already"):
        write_standin(home / "a", 2500, 500, seed=1)


def test_a_stand_in_of_at_most_1797_images_is_the_digits_as_they_are(home):
    from sklearn.datasets import load_digits

    write_standin(home / "a", 1500, 297)
    splits = [read_split(home / "a", split, idx.CLASSES["digits"]) for split in FILES]
    labels = np.concatenate([labels for _, labels in splits])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


# ---- any content


def fuzz(cases, **strategies):
    """Run a test on many random cases: the same ones each time where there are few, else new ones."""
    return lambda test: settings(
        max_examples=cases,
        deadline=datetime.timedelta(seconds=20),
        derandomize=cases <= 200,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(**strategies)(test))()


CASES = pytest.mark.parametrize("cases", [200, pytest.param(2000, marks=pytest.mark.slow)])
SIZES = st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1))
MAGIC = st.one_of(st.sampled_from([0x801, 0x803, 0xD03]), st.integers(0, 2**32 - 1))


@st.composite
def gzipped(draw, n_dimensions):
    """A sound idx file, or one that is not quite."""
    shape = draw(st.lists(st.integers(1, 4), min_size=n_dimensions, max_size=n_dimensions))
    content = draw(st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(bytearray))
    magic = 0x800 + n_dimensions
    how = draw(st.sampled_from(["sound", "shape", "magic", "content", "bytes", "rubbish", "packed", "gzip"]))
    if how == "shape":
        shape = draw(st.lists(SIZES, min_size=0, max_size=4))
    elif how == "magic":
        magic = draw(MAGIC)
    elif how == "content":
        content = draw(st.binary(max_size=100))
    raw = pack(*shape, content=bytes(content), magic=magic)
    if how == "bytes":
        raw = draw(st.binary(max_size=100))
    elif how == "rubbish":
        return draw(st.binary(max_size=100))
    packed = gzip.compress(raw, mtime=0)
    if how == "gzip":
        packed = packed[: draw(st.integers(0, len(packed)))] + draw(st.binary(max_size=20))
    elif how == "packed":
        at = draw(st.integers(0, len(packed) - 1))
        packed = packed[:at] + draw(st.binary(min_size=1, max_size=1)) + packed[at + 1 :]
    return packed


@CASES
def test_any_idx_files_are_a_set_of_images_or_a_clear_error(cases, home):
    outcomes = {"sets": 0, "errors": 0}

    def check(images, labels):
        (home / IMAGES).write_bytes(images)
        (home / LABELS).write_bytes(labels)
        try:
            found = read_split(home, "train", idx.CLASSES["digits"])
        except UserError as error:
            outcomes["errors"] += 1
            assert "ubyte.gz" in str(error) and "\n" not in str(error)
        else:
            outcomes["sets"] += 1
            assert found[0].ndim == 3 and len(found[0]) == len(found[1]) > 0 and found[1].max() < 10

    fuzz(cases, images=gzipped(3), labels=gzipped(1))(check)
    assert min(outcomes.values()) > 0, outcomes


NAMES = st.one_of(
    st.sampled_from(["a.png", "b.png", "c/d.png", "torn.png", "info.csv", "c", "", ".", "..", "./a.png", "a.png\0"]),
    st.text(max_size=12),
    st.text("x/", min_size=250, max_size=300),
)
CELLS = st.one_of(st.sampled_from(["cat", "dog", "7", "files", "type"]), NAMES)


@st.composite
def tables(draw):
    """A sound table with up to three changes, in one of the dialects that people write, or bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    rows = [["files", "type"], ["a.png", "cat"], ["b.png", "dog"], ["c/d.png", "dog"]]
    for row in draw(st.lists(st.sampled_from(rows), max_size=3)):
        change = draw(st.sampled_from(["cell", "cell", "more", "less", "shuffle"]))
        if change == "cell" and row:
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
        elif change == "more":
            row.append(draw(CELLS))
        elif change == "less":
            del row[-1:]
        else:
            rows = draw(st.permutations(rows))
    between, end, quote, encoding, tail = ",", "\n", "", "utf-8", b""
    if draw(st.integers(0, 3)) == 0:
        between, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\r\n", "\r", "\n\n"]))
        quote, encoding = draw(st.sampled_from("\"'")), draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
        tail = draw(st.sampled_from([b"", b'"', b"\0", b"\xff"]))
    return end.join(between.join(f"{quote}{cell}{quote}" for cell in row) for row in rows).encode(encoding) + tail


@CASES
def test_any_info_csv_is_a_set_of_images_or_a_clear_error(cases, home):
    root = home / "mine"
    (root / "c").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.png", "c/d.png"]):
        Image.fromarray(np.full((9, 9), 60 * number, np.uint8)).save(root / name)
    (root / "torn.png").write_bytes((root / "a.png").read_bytes()[:40])
    outcomes = {"sets": 0, "errors": 0}

    def check(content, skip):
        (root / "info.csv").write_bytes(content)
        try:
            table = sources.load_images(str(root), 8, skip_unreadable=skip, cached=False)
        except UserError as error:
            outcomes["errors"] += 1
            assert str(root) in str(error) and len(str(error).splitlines()) == 1
        else:
            outcomes["sets"] += 1
            assert table.pixels.shape == (len(table), 1, 8, 8) and len(set(table.labels)) >= 2

    fuzz(cases, content=tables(), skip=st.booleans())(check)
    assert min(outcomes.values()) > 0, outcomes
