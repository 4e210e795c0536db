"""The embedded data set and the shipped weights."""

import hashlib
import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.made import drawn
from common.data.made.drawn import CATS, DOGS, make_drawn_pets

DIGEST = "3afdc3fad68d33a0cb7caac9358ee8e4ef495d54d2e3ff5c3aaad44d0b1656a6"


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "pets"
    make_drawn_pets(folder, n_images=24)
    return folder


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "pets"
    make_drawn_pets(folder, size=32)
    return folder


def test_the_bytes_are_those_of_every_other_machine(small):
    assert digest(small) == DIGEST


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    make_drawn_pets(tmp_path / "again", n_images=24)
    make_drawn_pets(tmp_path / "other", n_images=24, seed=1)
    assert digest(tmp_path / "again") == digest(small) != digest(tmp_path / "other")


def test_a_larger_set_begins_with_the_smaller_one(small, tmp_path):
    make_drawn_pets(tmp_path / "larger", n_images=30)
    last = max(pd.read_csv(small / "groups.csv").group)
    for file, group in pd.read_csv(small / "groups.csv").itertuples(index=False):
        if group != last:
            assert (tmp_path / "larger" / file).read_bytes() == (small / file).read_bytes()


def test_every_file_agrees_with_the_lists(default):
    names = {p.stem for p in (default / "images").iterdir()}
    lines = [line.split() for line in (default / "annotations/list.txt").read_text().splitlines() if line[0] != "#"]
    groups = pd.read_csv(default / "groups.csv")
    assert len(names) == 600
    assert {line[0] for line in lines} == names
    assert {f"images/{name}.jpg" for name in names} == set(groups.files)
    for name, class_id, species, breed_id in lines:
        breed = name.rsplit("_", 1)[0]
        assert (species == "1") == breed[0].isupper()
        assert (CATS, DOGS)[int(species) - 1][int(breed_id) - 1].name == breed
        assert 1 <= int(class_id) <= 37
    assert len({line[1] for line in lines}) == 37


def test_an_animal_is_of_one_breed_and_each_class_has_enough_animals(default):
    groups = pd.read_csv(default / "groups.csv")
    breeds = groups.files.str.extract(r"images/(\w+)_\d+\.jpg")[0]
    assert (breeds.groupby(groups.group).nunique() == 1).all()
    assert groups.groupby("group").size().iloc[:-1].between(3, 5).all()
    cats = breeds.groupby(groups.group).first().str[0].str.isupper()
    assert min(cats.sum(), (~cats).sum()) >= 40
    assert breeds.nunique() == 37


def test_colour_and_brightness_alone_do_not_tell_cats_from_dogs(default):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    groups = pd.read_csv(default / "groups.csv")
    pixels = np.stack([np.asarray(Image.open(default / file), float) for file in groups.files])
    features = np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], axis=1)
    dogs = groups.files.str[7].str.islower()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(
        model, features, dogs, groups=groups.group, cv=GroupKFold(10), method="predict_proba"
    )[:, 1]  # fmt: skip
    assert 0.3 < roc_auc_score(dogs, scores) < 0.7


def test_after_an_interruption_nothing_is_left(tmp_path, monkeypatch):
    photo, calls = drawn.photo, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return photo(*args)

    monkeypatch.setattr(drawn, "photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_drawn_pets(tmp_path / "pets", n_images=10, size=16)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_does_no_harm(tmp_path):
    folder = tmp_path / "pets"
    making = multiprocessing.get_context("spawn").Process(target=make_drawn_pets, args=(folder, 5000, 16))
    making.start()
    while not list(tmp_path.glob(".pets*/images/*.jpg")):
        time.sleep(0.01)
    os.kill(making.pid, signal.SIGKILL)
    making.join()
    assert not folder.exists()
    make_drawn_pets(folder, n_images=10, size=16)
    assert len(list((folder / "images").iterdir())) == 10


def test_photos_are_never_written_over_what_is_there(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OSError):
        make_drawn_pets(tmp_path, n_images=2, size=16)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_shipped_weights_fit_the_network_and_are_small():
    import torch
    from safetensors.torch import load_file

    from common.model.small_cnn import WEIGHTS, SmallCNN

    network = SmallCNN()
    network.load_state_dict(load_file(WEIGHTS), strict=True)
    assert WEIGHTS.stat().st_size <= 1_000_000
    for shape in ((16, 16), (64, 97)):
        features = network.eval()(torch.zeros(2, 3, *shape))
        assert features.shape == (2, network.out_features)
        assert features.isfinite().all()


def test_pretraining_is_the_same_twice(tmp_path):
    from common.model import pretrain

    for name in "ab":
        pretrain.main(["--images", "120", "--epochs", "1", "--output", str(tmp_path / name)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}
