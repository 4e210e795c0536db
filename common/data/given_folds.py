"""Folds of one's own, from a CSV file or what scikit-learn's splitters give, as the root splits of a splits file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import PARTS, UserError
from common.data.folding import stratified_folds
from common.data.images import ImageTable
from common.seeds import Stream
from common.state import regular

COLUMNS = ("root_split", "inner_split", "part")
FOLD = "fold"
NAMES = ("file", "files")
KINDS = "files,part or file,fold or file,root_split,inner_split,part"


def csv_header(path: Path) -> list[str]:
    """The columns of a CSV file; none of an empty one."""
    with open(regular(path), newline="", encoding="utf-8-sig") as file:
        return next(csv.reader(file), [])


def roots_of_csv(table: ImageTable, path: Path) -> tuple[list[str], list[dict]]:
    """The root splits that a CSV file says, and the files that it names.

    Parameters
    ----------
    path : Path
        With the columns ``file,fold``: in turn each fold is for testing, and each of the others for the dev set. Or
        ``file,root_split,inner_split,part`` (train, val or test), a row for each file of each inner split; of a row for
        testing the inner split may be empty.

    Raises
    ------
    UserError
        Naming the line that is not as expected.
    """
    row_of = {file: row for row, file in enumerate(table.files)}
    with open(regular(path), newline="", encoding="utf-8-sig") as source:
        reader = csv.DictReader(source)
        header = reader.fieldnames or []
        name = next((name for name in NAMES if name in header), None)
        if name is None or not (FOLD in header or set(COLUMNS) <= set(header)):
            raise UserError(f"{path}: expected the columns {KINDS}, found {','.join(header) or 'nothing'}")
        lines = [(reader.line_num, row) for row in reader]
    files = [row[name] for _, row in lines]
    for number, row in lines:
        if row[name] not in row_of:
            raise UserError(f"{path}, line {number}: {row[name]!r:.80} is no image of {table.root}")
    if FOLD in header:
        folds: dict[str, list[int]] = {}
        seen: set[str] = set()
        for number, row in lines:
            if not row[FOLD] or row[name] in seen:
                what = "is listed twice" if row[name] in seen else "has no fold"
                raise UserError(f"{path}, line {number}: {row[name]} {what}")
            seen.add(row[name])
            folds.setdefault(row[FOLD], []).append(row_of[row[name]])
        return files, rotated([sorted(folds[key]) for key in sorted(folds, key=_by_number)], str(path))
    return files, _roots_of_parts([(number, row_of[row[name]], row) for number, row in lines], path)


def rotated(folds: Sequence[Sequence[int]], where: str) -> list[dict]:
    """Root splits: each of at least three folds is for testing in one, and there each other once for the dev set.

    Raises
    ------
    UserError
        When there are fewer.
    """
    if len(folds) < 3:
        raise UserError(f"{where}: {len(folds)} folds; expected at least 3, for training, dev set and testing")
    return [
        {
            "test_indices": list(test),
            "nested_splits": [
                {
                    "train_indices": sorted(
                        row for j, fold in enumerate(folds) if j not in (i, (i + k) % len(folds)) for row in fold
                    ),
                    "dev_indices": list(folds[(i + k) % len(folds)]),
                }
                for k in range(1, len(folds))
            ],
        }
        for i, test in enumerate(folds)
    ]


def roots_of_pairs(table: ImageTable, found: Sequence[Any], path: Path) -> list[dict]:
    """Root splits from pairs ``[train, test]`` of row numbers, as ``cv.split(X, y, groups)`` gives them.

    Rows count from 0 in the order of the images' names. A third item, a list of pairs ``[train, dev]``, has the inner
    folds; else, where the test sets are folds of all rows, they are those of :func:`rotated`, or they are drawn.

    Raises
    ------
    UserError
        When a pair is none, or names a row that there is not.
    """
    roots: list[dict[str, Any]] = []
    for number, pair in enumerate(found):
        where = f"{path}: split {number}"
        if not isinstance(pair, list | tuple) or len(pair) not in (2, 3):
            raise UserError(f"{where}: expected [train, test] or [train, test, [[train, dev], ...]] of row numbers")
        train, test = (_rows(part, len(table), where) for part in pair[:2])
        nested = [
            {
                name: _rows(part, len(table), where)
                for name, part in zip(("train_indices", "dev_indices"), inner, strict=True)
            }
            for inner in (pair[2] if len(pair) == 3 else ())
        ]
        roots.append({"train": train, "test_indices": test, "nested_splits": nested})
    tests = [root["test_indices"] for root in roots]
    if not any(root["nested_splits"] for root in roots):
        rest_is_train = all(len(root["train"]) + len(root["test_indices"]) == len(table) for root in roots)
        if (
            len(roots) > 2
            and rest_is_train
            and sorted(row for test in tests for row in test) == list(range(len(table)))
        ):
            return rotated(tests, str(path))
        for number, root in enumerate(roots):
            stream = Stream(0).at("given", f"root {number}")
            drawn = stratified_folds(table, np.array(root["train"]), max(2, min(10, len(roots))), 1, stream)
            root["nested_splits"] = [
                {"train_indices": train.tolist(), "dev_indices": dev.tolist()} for train, dev in drawn
            ]
    return [{"test_indices": root["test_indices"], "nested_splits": root["nested_splits"]} for root in roots]


def write_folds(table: ImageTable, splits: dict, path: Path) -> int:
    """Write splits as a CSV that :func:`roots_of_csv` reads; returns how many rows it has."""
    from common.state import whole_file

    count = 0
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", *COLUMNS])
        for line in _lines(table, splits):
            writer.writerow(line)
            count += 1
    return count


def _lines(table: ImageTable, splits: dict) -> Iterator[tuple[object, ...]]:
    for number, root in enumerate(splits["root_splits"]):
        for row in root["test_indices"]:
            yield table.files[row], number, "", "test"
        for inner, nested in enumerate(root["nested_splits"]):
            for part, name in (("train", "train_indices"), ("val", "dev_indices")):
                for row in nested[name]:
                    yield table.files[row], number, inner, part


def _roots_of_parts(lines: Sequence[tuple[int, int, dict]], path: Path) -> list[dict]:
    tests: dict[int, dict[int, None]] = {}
    parts: dict[tuple[int, int], dict[str, list[int]]] = {}
    for number, row, line in lines:
        part = PARTS.get(line["part"].strip().casefold(), line["part"].strip().casefold())
        try:
            root = int(line["root_split"])
            inner = int(line["inner_split"] or 0)
        except ValueError:
            raise UserError(f"{path}, line {number}: expected whole numbers for root_split and inner_split") from None
        if part not in ("train", "dev", "test"):
            raise UserError(f"{path}, line {number}: expected train, val or test, found {line['part']!r:.40}")
        if part == "test":
            tests.setdefault(root, {})[row] = None
        else:
            parts.setdefault((root, inner), {"train": [], "dev": []})[part].append(row)
    roots = sorted({root for root, _ in parts} | set(tests))
    if roots != list(range(len(roots))):
        raise UserError(f"{path}: root splits {roots}; expected them to be numbered from 0 on")
    found = []
    for root in roots:
        inners = sorted(of for outer, of in parts if outer == root)
        if root not in tests or not inners:
            what = "for testing" if root not in tests else "for training"
            raise UserError(f"{path}: root split {root} has nothing {what}")
        nested = [parts[root, of] for of in inners]
        found.append(
            {
                "test_indices": list(tests[root]),
                "nested_splits": [{"train_indices": each["train"], "dev_indices": each["dev"]} for each in nested],
            }
        )
    return found


def _rows(part: Any, n: int, where: str) -> list[int]:
    if not isinstance(part, list | tuple) or not all(type(row) is int and 0 <= row < n for row in part):
        raise UserError(f"{where}: expected lists of row numbers from 0 to {n - 1}")
    return list(part)


def _by_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def pairs_in(path: Path) -> list[Any] | None:
    """The pairs of a JSON file that is a list; None where it is something else."""
    found = json.loads(regular(path).read_text())
    return found if isinstance(found, list) else None
