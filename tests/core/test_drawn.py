"""The data sets that are made here, and the shipped weights."""

import hashlib
import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.made import drawn, phantoms
from common.data.made.drawn import CATS, DOGS, make_drawn_pets
from common.data.made.phantoms import make_phantoms

MADE = {
    "drawn": (make_drawn_pets, "n_images", 24, "3afdc3fad68d33a0cb7caac9358ee8e4ef495d54d2e3ff5c3aaad44d0b1656a6"),
    "phantoms": (make_phantoms, "n_patients", 6, "2047846f44924b5ff20105a93eb44d99588ee7628b1ca2b4d5a19cb52f9c8c01"),
}


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "pets"
    make_drawn_pets(folder, size=16)
    return folder


@pytest.mark.parametrize("name", MADE)
def test_the_bytes_are_those_of_every_other_machine_and_a_larger_set_begins_with_the_smaller_one(name, tmp_path):
    make, size, n, expected = MADE[name]
    make(tmp_path / "set", **{size: n})
    assert digest(tmp_path / "set") == expected
    for folder, number, seed in (("small", n, 0), ("other", n, 1), ("larger", n + 2, 0)):
        make(tmp_path / folder, **{size: number}, size=16, seed=seed)
    assert digest(tmp_path / "other") != digest(tmp_path / "small")
    groups = pd.read_csv(tmp_path / "small" / "groups.csv")
    whole = groups[groups.group != groups.group.max()]  # the last animal may have more photos in a larger set
    for file in whole.files:
        assert (tmp_path / "larger" / file).read_bytes() == (tmp_path / "small" / file).read_bytes()


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
    options = {"groups": groups.group, "cv": GroupKFold(10), "method": "predict_proba"}
    assert 0.3 < roc_auc_score(dogs, cross_val_predict(model, features, dogs, **options)[:, 1]) < 0.7


@pytest.mark.parametrize("module, draw, name", [(drawn, "photo", "drawn"), (phantoms, "draw_slice", "phantoms")])
def test_after_an_interruption_nothing_is_left(module, draw, name, tmp_path, monkeypatch):
    original, calls = getattr(module, draw), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, draw, interrupted)
    make, size, n, _ = MADE[name]
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "made", **{size: n}, size=16)
    assert len(calls) == 5 and list(tmp_path.iterdir()) == []


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
        pretrain.main(["--images", "80", "--epochs", "1", "--output", str(tmp_path / name)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}
