"""The embedded medical data set."""

import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common import cli, data
from common.data.made import phantoms
from common.data.made.phantoms import grey_png, make_phantoms

DIGEST = "2047846f44924b5ff20105a93eb44d99588ee7628b1ca2b4d5a19cb52f9c8c01"


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "heads"
    make_phantoms(folder, n_patients=6)
    return folder


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The table of `--data phantoms` at 64 pixels, made on first use."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(home))
        return data.load_images("phantoms", 64)


def test_the_bytes_are_those_of_every_other_machine(small):
    assert digest(small) == DIGEST


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    make_phantoms(tmp_path / "again", n_patients=6)
    make_phantoms(tmp_path / "other", n_patients=6, seed=1)
    assert digest(tmp_path / "again") == digest(small) != digest(tmp_path / "other")


def test_a_larger_set_has_the_patients_of_the_smaller_one(small, tmp_path):
    make_phantoms(tmp_path / "larger", n_patients=8)
    for file in pd.read_csv(small / "groups.csv").files:
        assert (tmp_path / "larger" / file).read_bytes() == (small / file).read_bytes()


def test_the_source_has_half_of_each_class_and_lesion_is_positive(default):
    assert default.name == "phantoms"
    assert len(default) == len(set(default.digests)) == 600
    assert default.classes == ("healthy", "lesion")
    assert np.bincount(default.labels).tolist() == [300, 300]
    for file, label, group in zip(default.files, default.labels, default.groups, strict=True):
        folder, name = file.split("/")
        assert folder == default.classes[label]
        assert name.startswith(f"{group}_") and name.endswith(".png")
    groups = pd.DataFrame({"group": default.groups, "label": default.labels}).groupby("group").label
    assert set(groups.size()) == {4} and set(groups.nunique()) == {1}


def test_slices_of_a_patient_are_alike_but_not_equal(default):
    middle = default.pixels[:, 0, 12:52, 16:48].reshape(len(default), -1).astype(float)  # inside the skull
    alike = np.corrcoef(middle)
    same = default.groups[:, None] == default.groups
    np.fill_diagonal(alike, np.nan)
    assert np.nanmax(alike) < 0.99
    assert np.nanmean(alike[same]) > np.nanmean(alike[~same]) + 0.15


def test_brightness_and_contrast_alone_do_not_tell_a_lesion(default):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels = default.pixels[:, 0].reshape(len(default), -1)
    histogram = np.stack([np.bincount(image // 16, minlength=16) for image in pixels])
    statistics = np.stack([pixels.mean(1), pixels.std(1), pixels.max(1), np.median(pixels, 1)], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    for features in (statistics, histogram):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        scores = cross_val_score(model, features, default.labels, groups=default.groups, cv=folds, scoring="roc_auc")
        assert 0.3 < scores.mean() < 0.7


def test_a_stored_png_has_the_pixels_that_went_in():
    for shape in ((1, 1), (128, 128), (300, 701)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        with Image.open(io.BytesIO(grey_png(pixels))) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            assert (np.asarray(image) == pixels).all()


def test_after_an_interruption_nothing_is_left(tmp_path, monkeypatch):
    draw, calls = phantoms.draw_slice, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(phantoms, "draw_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(tmp_path / "heads", n_patients=4, size=16)
    assert len(calls) == 5 and list(tmp_path.iterdir()) == []


def test_the_name_stays_a_name_in_the_recorded_command():
    args = cli.train_parser(None, 2).parse_args(["--data", "phantoms"])
    assert cli.command_of(2, args)[1:3] == ["--data", "phantoms"]
