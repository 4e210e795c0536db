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


SOUND = "expected an idx file of bytes in"


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (b"", pack(2), f"{IMAGES}: {SOUND} 3 dimensions, which begins with 00000803, found no"),
        (pack(2, 4, 4), pack(2, magic=0xD01), f"{LABELS}: {SOUND} 1 dimensions"),
        (pack(2, 4, 4)[:9], pack(2), f"{IMAGES}: cut short in its header, after 9 bytes"),
        (pack(2, 4, 4)[:-1], pack(2), f"{IMAGES}: its header promises 2 x 4 x 4 bytes, found 31 bytes after it"),
        (pack(2, 4, 4) + b"x", pack(2), f"{IMAGES}: its header promises 2 x 4 x 4 bytes, found more after it"),
        (pack(2**32 - 1, 4096, 4096, content=b""), pack(2), f"{IMAGES}: its header promises 4294967295 x 4096 x 4096"),
        (pack(0, 4, 5000, content=b""), pack(2), f"{IMAGES}: its header says 0 x 4 x 5000, expected at least one item"),
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


@pytest.mark.parametrize("name", [IMAGES, FILES["test"][1]])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip", "missing", "a folder"])
def test_a_damaged_file_is_named_and_nothing_is_made(damage, name, folder):
    path = folder / name
    content = path.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    damaged = {"truncated": content[: len(content) // 2], "flipped": flipped, "no gzip": b"<html>404 Not Found</html>"}
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    elif damage == "a folder":
        path.mkdir()
    before = set(folder.iterdir())
    with pytest.raises(UserError, match=name):
        make_folders(folder)
    assert set(folder.iterdir()) == before


def test_the_folders_hold_what_the_files_hold_and_load_idx_gives_the_same_table(folder):
    classes = idx.CLASSES["fashion"]
    assert make_folders(folder, classes) == [folder / "train", folder / "test"]
    for split, count in [("train", 30), ("test", 12)]:
        images, labels = read_split(folder, split, classes)
        table, at_once = decode(sources._scan(split, folder / split), 28), load_idx(folder, split, 28, classes)
        assert len(table) == count and table.skipped == ()
        assert at_once.pixels.shape == table.pixels.shape and (table.pixels == images[:, None]).all()
        assert (at_once.pixels == table.pixels).all() and (at_once.files, at_once.root) == (table.files, table.root)
        for found in (table, at_once):
            assert [found.classes[label] for label in found.labels] == [classes[label] for label in labels]
    before = (folder / "train" / "info.csv").stat().st_mtime_ns
    assert make_folders(folder, classes) == []
    assert (folder / "train" / "info.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="train: other files are there already"):
        make_folders(folder)


def test_the_files_of_the_test_set_may_begin_with_test_and_one_name_of_each_counts(folder):
    first = load_idx(folder, "test")
    for name in FILES["test"]:
        (folder / name).rename(folder / name.replace("t10k-", "test-"))
    assert load_idx(folder, "test").fingerprint == first.fingerprint
    assert make_folders(folder) == [folder / "train", folder / "test"]
    (folder / FILES["test"][1]).write_bytes(b"")
    for read in (lambda: load_idx(folder, "test"), lambda: make_folders(folder)):
        with pytest.raises(UserError, match=r"expected either t10k-labels-.* or test-labels-.*, found both"):
            read()


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
    write_standin(folder.parent / "other", 30, 12, seed=1)
    for name in FILES["train"]:
        os.replace(folder.parent / "other" / name, folder / name)
    assert load_idx(folder).fingerprint != first.fingerprint and len(reads) == 4


def test_a_conversion_that_is_killed_leaves_no_half_made_folder_and_can_be_run_again(home):
    folder = home / "killed"
    write_standin(folder, 5000, 10)
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


def test_the_command_says_what_is_wrong_in_one_line(home, capsys):
    with pytest.raises(UserError, match=f"^{home / 'none' / LABELS}: No such file or directory$"):
        idx.main([str(home / "none")])
    with pytest.raises(SystemExit, match="2"):
        idx.main(["x", "--classes", "a"])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_stand_in_is_the_same_each_time_and_its_test_digits_are_not_in_its_training_set(home):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_standin(home / name, 1800, 200, seed)
    a, b, c = (read_split(home / name, "train", idx.CLASSES["digits"]) for name in "abc")
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all() and not (a[0] == c[0]).all()
    assert a[0].shape == (1800, 28, 28) and set(a[1]) == set(range(10)) and a[0].max() == 255
    test, _ = read_split(home / "a", "test", idx.CLASSES["digits"])
    assert len({image.tobytes() for image in a[0]}) > 1760
    assert not {image.tobytes() for image in a[0]} & {image.tobytes() for image in test}
    write_standin(home / "a", 1800, 200)  # again: as they are
    with pytest.raises(UserError, match="another file is there already"):
        write_standin(home / "a", 1800, 200, seed=1)


def test_a_stand_in_of_at_most_1797_images_is_the_digits_as_they_are(home):
    from sklearn.datasets import load_digits

    write_standin(home / "a", 1500, 297)
    splits = [read_split(home / "a", split, idx.CLASSES["digits"]) for split in FILES]
    labels = np.concatenate([labels for _, labels in splits])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


# ---- any content


def fuzz(cases, **strategies):
    """Run a test on many random cases: the same ones each time where there are few, else new ones."""
    checks = {"deadline": datetime.timedelta(seconds=20), "suppress_health_check": list(HealthCheck)}
    how = settings(max_examples=cases, derandomize=cases <= 200, database=None, **checks)
    return lambda test: how(given(**strategies)(test))()


CASES = pytest.mark.parametrize("cases", [100, pytest.param(2000, marks=pytest.mark.slow)])
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\1",
    b"\3",
    b",",
    b'"',
    b"\n",
    b"..",
    b"c",
    b"a.png",
    b"torn.png",
    b"x" * 300,
    b"x/" * 150,
]


@st.composite
def damaged(draw, content):
    """The bytes with up to three other pieces in them."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 8)))
        content = content[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=9)) + content[end:]
    return content


@st.composite
def gzipped(draw, n_dimensions):
    """A sound idx file, or one that is not quite."""
    shape = draw(st.lists(st.integers(1, 4), min_size=n_dimensions, max_size=n_dimensions))
    raw, how = pack(*shape), draw(st.sampled_from(["sound", "raw", "packed"]))
    packed = gzip.compress(draw(damaged(raw)) if how == "raw" else raw, mtime=0)
    return draw(damaged(packed)) if how == "packed" else packed


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


@st.composite
def tables(draw):
    """A sound table, or one that is not quite, in one of the dialects that people write."""
    between, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n"]))
    quote, encoding = draw(st.sampled_from(["", '"'])), draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    rows = [["files", "type"], ["a.png", "cat"], ["b.png", "dog"], ["c/d.png", "dog"]]
    text = end.join(between.join(f"{quote}{cell}{quote}" for cell in row) for row in rows)
    return draw(damaged(text.encode(encoding)))


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
