"""Splits: which images are for training, for the dev set and for testing; made once, saved, and checked when loaded."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np

from common.cli import PARTS, UserError, escaped, writing
from common.data import given_folds
from common.data.extending import extend_splits
from common.data.images import ImageTable
from common.data.pairs import read_pairs
from common.data.sources import find_images
from common.data.split_checks import check_folds, check_same_data, check_same_files, readable
from common.data.splitting import FOLDS, make_splits, splits_record
from common.seeds import Stream
from common.state import data_folder, regular, whole_file

GIVEN = "these splits were given, not drawn; expected no --resplit"


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


def own_splits(table: ImageTable, path: Path) -> dict:
    """Splits of one's own, checked, for :func:`save_splits`.

    Parameters
    ----------
    path : Path
        A CSV ``files,part`` where each image of the table is for ``train``, ``val`` (or none) or ``test``; or one of
        more folds, see :func:`common.data.given_folds.roots_of_csv`; or a JSON file with ``files`` and ``root_splits``
        as :func:`make_splits` returns them, of these images in any order, or with the pairs that scikit-learn's
        splitters give, see :func:`common.data.given_folds.roots_of_pairs`.

    Raises
    ------
    UserError
        When it is not such a file, names other images, or shares an image or a group between parts.
    """
    with readable(path):
        roots: list[dict] | None = None
        if path.suffix.lower() != ".csv":
            pairs = given_folds.pairs_in(path)
            roots = None if pairs is None else given_folds.roots_of_pairs(table, pairs, path)
        elif set(given_folds.csv_header(path)) & {given_folds.FOLD, *given_folds.COLUMNS[:2]}:
            files, roots = given_folds.roots_of_csv(table, path)
            check_same_files(table, files, path)
        if roots is not None:
            splits = _given(table, roots)
        elif path.suffix.lower() == ".csv":
            part_of = read_pairs(path, "files", "part")
            check_same_files(table, part_of, path)
            for file, part in part_of.items():
                if part.casefold() not in PARTS:
                    raise UserError(f"{path}: {file}: expected a part among {', '.join(PARTS)}, found {part!r:.40}")
            parts = np.array([PARTS[part_of[file].casefold()] for file in table.files])
            splits = make_splits(replaced(table, parts=parts), Stream(0).at("splits"))
        else:
            found = json.loads(regular(path).read_text())
            if "fingerprint" in found:
                check_same_data(table, found, path)
            check_same_files(table, found["files"], path)
            row_of = {file: row for row, file in enumerate(table.files)}
            rows = {i: row_of[file] for i, file in enumerate(found["files"])}

            def mapped(part: dict, *names: str) -> dict:
                return {name: [rows[i] for i in part[name]] for name in names}

            roots = [
                mapped(root, "test_indices")
                | {"nested_splits": [mapped(n, "train_indices", "dev_indices") for n in root["nested_splits"]]}
                for root in found["root_splits"]
            ]
            splits = _given(table, roots)
        check_folds(table, splits, path)
    return splits


def _given(table: ImageTable, roots: list[dict]) -> dict:
    n_nested = min(len(root["nested_splits"]) for root in roots)
    settings = dict(zip(FOLDS, (len(roots), 1, n_nested, 1), strict=True))
    return splits_record(table, 0, settings, roots, given=True)


def save_splits(splits: dict, path: Path, replace: bool = False) -> None:
    """Write splits as JSON, and say so; the file appears whole or not at all.

    Splits that are there of other data are kept beside it, as ``dataset_splits-<fingerprint>.json``. Those with the
    same folds stay as they are, unless `replace`.

    Raises
    ------
    UserError
        When there are other splits of the same data already, unless `replace`; or when the file cannot be written.
    """
    text = json.dumps(splits) + "\n"
    with writing(path):
        if path.exists() and (path.read_text() == text or (not replace and _has_folds(path, splits))):
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
    print(
        f"splits: {escaped(str(path))}: {splits['root_folds']} x {splits['root_repeats']} root splits of "
        f"{splits['nested_folds']} x {splits['nested_repeats']} nested splits, seed {splits['seed']}"
    )


def _has_folds(path: Path, splits: dict) -> bool:
    """Whether a splits file has the same folds of the same images, whether they were drawn or given."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        there = json.loads(regular(path).read_text())
        return all(there[name] == splits[name] for name in ("fingerprint", "files", "root_splits"))
    return False


def current_splits(table: ImageTable, anew: bool = False, **asked: int | None) -> dict:
    """The splits of a table for :func:`save_splits`: those that it has, else former ones extended, else new ones.

    Former splits are those of data of the same name that have images in common with the table, see
    :func:`common.data.extending.extend_splits`; splits that were given are not extended. Where there are none,
    splits are made with the default settings; of another version of data under DVC, with those of the first one.

    Parameters
    ----------
    anew : bool
        Make new ones in any case.
    asked : int, optional
        ``seed`` and the numbers of folds and repeats of :func:`make_splits`. Splits of other settings are not kept or
        extended; what is not asked for is as in the former splits.

    Raises
    ------
    UserError
        As :func:`make_splits` and :func:`extend_splits`, or when a splits file is damaged.
    """
    asked = {name: value for name, value in asked.items() if value is not None}
    path = splits_file(table)
    known = _settings_of(path)
    if not anew and known.get("fingerprint") == table.fingerprint and known == {**known, **asked}:
        return load_splits(table)
    with readable(path.parent):
        formers = [] if anew or table.parts is not None else _formers(table, path.parent)
        if formers:
            known = {name: formers[0][name] for name in ("seed", *FOLDS)}
        if formers and known == {**known, **asked}:
            splits, said = extend_splits(table, formers)
            print(escaped(said))
            return splits
    if formers:
        other = ", ".join(f"{name} {known[name]}" for name in asked if asked[name] != known[name])
        print(f"splits: made from scratch, since the former ones, which would be extended, have {other}")
    elif anew or table.version is None:
        known = {}
    else:
        known = _settings_of(path.with_name("dataset_splits.json"))
        if min(known.get("root_folds", 0), known.get("nested_folds", 0)) < 2:
            known = {name: known[name] for name in ("seed",) if name in known}
    settings = {**known, **asked}
    folds = {name: settings[name] for name in FOLDS if name in settings}
    splits = make_splits(table, Stream(settings.get("seed", 0)).at("splits"), **folds)
    if table.parts is not None:
        check_folds(table, splits, table.root)
    return splits


def _formers(table: ImageTable, folder: Path) -> list[dict]:
    """The splits to extend, and those that they extend in turn: of all that there are, those that know most images."""
    found: dict[str, dict] = {}
    for path in sorted(folder.glob("dataset_splits*.json"), reverse=True):
        try:
            splits = json.loads(regular(path).read_text())
            if not splits.get("given") and splits["fingerprint"] != table.fingerprint and splits["root_splits"]:
                found[splits["fingerprint"]] = splits
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    chains: list[tuple[int, int, list[dict]]] = []
    for first in found.values():
        chain = [first]
        while before := found.get(chain[-1].get("extends", "")):
            if before in chain or any(before[name] != first[name] for name in FOLDS):
                break
            chain.append(before)
        digests = {digest for splits in chain for digest in splits["digests"]}
        chains.append((sum(digest in digests for digest in table.digests), len(chain), chain))
    most = max(chains, key=lambda chain: chain[:2], default=(0, 0, []))
    return most[2] if most[0] else []


def load_splits(table: ImageTable, seed: int | None = None) -> dict:
    """The splits of a table, made when there are none yet, and checked.

    See :func:`current_splits` for how.

    Parameters
    ----------
    seed : int, optional
        Draw others from it, of as many folds and repeats; they are not saved.

    Raises
    ------
    UserError
        When the file is damaged, belongs to other data (saying what differs), shares an image or a group between
        train, dev and test, or does not test every image once per repeat; or when others are to be drawn of splits
        that were given.
    """
    path = splits_file(table)
    if not path.exists():
        save_splits(current_splits(table), path)
    with readable(path):
        splits = json.loads(regular(path).read_text())
        check_same_data(table, splits, path)
        check_folds(table, splits, path)
    if seed is None:
        return splits
    if splits.get("given"):
        raise UserError(f"{path}: {GIVEN}")
    return make_splits(table, Stream(seed).at("resplit"), **{name: splits[name] for name in FOLDS})


def check_drawn(data: str) -> None:
    """Refuse splits that were given, where others are to be drawn.

    Raises
    ------
    UserError
        When there are such splits of these data.
    """
    path = splits_file(table := find_images(data))
    with readable(path):
        if table.parts is not None or (path.exists() and json.loads(regular(path).read_text()).get("given")):
            raise UserError(f"{path if path.exists() else table.root}: {GIVEN}")
