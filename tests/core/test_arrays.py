"""Arrays as data: the same table, fingerprint, splits and caches as images have."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from test_cnn import Linear

from common.cli import UserError
from common.config import TrainingConfig
from common.data import load_images
from common.data.folding import Fold, random_fold
from common.seeds import Stream
from common.training import fit_on, new_model, set_up


class TwoLogits(Linear):
    """One logit for two classes."""

    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, 1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path


def write(path, **changes):
    rng = np.random.default_rng(0)
    parts = {"X": rng.normal(size=(40, 3, 8)), "y": np.arange(40) % 2, "groups": np.arange(40) // 4}
    np.savez(path, **{name: value for name, value in (parts | changes).items() if value is not None})
    return parts | changes


def test_an_npz_file_is_a_table_with_its_arrays_labels_and_groups(home, capsys):
    parts = write(home / "eeg.npz")
    table = load_images(str(home / "eeg.npz"), 64)
    assert np.array_equal(table.pixels, parts["X"].astype("float32"))
    assert (table.labels.tolist(), table.classes) == (parts["y"].tolist(), ("0", "1"))
    assert len(set(table.groups)) == 10
    assert "40 arrays of (3, 8) in 10 groups (20 0, 20 1)" in capsys.readouterr().out
    again = load_images(str(home / "eeg.npz"), 32, cached=False)
    assert again.fingerprint == table.fingerprint
    write(home / "eeg.npz", y=(np.arange(40) + 1) % 2)
    assert load_images(str(home / "eeg.npz"), 64).fingerprint != table.fingerprint


def test_samples_that_are_copies_stay_together_and_text_labels_are_sorted(home):
    x = np.random.default_rng(0).normal(size=(20, 4))
    x[1::2] = x[::2]
    write(home / "a.npz", X=x, y=np.repeat(["rest", "move"] * 5, 2), groups=None)
    table = load_images(str(home / "a.npz"), 64)
    assert table.classes == ("move", "rest") and table.groups is None
    fold = random_fold(table, Stream(0))
    assert all(set(rows // 2 * 2) | set(rows // 2 * 2 + 1) == set(rows) for rows in (fold.train, fold.dev, fold.test))
    write(home / "a.npz", X=x, y=np.array(["rest", "move"] * 10), groups=None)
    with pytest.raises(
        UserError, match=r"a.npz: 00 \(rest\) and 01 \(move\) are copies of each other; 9 more such pairs"
    ):
        random_fold(load_images(str(home / "a.npz"), 64), Stream(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "expected the arrays X and y, found no X"),
        ({"y": np.arange(3)}, r"y: expected 40 values as X has, found shape \(3,\)"),
        ({"y": np.linspace(0, 1, 40)}, "y: expected whole numbers or text, found float64"),
        ({"X": np.full((40, 2), np.nan)}, "X: expected finite numbers, found nan or infinity in sample 0"),
        ({"classes": np.array(["left"])}, "classes: expected a name of its own for each number in y, found left"),
        ({"X": np.array(["a"] * 40)}, "X: expected real numbers of shape"),
        ({"y": np.zeros(40, int)}, "expected samples of two or more classes, found 1"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(changes, message, home):
    write(home / "eeg.npz", **changes)
    with pytest.raises(UserError, match=message) as error:
        load_images(str(home / "eeg.npz"), 64)
    assert "\n" not in str(error.value) and "eeg.npz" in str(error.value)


def test_settings_for_images_are_refused(home):
    write(home / "eeg.npz")
    table, compute = load_images(str(home / "eeg.npz"), 64), set_up("cpu", "fp32")
    with pytest.raises(UserError, match="model: expected a network that takes arrays"):
        new_model(TrainingConfig(), table, compute, Stream(0))
    with pytest.raises(UserError, match="augmentation: expected None"):
        new_model(replace(TrainingConfig(), model=Linear), table, compute, Stream(0))


def test_folds_of_arrays_train(home):
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    write(home / "eeg.npz", X=rng.normal(size=(60, 2, 5)) + y[:, None, None], y=y, groups=None)
    table = load_images(str(home / "eeg.npz"), 64)
    config = TrainingConfig(model=TwoLogits, augmentation=None, epochs=10, learning_rate=1e-2)
    fold = Fold(0, 0, *np.split(np.random.default_rng(0).permutation(60), [30, 45]))
    _, score = fit_on(table, fold, set_up("cpu", "fp32"), Stream(0))(config, lambda *_: None)
    assert score > 0.9


# ---- damaged and malicious files

ARRAYS = "an .npz file gives a table or one line, without memory for what it only promises"


def npz(path, compression=zipfile.ZIP_DEFLATED):
    rng = np.random.default_rng(0)
    save = np.savez_compressed if compression else np.savez
    save(path, X=rng.normal(size=(40, 3, 8)), y=np.arange(40) % 2, groups=np.arange(40) // 4)
    return bytearray(path.read_bytes())


def header_of(shape, dtype="<f8", fortran=False):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    return file.getvalue()


def archive(path, x, size=None):
    """An .npz file whose member X.npy has these bytes, perhaps with another size in the archive's directory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("X.npy", x)
        y = io.BytesIO()
        np.save(y, np.arange(40) % 2)
        file.writestr("y.npy", y.getvalue())
        if size:
            file.getinfo("X.npy").file_size = size


def everywhere(content, local, central, value):
    """The bytes with a field of two bytes of each member set, where the archive has it twice."""
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            struct.pack_into("<H", content, start + offset, value)
    return content


def broken_stream(path):
    content = npz(path)
    start = content.find(b"X.npy") + 60
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)


PROMISES_15_TB = header_of((2 * 10**12,)) + bytes(99)
DAMAGED = {
    "broken stream": (broken_stream, "X.npy: "),
    "encrypted": (lambda path: path.write_bytes(everywhere(npz(path), 6, 8, 1)), "X.npy: .* is encrypted"),
    "header of 15 TB": (lambda path: archive(path, PROMISES_15_TB), "promises 16000000000000 bytes, found 99"),
    "header and directory of 15 TB": (lambda path: archive(path, PROMISES_15_TB, 16 * 10**12 + 128), "X.npy: "),
    "more than promised": (lambda path: archive(path, header_of((40, 2)) + bytes(10**6)), "640 bytes, found more"),
    "negative shape": (lambda path: archive(path, header_of((-40, -2)) + bytes(640)), "X.npy: "),
    "pickle": (lambda path: archive(path, pickle.dumps(np.zeros((40, 2)))), "X.npy: .*magic"),
    "pickled objects": (lambda path: archive(path, header_of((40, 2), "|O") + pickle.dumps([0])), "Python objects"),
    "deep header": (lambda path: archive(path, b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9000), "X.npy: "),
    "a lone .npy": (lambda path: path.write_bytes(header_of((40, 2)) + bytes(640)), "not a zip file"),
}


@pytest.mark.hostile(ARRAYS)
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_or_malicious_file_of_arrays_is_refused_with_the_array_and_the_reason(home, case):
    damage, expected = DAMAGED[case]
    damage(home / "a.npz")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"a\.npz: expected an \.npz file .*{expected}") as error:
            load_images(str(home / "a.npz"), 64)
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)


@pytest.mark.hostile(ARRAYS, cases=100)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_file_of_arrays_with_any_bytes_changed_gives_a_table_or_one_line(home, capsys, compression):
    whole, rng, ended = npz(home / "a.npz", compression), np.random.default_rng(0), set()
    headers = [i for i in range(len(whole)) if whole[i : i + 2] in (b"PK", b"\x93N")]
    for _ in range(100):
        content = whole.copy()
        for _ in range(rng.integers(1, 4)):
            near = rng.choice(headers) + rng.integers(0, 130) if rng.random() < 0.6 else rng.integers(len(whole))
            place = slice(int(near), int(near) + int(rng.choice([0, 1, 1, 1, 8, 200])))
            content[place] = rng.integers(0, 256, rng.choice([1, 1, 1, 8, 0]), np.uint8).tobytes()
        (home / "a.npz").write_bytes(content)
        try:
            ended.add(len(load_images(str(home / "a.npz"), 64, cached=False)))
        except UserError as error:
            assert str(home / "a.npz") in str(error)
            ended.add("one line")
    assert ended == {40, "one line"}


@pytest.mark.hostile(ARRAYS)
def test_a_number_too_large_for_float32_is_refused_with_its_sample(home, recwarn):
    x = np.zeros((40, 3))
    x[[7, 9], 2] = -1e300, 1e39
    np.savez(home / "a.npz", X=x, y=np.arange(40) % 2)
    with pytest.raises(UserError, match="too large for float32, in sample 7"):
        load_images(str(home / "a.npz"), 64)
    assert not recwarn.list
