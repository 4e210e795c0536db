"""Splits of data that grow and shrink: what was tested in a fold stays there, and what is new is dealt evenly."""

import csv
import json
import shutil
from collections import Counter
from itertools import product

import numpy as np
import pytest
from test_data import draw

from common import data
from common.cli import UserError
from common.data import load_images
from step_3 import make_dataset_splits

KINDS = ("cat", "dog")
FOLDS = ("--root-folds", "4", "--root-repeats", "2", "--nested-folds", "3", "--nested-repeats", "2", "--seed", "7")


class Clinic:
    """A folder of images, one to five of each patient, that patients come to and leave."""

    def __init__(self, home):
        self.root, self.group_of = home / "pets", {}
        self.splits = home / "state" / "data" / "pets"

    def add(self, *numbers, kinds=KINDS, start=0):
        new = {}
        for kind, number in product(kinds, numbers):
            for i in range(start, start + 1 + (number * 7 + len(kind)) % 5):
                new[f"{kind}/{number}_{i}.png"] = f"{kind} {number}"
        draw(self.root, *new)
        self.write(new)
        return new

    def copy(self, source, target, group):
        shutil.copy(self.root / source, self.root / target)
        self.write({target: group})

    def remove(self, *numbers):
        for file, group in list(self.group_of.items()):
            if int(group.split()[1]) in numbers:
                (self.root / file).unlink()
                del self.group_of[file]
        self.write({})

    def write(self, new):
        self.group_of |= new
        with open(self.root / "groups.csv", "w", newline="") as file:
            csv.writer(file).writerows([("files", "group"), *self.group_of.items()])

    def make(self, *flags):
        splits = make_dataset_splits.main(["--data", str(self.root), *flags])
        table = load_images(str(self.root), 64)
        assert data.load_splits(table) == splits
        return table, splits


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    return Clinic(tmp_path)


def places(table, splits):
    """Where each group is: its outer fold in each repeat, and its inner fold in each of these and each repeat."""
    found = {}
    for root, split in enumerate(splits["root_splits"]):
        for group in table.groups[split["test_indices"]]:
            found.setdefault((group, root // splits["root_folds"]), set()).add(root)
        for inner, nested in enumerate(split["nested_splits"]):
            for group in table.groups[nested["dev_indices"]]:
                found.setdefault((group, root, inner // splits["nested_folds"], "inner"), set()).add(inner)
    assert all(len(folds) == 1 for folds in found.values())
    return {place: next(iter(folds)) for place, folds in found.items()}


def unevenness(table, splits):
    """How much the folds of one level differ in their number of images of a class, at most."""
    n = splits["root_folds"]
    levels = [[root["test_indices"] for root in splits["root_splits"][at : at + n]] for at in (0, n)]
    counts = [[np.bincount(table.labels[rows], minlength=2) for rows in level] for level in levels]
    return max(np.ptp(level, axis=0).max() for level in counts)


def test_what_was_tested_in_a_fold_is_tested_there_when_images_are_added_and_removed(clinic, capsys):
    clinic.add(*range(20))
    table, first = clinic.make(*FOLDS)
    before, text = places(table, first), (clinic.splits / "dataset_splits.json").read_bytes()
    clinic.add(*range(20, 22))
    clinic.add(3, start=8)
    capsys.readouterr()
    table, grown = clinic.make()
    added = len(grown["files"]) - len(first["files"])
    counts = [np.bincount(table.labels[root["test_indices"]]).tolist() for root in grown["root_splits"]]
    cats, dogs = zip(*counts, strict=True)
    ranges = f"{min(cats)} to {max(cats)} cat, {min(dogs)} to {max(dogs)} dog"
    assert (
        f"splits: those of data {first['fingerprint'][:12]} are extended: {added} images added, 0 removed; 40 known "
        f"groups of images keep their fold, 4 are new; an outer fold tests {ranges}\n" in capsys.readouterr().out
    )
    after = places(table, grown)
    assert before.items() <= after.items() and len(after) == len(before) // 40 * 44
    assert unevenness(table, grown) <= max(Counter(table.groups.tolist()).values())
    assert grown["extends"] == first["fingerprint"] and "extends" not in first
    assert {name: grown[name] for name in ("seed", *data.splits.FOLDS)} == {
        name: first[name] for name in ("seed", *data.splits.FOLDS)
    }
    kept = clinic.splits / f"dataset_splits-{first['fingerprint'][:12]}.json"
    assert kept.read_bytes() == text

    assert clinic.make()[1] == grown and "is up to date" in capsys.readouterr().out
    (clinic.splits / "dataset_splits.json").unlink()
    assert clinic.make()[1] == grown, "it depends on the former splits, the images and the seed alone"

    clinic.remove(0, 5, 21)
    table, shrunk = clinic.make()
    assert places(table, shrunk).items() <= after.items() and shrunk["extends"] == grown["fingerprint"]
    clinic.add(5, 34)
    table, back = clinic.make()
    found = places(table, back)
    assert all(after.get(place, fold) == fold for place, fold in found.items()), "who comes back is known"
    assert ("cat 34", 0) in found


def test_copies_that_join_patients_of_two_folds_take_them_to_the_fold_of_most_images(clinic, capsys):
    clinic.add(*range(30))
    table, first = clinic.make(*FOLDS)
    before = places(table, first)
    sizes = {group: int((table.groups == group).sum()) for group in table.groups}
    cats = [group for group in sizes if group.startswith("cat")]
    large, small = next(
        (a, b) for a in cats for b in cats if sizes[a] > sizes[b] and all(before[a, r] != before[b, r] for r in (0, 1))
    )
    image = next(file for file, group in clinic.group_of.items() if group == large)
    clinic.copy(image, "cat/copy.png", small)
    capsys.readouterr()
    table, joined = clinic.make()
    line = "59 known groups of images keep their fold, 0 are new"
    said = capsys.readouterr().out
    assert line in said and "; 1 of the known ones join images of several folds, and are in the fold of most of" in said
    after = places(table, joined)
    assert after[small, 0] == after[large, 0] == before[large, 0]
    assert {place: fold for place, fold in before.items() if place[0] != small}.items() <= after.items()


def test_other_settings_force_and_data_without_an_image_in_common_give_new_splits(clinic, capsys):
    clinic.add(*range(12))
    clinic.make("--root-folds", "4", "--nested-folds", "3", "--seed", "7")
    clinic.add(12)
    _, other = clinic.make("--root-folds", "3")
    assert (
        "made from scratch, since the former ones, which would be extended, have root_folds 4"
        in capsys.readouterr().out
    )
    assert (other["root_folds"], other["nested_folds"], other["seed"]) == (3, 3, 7) and "extends" not in other
    clinic.add(13)
    _, forced = clinic.make("--force", "--root-folds", "3", "--nested-folds", "3", "--seed", "7")
    assert "extends" not in forced
    (clinic.splits / "dataset_splits.json").unlink()
    assert "extends" in clinic.make()[1]
    with pytest.raises(UserError, match="holds other splits already; --force"):
        clinic.make("--seed", "8")
    clinic.remove(*range(14))
    clinic.add(*range(50, 62))
    splits = clinic.make("--root-folds", "2", "--nested-folds", "2")[1]
    assert "extends" not in splits and splits["seed"] == 0


def test_a_fold_that_has_lost_a_class_is_a_line(clinic):
    clinic.add(*range(9))
    table, first = clinic.make("--root-folds", "3", "--nested-folds", "2")
    gone = {int(group.split()[1]) for group in table.groups[first["root_splits"][1]["test_indices"]] if "dog" in group}
    for file, group in list(clinic.group_of.items()):
        if group.startswith("dog") and int(group.split()[1]) in gone:
            (clinic.root / file).unlink()
            del clinic.group_of[file]
    clinic.write({})
    text = (clinic.splits / "dataset_splits.json").read_text()
    with pytest.raises(UserError, match=r"pets: no image of class dog is in outer fold 1 when .* --force makes others"):
        clinic.make()
    assert (clinic.splits / "dataset_splits.json").read_text() == text
    assert clinic.make("--force", "--root-folds", "3", "--nested-folds", "2")
    assert json.loads(text) == first


def test_a_changed_file_and_a_renamed_one_are_known(clinic):
    clinic.group_of = {}
    draw(clinic.root, *(f"{kind}/{number}.png" for kind in KINDS for number in range(30)))
    table, first = clinic.make("--root-folds", "3", "--nested-folds", "2")
    draw(clinic.root, "cat/3.png", value="another")
    (clinic.root / "dog" / "4.png").rename(clinic.root / "dog" / "new name.png")
    (clinic.root / "dog" / "5.png").rename(clinic.root / "dog" / "4.png")
    other, second = clinic.make()
    was = {"dog/new name.png": "dog/4.png", "dog/4.png": "dog/5.png"}
    for before, after in zip(first["root_splits"], second["root_splits"], strict=True):
        tested = {was.get(other.files[row], other.files[row]) for row in after["test_indices"]}
        assert tested == {table.files[row] for row in before["test_indices"]}
