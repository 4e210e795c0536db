"""Arrays as data: the same table, fingerprint, splits and caches as images have."""

from dataclasses import replace

import numpy as np
import pytest
from test_cnn import Linear

import common.data.cache
from common.cli import UserError
from common.config import TrainingConfig
from common.data import load_images, make_splits
from common.data.splits import Fold
from common.seeds import Stream
from common.training import fit_on, new_model, set_up


class TwoLogits(Linear):
    """One logit for two classes."""

    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, 1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(common.data.cache, "CACHE", tmp_path / "cache")
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


def test_no_group_is_on_both_sides_of_a_split(home):
    write(home / "eeg.npz")
    table = load_images(str(home / "eeg.npz"), 64)
    for root in make_splits(table, Stream(0), 5, 1, 4)["root_splits"]:
        for inner in root["nested_splits"]:
            sides = [set(table.groups[rows]) for rows in (root["test_indices"], *inner.values())]
            assert sum(map(len, sides)) == 10 == len(set.union(*sides))


def test_samples_that_are_copies_stay_together_and_text_labels_are_sorted(home):
    x = np.random.default_rng(0).normal(size=(20, 4))
    x[1::2] = x[::2]
    write(home / "a.npz", X=x, y=np.array(["rest", "move"] * 10), groups=None)
    table = load_images(str(home / "a.npz"), 64)
    assert table.classes == ("move", "rest")
    assert all(table.groups[::2] == table.groups[1::2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "expected the arrays X and y, found no X"),
        ({"y": np.arange(3)}, r"y: expected 40 values as X has, found shape \(3,\)"),
        ({"y": np.linspace(0, 1, 40)}, "y: expected whole numbers or text, found float64"),
        ({"X": np.full((40, 2), np.nan)}, "X: expected finite numbers, found nan or infinity in sample 0"),
        ({"X": np.array(["a"] * 40)}, "X: expected real numbers of shape"),
        ({"X": np.array([None] * 40)}, "expected an .npz file with the arrays X, y and groups"),
        ({"y": np.zeros(40, int)}, "expected images of two or more classes, found 1"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(changes, message, home):
    write(home / "eeg.npz", **changes)
    with pytest.raises(UserError, match=message) as error:
        load_images(str(home / "eeg.npz"), 64)
    assert "\n" not in str(error.value) and "eeg.npz" in str(error.value)


def test_a_damaged_file_and_settings_for_images_are_refused(home):
    write(home / "eeg.npz")
    table, compute = load_images(str(home / "eeg.npz"), 64), set_up("cpu", "fp32")
    with pytest.raises(UserError, match="model: expected a network that takes arrays"):
        new_model(TrainingConfig(), table, compute, Stream(0))
    with pytest.raises(UserError, match="augmentation: expected None"):
        new_model(replace(TrainingConfig(), model=Linear), table, compute, Stream(0))
    (home / "eeg.npz").write_bytes((home / "eeg.npz").read_bytes()[:300])
    with pytest.raises(UserError, match=r"eeg\.npz: expected an \.npz file"):
        load_images(str(home / "eeg.npz"), 64)


def test_folds_of_arrays_train(home):
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    write(home / "eeg.npz", X=rng.normal(size=(60, 2, 5)) + y[:, None, None], y=y, groups=None)
    table = load_images(str(home / "eeg.npz"), 64)
    config = TrainingConfig(model=TwoLogits, augmentation=None, epochs=10, learning_rate=1e-2)
    fold = Fold(0, 0, *np.split(np.random.default_rng(0).permutation(60), [30, 45]))
    _, score = fit_on(table, fold, set_up("cpu", "fp32"), Stream(0))(config, lambda *_: None)
    assert score > 0.9
