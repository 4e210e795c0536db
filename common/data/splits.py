"""Splits: which images are for training, for the dev set and for testing; made once, saved, and checked when loaded."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from common.cli import UserError, escaped
from common.data.images import ImageTable
from common.seeds import Stream
from common.state import data_folder, regular, whole_file

FOLDS = ("root_folds", "root_repeats", "nested_folds", "nested_repeats")
"""The settings of splits, besides their seed."""
USUAL = [(10, 10), *((folds, folds - 1) for folds in range(10, 2, -1))]
"""Root and nested folds, unless told otherwise: the first that there are enough images or groups for."""

FEWER = "step_3/make_dataset_splits.py --root-folds and --nested-folds make fewer"
MORE = "python -m common.eeg --groups block makes more groups: stretches of each recording"


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of an image table.

    Attributes
    ----------
    root_split, inner_split : int
        Which outer and which inner fold.
    train, dev, test : ndarray of int64
        Rows of the table: to fit on, to stop early and choose the threshold on, to report on.
    """

    root_split: int
    inner_split: int
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def random_fold(table: ImageTable, stream: Stream) -> Fold:
    """One random split: a fifth for testing, a fifth for the dev set; stratified, and by group where there are groups.

    Raises
    ------
    UserError
        When a class has fewer than five images (or groups).
    """
    rest, test = next(_folds(table, np.arange(len(table)), 5, 1, stream.at("test")))
    train, dev = next(_folds(table, rest, 4, 1, stream.at("dev")))
    return Fold(0, 0, train, dev, test)


def splits_file(table: ImageTable) -> Path:
    """Where the splits of a table are kept: ``data/<name>/dataset_splits.json``.

    Those of the data as they were lie beside it, named by their fingerprint: see :func:`save_splits`. Of data under DVC
    the first version has that file, and each further one a file beside it.
    """
    newest = data_folder() / table.name / "dataset_splits.json"
    if _settings_of(newest).get("fingerprint") in (None, table.fingerprint):
        return newest
    own = _beside(newest, table.fingerprint)
    return own if table.version is not None or own.exists() else newest


def _beside(path: Path, fingerprint: str) -> Path:
    return path.with_name(f"dataset_splits-{fingerprint[:12]}.json")


def _settings_of(path: Path) -> dict:
    """What a splits file says of itself; nothing where there is none, or a damaged one."""
    try:
        splits = json.loads(regular(path).read_text())
        return {name: splits[name] for name in ("fingerprint", "seed", *FOLDS)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def make_splits(
    table: ImageTable,
    stream: Stream,
    root_folds: int | None = None,
    root_repeats: int = 1,
    nested_folds: int | None = None,
    nested_repeats: int = 1,
) -> dict:
    """Nested cross-validation splits: repeated stratified k-fold at both levels, by group where the table has groups.

    Where no number of folds is given, it is ten, or as many as there are groups for: with eight subjects 8 and 7.

    Returns
    -------
    dict
        What :func:`save_splits` writes: ``files``, ``digests``, ``fingerprint``, the settings, and ``root_splits``, a
        list of ``{"test_indices": [...], "nested_splits": [{"train_indices": [...], "dev_indices": [...]}, ...]}``
        with rows of ``files``.

    Raises
    ------
    UserError
        When a class has fewer images (or groups) than there are folds.
    """
    for root, nested in USUAL if root_folds is None or nested_folds is None else ():
        try:
            return make_splits(table, stream, root_folds or root, root_repeats, nested_folds or nested, nested_repeats)
        except UserError:
            if (root, nested) == USUAL[-1]:
                raise
    root_splits = []
    for rest, test in _folds(table, np.arange(len(table)), root_folds, root_repeats, stream.at("root")):
        inner = stream.at(f"root {len(root_splits)}")
        nested = [
            {"train_indices": train.tolist(), "dev_indices": dev.tolist()}
            for train, dev in _folds(table, rest, nested_folds, nested_repeats, inner)
        ]
        root_splits.append({"test_indices": test.tolist(), "nested_splits": nested})
    return {
        "data": table.name,
        "fingerprint": table.fingerprint,
        "seed": stream.root_seed,
        "root_folds": root_folds,
        "root_repeats": root_repeats,
        "nested_folds": nested_folds,
        "nested_repeats": nested_repeats,
        "files": list(table.files),
        "digests": list(table.digests),
        "root_splits": root_splits,
    }


def _folds(table: ImageTable, rows: np.ndarray, folds: int, repeats: int, stream: Stream):
    labels = table.labels[rows]
    groups = None if table.groups is None else table.groups[rows]
    for label, name in enumerate(table.classes):
        of_class = labels == label
        count = of_class.sum() if groups is None else len(set(groups[of_class]))
        if count < folds:
            raise UserError(
                f"{table.root}: {count} {table.units} of class {name}; expected at least {folds}, one for each fold "
                f"({FEWER if table.grouped_by == 'group' else MORE})"
            )
    for repeat in range(repeats):
        splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
        seed = stream.at(f"repeat {repeat}").integer()
        for rest, held_out in splitter(folds, shuffle=True, random_state=seed).split(rows, labels, groups):
            for part in (rest, held_out):
                if missing := set(range(len(table.classes))) - set(labels[part]):
                    name = table.classes[min(missing)]
                    expected = "expected every class: use fewer folds"
                    raise UserError(f"{table.root}: one of {folds} folds has nothing of class {name}; {expected}")
            yield rows[rest], rows[held_out]


def folds_of_all(table: ImageTable, splits: dict, inner_splits: int) -> list[Fold]:
    """Folds of all images, without a test set: for the model that is used in the end.

    They are the inner folds of one more root split, made as the file's own.

    Raises
    ------
    UserError
        As :func:`make_splits`, or when the splits have fewer inner folds than asked for.
    """
    root_split, rows = len(splits["root_splits"]), np.arange(len(table))
    if inner_splits > splits["nested_folds"]:
        raise UserError(f"--inner-splits {inner_splits}: expected at most {splits['nested_folds']}")
    stream = Stream(splits["seed"]).at("splits", f"root {root_split}")
    halves = list(_folds(table, rows, splits["nested_folds"], 1, stream))[:inner_splits]
    return [Fold(root_split, i, train, dev, rows[:0]) for i, (train, dev) in enumerate(halves)]


def save_splits(splits: dict, path: Path, replace: bool = False) -> None:
    """Write splits as JSON, and say so; the file appears whole or not at all.

    Splits that are there of other data are kept beside it, as ``dataset_splits-<fingerprint>.json``.

    Raises
    ------
    UserError
        When there are other splits of the same data already, unless `replace`; or when the file cannot be written.
    """
    text = json.dumps(splits) + "\n"
    try:
        if path.exists() and path.read_text() == text:
            print(escaped(f"splits: {path} is up to date"))
            return
        former = _settings_of(path).get("fingerprint", splits["fingerprint"])
        if former != splits["fingerprint"] and not _beside(path, former).exists():
            os.replace(path, _beside(path, former))
            print(f"splits: {_beside(path, former)} keeps those of the data as they were")
        if path.exists() and not replace:
            raise UserError(f"{path}: holds other splits already; --force replaces them")
        with whole_file(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    print(
        f"splits: {escaped(str(path))}: {splits['root_folds']} x {splits['root_repeats']} root splits of "
        f"{splits['nested_folds']} x {splits['nested_repeats']} nested splits, seed {splits['seed']}"
    )


def load_splits(table: ImageTable) -> dict:
    """The splits of a table, made when there are none yet, and checked.

    They are made with the default settings; of another version of data under DVC, with those of the first one.

    Raises
    ------
    UserError
        When the file is damaged, belongs to other data (saying what differs), shares an image or a group between
        train, dev and test, or does not test every image once per repeat.
    """
    path = splits_file(table)
    if not path.exists():
        known = _settings_of(path.with_name("dataset_splits.json"))
        folds = {name: known[name] for name in FOLDS if name in known}
        save_splits(make_splits(table, Stream(known.get("seed", 0)).at("splits"), **folds), path)
    try:
        splits = json.loads(regular(path).read_text())
        _check_same_data(table, splits, path)
        _check_folds(table, splits, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: not a splits file ({type(error).__name__}: {error}); step_3/make_dataset_splits.py makes one"
        ) from error
    return splits


def _check_same_data(table: ImageTable, splits: dict, path: Path) -> None:
    if splits["fingerprint"] == table.fingerprint:
        return
    saved = dict(zip(splits["files"], splits["digests"], strict=True))
    found = dict(zip(table.files, table.digests, strict=True))
    kinds = {
        "missing": sorted(saved.keys() - found.keys()),
        "new": sorted(found.keys() - saved.keys()),
        "changed": sorted(name for name in saved.keys() & found.keys() if saved[name] != found[name]),
    }
    differs = ", ".join(f"{len(names)} {kind} ({names[0]})" for kind, names in kinds.items() if names)
    raise UserError(
        f"{path}: made for other data than {table.root}: {differs or 'labels or groups changed'}; "
        "step_3/make_dataset_splits.py makes new splits, and keeps these"
    )


def _check_folds(table: ImageTable, splits: dict, path: Path) -> None:
    groups = np.arange(len(table)) if table.groups is None else np.unique(table.groups, return_inverse=True)[1]
    tested = np.zeros(len(table), int)
    for fold in (fold for root in range(len(splits["root_splits"])) for fold in folds_of(splits, root)):
        where = f"{path}: root split {fold.root_split}, nested split {fold.inner_split}"
        parts = {"train": fold.train, "dev": fold.dev, "test": fold.test}
        for name, rows in parts.items():
            if rows.size == 0 or rows.min() < 0 or rows.max() >= len(table) or len(set(rows.tolist())) < rows.size:
                raise UserError(f"{where}: {name} is empty, repeats an index, or has one outside 0-{len(table) - 1}")
        for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
            shared = np.intersect1d(parts[a], parts[b])
            if shared.size:
                raise UserError(f"{where}: {table.files[shared[0]]} is in {a} and in {b}")
            shared = np.intersect1d(groups[parts[a]], groups[parts[b]])
            if shared.size:
                group = table.groups[groups == shared[0]][0]
                raise UserError(f"{where}: {table.grouped_by} {group} is in {a} and in {b}")
        if fold.inner_split == 0:
            tested[fold.test] += 1
    wrong = np.flatnonzero(tested != splits["root_repeats"])
    if wrong.size:
        raise UserError(
            f"{path}: {table.files[wrong[0]]} is tested {tested[wrong[0]]} times; "
            f"expected once in each of the {splits['root_repeats']} repeats"
        )


def folds_of(splits: dict, root_split: int, inner_splits: int | None = None) -> list[Fold]:
    """The first `inner_splits` folds (default: all) of one root split.

    Raises
    ------
    UserError
        When the splits hold fewer than asked for.
    """
    if root_split >= len(splits["root_splits"]):
        raise UserError(f"--root-splits: expected at most {len(splits['root_splits'])}, as in the splits file")
    root = splits["root_splits"][root_split]
    nested = root["nested_splits"]
    if inner_splits is not None and inner_splits > len(nested):
        raise UserError(f"--inner-splits {inner_splits}: expected at most {len(nested)}, as in the splits file")
    test = np.array(root["test_indices"], np.int64)
    return [
        Fold(root_split, i, np.array(n["train_indices"], np.int64), np.array(n["dev_indices"], np.int64), test)
        for i, n in enumerate(nested[:inner_splits])
    ]
