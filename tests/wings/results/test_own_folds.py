"""Folds of one's own, from a CSV file or scikit-learn, become the splits of data unless they leak, and go out."""

import csv
import json

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from common import data, results
from common.cli import UserError
from common.results.__main__ import main
from conftest import make_tiny_pets


@pytest.fixture(autouse=True)
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return make_tiny_pets(tmp_path / "pets", n_per_class=9)


@pytest.fixture
def table(pets):
    return data.load_images(str(pets), 64)


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def splits_of(path, pets):
    main(["splits", "import", str(path), "--data", str(pets), "--force"])
    table = data.load_images(str(pets), 64)
    splits = data.load_splits(table)
    return table, [data.folds_of(splits, root) for root in range(len(splits["root_splits"]))]


def test_a_column_of_folds_tests_each_once_and_uses_each_other_for_the_dev_set(tmp_path, pets, table):
    fold_of = {file: number % 3 for number, file in enumerate(sorted(table.files, key=lambda name: name.split("_")[1]))}
    table, roots = splits_of(write(tmp_path / "a.csv", ["file", "fold"], fold_of.items()), pets)
    assert len(roots) == 3 and all(len(folds) == 2 for folds in roots)
    for number, folds in enumerate(roots):
        assert {fold_of[table.files[row]] for row in folds[0].test} == {number}
        assert {frozenset(fold_of[table.files[row]] for row in fold.dev) for fold in folds} == {
            frozenset([other]) for other in {0, 1, 2} - {number}
        }
        assert all(len(fold.train) + len(fold.dev) + len(fold.test) == len(table) for fold in folds)


def test_scikit_learns_splits_become_root_splits(tmp_path, pets, table):
    rows, labels = np.zeros(len(table)), np.array(table.labels)
    for number, cv in enumerate((StratifiedGroupKFold(3), StratifiedShuffleSplit(2, test_size=6, random_state=0))):
        pairs = [[part.tolist() for part in pair] for pair in cv.split(rows, labels, table.groups)]
        (path := tmp_path / f"{number}.json").write_text(json.dumps(pairs))
        _, roots = splits_of(path, pets)
        assert [sorted(folds[0].test.tolist()) for folds in roots] == [sorted(test) for _, test in pairs]
        assert all(
            set(fold.train) | set(fold.dev) <= set(pair[0])
            for pair, folds in zip(pairs, roots, strict=True)
            for fold in folds
        )
    pairs = [[*pair, [[pair[0][2:], pair[0][:2]]]] for pair in pairs]
    (path := tmp_path / "nested.json").write_text(json.dumps(pairs))
    _, roots = splits_of(path, pets)
    assert [fold.dev.tolist() for (fold,) in roots] == [pair[0][:2] for pair in pairs]


def test_exported_splits_are_the_same_when_imported(tmp_path, pets, table, capsys):
    before = data.load_splits(table)["root_splits"]
    assert "root splits" in results.export_folds(str(pets), tmp_path / "splits.csv")
    file = data.splits_file(table)
    content = file.read_bytes()
    results.import_folds(tmp_path / "splits.csv", str(pets))
    assert capsys.readouterr().out.endswith(f"splits: {file} is up to date\n") and file.read_bytes() == content
    _, roots = splits_of(tmp_path / "splits.csv", pets)
    for root, folds in zip(before, roots, strict=True):
        assert folds[0].test.tolist() == root["test_indices"]
        for nested, fold in zip(root["nested_splits"], folds, strict=True):
            assert [fold.train.tolist(), fold.dev.tolist()] == [nested["train_indices"], nested["dev_indices"]]


def test_folds_that_leak_or_are_none_are_refused_in_a_line(tmp_path, pets, table):
    (pets / "groups.csv").write_text(
        "\n".join(["files,group", *(f"{file},{i // 2}" for i, file in enumerate(table.files))])
    )
    leaking = [(file, number % 3) for number, file in enumerate(table.files)]
    parts = [(file, 0, 0, "train") for file in table.files]
    cases = {
        ("file", "fold"): [
            (leaking, "is in train and in "),
            (leaking[:-1], "is not listed"),
            ([*leaking, leaking[0]], "is listed twice"),
            ([(file, 0) for file, _ in leaking], "expected at least 3"),
            ([("nothing.jpg", 0), *leaking], "is no image of"),
            ([(leaking[0][0], ""), *leaking[1:]], "has no fold"),
        ],
        ("file", "root_split", "inner_split", "part"): [
            (parts, "has nothing for testing"),
            ([(*parts[0][:3], "exam"), *parts[1:]], "expected train, val or test"),
            ([(parts[0][0], "x", 0, "train"), *parts[1:]], "expected whole numbers"),
            ([(parts[0][0], 4, 0, "train"), *parts[1:]], "expected them to be numbered from 0"),
        ],
        ("file", "fold_number"): [(leaking, "expected the columns")],
    }
    for header, found in cases.items():
        for rows, words in found:
            with pytest.raises(UserError) as error:
                results.import_folds(write(tmp_path / "bad.csv", header, rows), str(pets))
            assert words in str(error.value) and "\n" not in str(error.value)
    for pairs in ([[[0], [1, 99]]], [[0]], [[[0], ["1"]]], []):
        (tmp_path / "bad.json").write_text(json.dumps(pairs))
        with pytest.raises(UserError, match=r"bad\.json"):
            results.import_folds(tmp_path / "bad.json", str(pets))
