"""The embedded medical data set."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common import cli, data
from common.data.made.phantoms import grey_png


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The table of `--data phantoms` at 64 pixels, made on first use."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(home))
        return data.load_images("phantoms", 64)


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


def test_the_name_stays_a_name_in_the_recorded_command():
    args = cli.train_parser(None, 2).parse_args(["--data", "phantoms"])
    assert cli.command_of(2, args)[1:3] == ["--data", "phantoms"]
