"""Data that come split, in folders Train, Val and Test, and splits of one's own."""

import csv
import json

import numpy as np
import pytest
from test_data import draw

from common import cli, data
from common.cli import UserError
from common.seeds import Stream
from conftest import put_stores
from step_3 import make_dataset_splits, train

KINDS = ("healthy", "lesion")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder that the state lies in, instead of the project's."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def scans(home):
    """Two images of each of 20 patients."""
    names = {f"{kind}/{number}_{i}.png": f"{kind} {number}" for kind in KINDS for number in range(10) for i in range(2)}
    draw(home / "scans", *names)
    write(home / "scans" / "groups.csv", ["files", "group"], *names.items())
    return home / "scans"


def write(path, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def files_of(table, fold):
    return [{table.files[row].casefold().split("/")[0] for row in rows} for rows in (fold.train, fold.dev, fold.test)]


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("train", "validation", "TEST"), ("TRAIN", "valid", "test")]
)
def test_what_the_export_writes_is_read_as_a_split_of_the_same_classes_and_groups(scans, home, names, capsys):
    data.split_data(scans, home / "out", (0.6, 0.2, 0.2))
    for before, name in zip(("Train", "Val", "Test"), names, strict=True):
        (home / "out" / before).rename(home / "out" / f"{name}.new")
        (home / "out" / f"{name}.new").rename(home / "out" / name)
    table, source = data.load_images(str(home / "out"), 16), data.find_images(str(scans))
    assert "in 20 groups, split as given: 24 train, 8 dev, 8 test (20 healthy, 20 lesion)" in capsys.readouterr().out
    assert table.classes == KINDS and sorted(table.digests) == sorted(source.digests)
    assert sorted(table.groups) == sorted(source.groups)
    splits = data.load_splits(table)
    (fold,) = data.folds_of(splits, 0)
    expected = [{name.casefold()} for name in names]
    assert len(splits["root_splits"]) == 1 and files_of(table, fold) == expected
    assert sorted([*fold.train, *fold.dev, *fold.test]) == list(range(40))
    assert files_of(table, data.random_fold(table, Stream(0))) == expected
    (last,) = data.folds_of_all(table, splits, 1)
    assert last.dev.tolist() == fold.dev.tolist() and len(last.test) == 0
    assert last.train.tolist() == sorted([*fold.train, *fold.test])
    args = cli.train_parser("", step=3).parse_args(["--data", str(home / "out")])
    assert (args.root_splits, args.inner_splits) == (1, 1)


def test_without_a_dev_set_its_folds_are_made_of_the_training_images(scans, home):
    data.split_data(scans, home / "out", (0.6, 0.2, 0.2))
    for path in (home / "out" / "Val").glob("*/*"):
        path.rename(home / "out" / "Train" / path.relative_to(home / "out" / "Val"))
    groups = [(home / "out" / part / "groups.csv").read_text().split("\n", 1)[1] for part in ("Train", "Val")]
    (home / "out" / "Train" / "groups.csv").write_text("files,group\n" + "".join(groups))
    (home / "out" / "Val").rename(home / "no part")
    table = data.load_images(str(home / "out"), 16)
    folds = data.folds_of(make_dataset_splits.main(["--data", str(home / "out"), "--nested-folds", "4"]), 0)
    assert len(folds) == 4 and all(files_of(table, fold) == [{"train"}, {"train"}, {"test"}] for fold in folds)
    assert sorted(np.concatenate([fold.dev for fold in folds])) == np.flatnonzero(table.parts == "train").tolist()
    args = cli.train_parser("", step=3).parse_args(["--data", str(home / "out")])
    assert (args.root_splits, args.inner_splits) == (1, 2)


def test_a_step_runs_on_what_the_export_writes_as_it_is(scans, home, empty_stores, capsys):
    put_stores(empty_stores, home)
    data.split_data(scans, home / "out", (0.6, 0.2, 0.2))
    outcome = train.main(["--data", str(home / "out"), "--fast", "--n-jobs", "1"])
    assert outcome["fits"] == 1 and f"run {outcome['run_id']}" in capsys.readouterr().out


def test_parts_that_are_no_split_are_one_line(scans, home):
    data.split_data(scans, home / "out", (0.6, 0.2, 0.2))
    out, moves = home / "out", []

    def refused(line, **options):
        with pytest.raises(UserError, match=line):
            data.load_splits(data.load_images(str(out), 16))

    def moved(before, after):
        moves.append((before, after))
        (out / before).rename(out / after)

    def back():
        while moves:
            before, after = moves.pop()
            (out / after).rename(out / before)

    moved("Test", "../away")
    refused("out: comes split into Train, Val; expected Train, Val and Test")
    back()
    draw(out, "more/a.png")
    refused("out: comes split into Test, Train, Val, more/a.png; expected")
    (out / "more" / "a.png").unlink()
    moved("Val/groups.csv", "../away")
    refused("out/Val/groups.csv: no such file; expected one in each of Test, Train, Val")
    back()
    moved("Val/lesion", "../away")
    (out / "Val" / "groups.csv").write_text(
        "files,group\n" + "".join(f"healthy/{p.name},{p.stem}\n" for p in (out / "Val" / "healthy").iterdir())
    )
    refused("nothing of class lesion is for dev; expected every class in each part")
    back()
    for part in ("Train", "Val", "Test"):
        (out / part / "groups.csv").unlink()
    copy = next((out / "Train" / "healthy").iterdir())
    (out / "Test" / "healthy" / "copy.png").write_bytes(copy.read_bytes())
    refused(rf"is in train and in test \(Train/healthy/{copy.name}, Test/healthy/copy.png\)")


def test_splits_of_ones_own_are_checked_and_used_by_the_steps(scans, home):
    table = data.find_images(str(scans))

    def part_of(file):
        number = int(file.split("/")[1].split("_")[0])
        return "Val" if number == 8 else "test" if number == 9 else "TRAIN"

    def adopt(path, *flags):
        make_dataset_splits.main(["--data", str(scans), "--splits", str(path), *flags])
        return data.load_splits(data.load_images(str(scans), 16))

    rows = [(file, part_of(file)) for file in reversed(table.files)]
    (fold,) = data.folds_of(adopt(write(home / "my.csv", ["files", "part"], *rows)), 0)
    for part, found in (("TRAIN", fold.train), ("Val", fold.dev), ("test", fold.test)):
        assert [table.files[row] for row in found] == [file for file in table.files if part_of(file) == part]

    files = [file for file, _ in rows]
    at = {part: [i for i, (_, p) in enumerate(rows) if p == part] for part in ("TRAIN", "Val", "test")}
    nested = [
        {"train_indices": at["TRAIN"], "dev_indices": at["Val"]},
        {"train_indices": at["Val"], "dev_indices": at["TRAIN"]},
    ]
    mine = {"files": files, "root_splits": [{"test_indices": at["test"], "nested_splits": nested}]}
    (home / "my.json").write_text(json.dumps(mine))
    with pytest.raises(UserError, match="holds other splits already; --force replaces them"):
        adopt(home / "my.json")
    first, second = data.folds_of(adopt(home / "my.json", "--force"), 0)
    assert sorted(first.train) == sorted(second.dev) == sorted(fold.train) and sorted(first.test) == sorted(fold.test)

    wrong = {
        "files,part\n"
        + "".join(f"{f},{'val' if f.endswith('_0.png') else p}\n" for f, p in rows): "group .* is in train and in dev",
        "files,part\n" + "".join(f"{f},{p}\n" for f, p in rows[1:]): f"{rows[0][0]} of .*scans is not listed \\(1 such",
        "files,part\n"
        + "".join(f"{f},{p}\n" for f, p in [*rows, ("gone.png", "val")]): "gone.png of .* is listed, but no image",
        "files,part\n"
        + "".join(f"{f},holdout\n" for f, _ in rows): "expected a part among train, val.*, found 'holdout'",
        json.dumps(
            mine | {"root_splits": [{"test_indices": [-1], "nested_splits": nested}]}
        ): r"not a splits file \(KeyError: -1",
        json.dumps(
            mine | {"root_splits": [{"test_indices": at["Val"], "nested_splits": nested}]}
        ): "is in dev and in test",
        json.dumps([]): "not a splits file",
    }
    for text, line in wrong.items():
        path = home / ("wrong.csv" if text.startswith("files") else "wrong.json")
        path.write_text(text)
        with pytest.raises(UserError, match=f"^{path}.*{line}"):
            adopt(path, "--force")
    assert len(data.load_splits(table)["root_splits"][0]["nested_splits"]) == 2, "what is refused replaces nothing"
