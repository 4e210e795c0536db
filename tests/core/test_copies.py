"""Copies of an image, of equal bytes or of equal pixels: with their groups they are on one side of every split."""

import csv
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image
from sklearn.model_selection import StratifiedGroupKFold
from test_data import draw

from common import data
from common.cli import UserError
from common.data import copies, load_images
from common.seeds import Stream
from step_3 import make_dataset_splits

KINDS = ("healthy", "lesion")


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Two images of each of 60 patients, and under other patients copies of 8 in each class."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    root = tmp_path / "scans"
    group_of = {
        f"{kind}/{number}_{i}.jpg": f"{kind} {number}" for kind in KINDS for number in range(30) for i in (0, 1)
    }
    draw(root, *group_of)
    for kind in KINDS:
        for number in range(8):
            source = root / kind / f"{number}_0.jpg"
            copy = COPIES[number % len(COPIES)](source)
            group_of[f"{kind}/{copy.name}"] = f"{kind} {20 + number}"
    with open(root / "groups.csv", "w", newline="") as file:
        csv.writer(file).writerows([("files", "group"), *group_of.items()])
    return root


def same_bytes(source):
    return shutil.copy(source, source.with_stem(f"{source.stem}_again"))


def saved_as_png(source):
    target = source.with_suffix(".png")
    Image.open(source).save(target)
    return target


def with_a_note(source):
    """The same JPEG stream with a comment before it."""
    target, content = source.with_stem(f"{source.stem}_note"), source.read_bytes()
    target.write_bytes(content[:2] + b"\xff\xfe\x00\x06abcd" + content[2:])
    return target


def lying_on_its_side(source):
    """Turned, with a note that it is to be shown turned back."""
    target, exif = source.with_stem(f"{source.stem}_turned").with_suffix(".png"), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(source).transpose(Image.Transpose.ROTATE_90).save(target, exif=exif)
    return target


COPIES = (same_bytes, saved_as_png, with_a_note, lying_on_its_side)


def contents(table):
    """What each image is a copy of, by its name."""
    return np.array(["".join(re.split("[._]", file)[:2]) for file in table.files])


def sides(table):
    fold = data.random_fold(table, Stream(0))
    splits = data.make_splits(table, Stream(0), 3, 2, 3)
    roots = [data.folds_of(splits, root) for root in range(6)] + [data.folds_of_all(table, splits, 3), [fold]]
    return [(fold.train, fold.dev, fold.test) for root in roots for fold in root]


@pytest.mark.parametrize("grouped", [True, False])
def test_copies_and_their_groups_are_on_one_side_of_every_split(scans, grouped, capsys):
    if not grouped:
        (scans / "groups.csv").unlink()
    table = load_images(str(scans), 16)
    said = "  16 images are copies of others, 4 of them byte for byte: copies are on one side of every split"
    assert f"{said}{', with their groups' if grouped else ''}\n" in capsys.readouterr().out
    assert Counter(contents(table))["healthy/00"] == 2
    belongs = [contents(table), *([table.groups] if grouped else [])]
    for parts in sides(table):
        for name in belongs:
            found = [set(name[rows]) for rows in parts]
            assert sum(map(len, found)) == len(set.union(*found))


def test_what_are_copies_does_not_depend_on_the_size_and_is_found_once(scans, monkeypatch, tmp_path):
    at_16, at_64 = load_images(str(scans), 16), load_images(str(scans), 64)
    expected = at_16.same_as.tolist()
    assert at_64.same_as.tolist() == data.find_images(str(scans)).same_as.tolist() == expected
    calls = []
    content_of = lambda path: calls.append(path) or (path.parent.name, *path.stem.split("_")[:2])  # noqa: E731
    monkeypatch.setattr(copies, "digest_pixels", content_of)
    assert load_images(str(scans), 16).same_as.tolist() == expected and not calls
    flat = np.zeros((len(at_16), 3, 8, 8), np.uint8)  # all look alike: only one image of each content is read
    assert replace(at_16, pixels=flat, cached=False).same_as.tolist() == expected
    assert len(calls) == len(set(at_16.digests)) == 132 and len(set(calls)) == 132


def test_an_image_that_cannot_be_read_is_left_out_and_its_copies_are_no_matter(scans):
    (scans / "healthy" / "0_0.jpg").write_bytes(b"no image")
    (scans / "healthy" / "3_0.jpg").write_bytes(b"no image")
    table = load_images(str(scans), 16, skip_unreadable=True)
    assert len(table) == 134 and len(set(table.same_as)) == 134 - 14 and len(set(sides(table)[0][0])) > 50
    assert len(data.find_images(str(scans)).same_as) == 136


def test_copies_of_two_classes_are_refused_with_their_names(scans):
    saved_as_png(scans / "healthy" / "9_0.jpg").rename(scans / "lesion" / "x.png")
    (scans / "groups.csv").unlink()
    line = (
        r"scans: healthy/9_0.jpg \(healthy\) and lesion/x.png \(lesion\) are copies of each other; expected one class"
    )
    with pytest.raises(UserError, match=line):
        make_dataset_splits.main(["--data", str(scans)])


def test_given_splits_that_tear_copies_are_refused(scans, tmp_path):
    table = load_images(str(scans), 16)
    units = table.unit_of

    def refused(part_of, line):
        path = tmp_path / "mine.csv"
        path.write_text("files,part\n" + "".join(f"{f},{p}\n" for f, p in zip(table.files, part_of, strict=True)))
        with pytest.raises(UserError, match=line):
            data.own_splits(table, path)

    whole = np.array(["train", "val", "test"])[units // 2 % 3]
    torn = whole.copy()
    torn[np.isin(table.groups, "healthy 20")] = "test" if whole[0] != "test" else "train"
    refused(torn, r"mine.csv: .*: the same image is in \w+ and in \w+ \(healthy/0_0.jpg, healthy/0_0_again.jpg\)")
    (scans / "groups.csv").unlink()
    data.split_data(scans, tmp_path / "out", (0.6, 0.2, 0.2))
    out = load_images(str(tmp_path / "out"), 16)
    assert all(len(set(out.parts[out.same_as == row])) == 1 for row in set(out.same_as))
    row = next(row for row in np.flatnonzero(out.same_as != np.arange(len(out))) if out.files[row].endswith(".png"))
    other = next(part for part in ("Train", "Test") if not out.files[row].startswith(part))
    (tmp_path / "out" / out.files[row]).rename(tmp_path / "out" / other / out.files[row].split("/")[1] / "moved.png")
    with pytest.raises(UserError, match=r"out: the same image is in \w+ and in \w+ .*moved.png"):
        data.random_fold(load_images(str(tmp_path / "out"), 16), Stream(0))
    with pytest.raises(UserError, match=r"out: root split 0, nested split 0: the same image is in \w+ and in \w+"):
        data.current_splits(load_images(str(tmp_path / "out"), 16))
    with pytest.raises(UserError, match="out: these splits were given, not drawn; expected no --resplit"):
        data.check_drawn(str(tmp_path / "out"))


def test_without_copies_the_splits_are_those_of_the_groups_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    group_of = {f"{kind}/{number}.png": f"{kind} {number % 11}" for kind in KINDS for number in range(30)}
    draw(tmp_path / "scans", *group_of)
    table = load_images(str(tmp_path / "scans"), 16)
    assert table.unit_of is None
    table = replace(table, groups=np.array([group_of[file] for file in table.files]))
    seed = Stream(0).at("root", "repeat 0").integer()
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(table.labels, table.labels, table.groups)
    roots = data.make_splits(table, Stream(0), 3, 1, 2)["root_splits"]
    assert [root["test_indices"] for root in roots] == [test.tolist() for _, test in folds]
