"""The checks of an audit, on data and splits: copies, groups on both sides, shortcuts, what is known too early."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from common.cli import SOURCES, UserError
from common.data.folding import Fold
from common.data.scans import UNSURE
from common.evidence.findings import PERMUTATIONS, Audit, Finding, counted, named
from common.evidence.medical_tags import of_one_patient, privacy
from common.state import cache_folder, data_folder, whole_file
from common.training.elsewhere import elsewhere

WARNS, STOPS = 0.6, 0.8
"""Lower limit of a shortcut's ROC AUC from which on it is a warning, and a stop."""
VERSION = 4
"""Of what is kept under ``cache/``."""
GROUP_THEM = "expected one group for each such pair in groups.csv"


def audit(
    table,
    folds: Sequence[Fold],
    features: np.ndarray,
    independent: bool = False,
    waived: dict[str, str] | None = None,
) -> Audit:
    """Look at data and their splits; see :data:`common.evidence.findings.CHECKS` for what.

    What depends on the images alone is kept under ``cache/``, by their fingerprint.

    Parameters
    ----------
    table : ImageTable
        Decoded.
    folds : sequence of Fold
        Those that are to be run.
    features : ndarray, shape (n, d)
        Of a frozen backbone, or others that show what is on the images.
    independent : bool
        Whether a person says that no two images are of one group.
    waived : dict from str to str
        See :func:`common.evidence.findings.waivers`.
    """
    units = np.arange(len(table)) if table.unit_of is None else table.unit_of
    of_images = _of_images(table, units)
    checks, findings = {}, []
    for name, (how, found) in {
        "copies": _copies(table),
        "near-copies": _near_copies(table, units, folds, of_images),
        "identity": _identity(table, units, folds, of_images, independent),
        "shortcuts": _shortcuts(of_images),
        "privacy": privacy(table, of_images["tags"]),
        "pipeline": _pipeline(table, units, folds, features),
    }.items():
        if how:
            checks[name] = how
        findings += found
    return Audit(table.name, table.fingerprint, checks, findings, waived or {})


def _kept(table, name: str, make: Callable[[], dict]) -> dict:
    """What is kept under ``cache/`` of such images, or made and kept."""
    path = cache_folder() / f"audit-{VERSION}-{table.fingerprint[:24]}-{name}.json"
    if table.cached and path.exists():
        try:
            return json.loads(path.read_text())
        except ValueError:
            pass  # damaged: made again
    is_on_disk = isinstance(table.pixels, np.memmap)
    found = elsewhere(make)() if is_on_disk else make()  # a script with processes does without what it imports
    if table.cached:
        try:
            with whole_file(path, "w") as file:
                json.dump(found, file)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); --no-cache does without the cache"
            raise UserError(f"{path}: {reason}") from error
    return found


def _of_images(table, units: np.ndarray) -> dict:
    return _kept(table, str(table.pixels.shape[-1]), partial(_look_at_images, table, units))


def _look_at_images(table, units: np.ndarray) -> dict:
    from common.evidence.looking import look_at_images  # over a second

    return look_at_images(table, units)


def _look_at_folds(table, groups: np.ndarray, folds: Sequence[Fold], features: np.ndarray) -> dict:
    from common.evidence.looking import look_at_folds

    return look_at_folds(table, groups, folds, features)


def _copies(table) -> tuple[str, list[Finding]]:
    first = table.same_as
    rows = np.flatnonzero(first != np.arange(len(first)))
    if not rows.size:
        return "none", []
    pairs = [(table.files[first[row]], table.files[row], "copy", 1.0) for row in rows]
    also = "" if table.groups is None else ", with their groups"
    text = (
        f"{counted(len(rows), 'image')} with the pixels of another ({named(pairs)}); on one side of every split{also}"
    )
    return f"{len(rows)}", [Finding("copies", "note", text, pairs)]


def _near_copies(table, units: np.ndarray, folds: Sequence[Fold], of_images: dict) -> tuple[str, list[Finding]]:
    if of_images["alike"] is None:
        return "arrays are not compared", []
    findings = []
    apart = _apart(folds, units)
    for kind, level, what in (("copy", "stop", "nearly the same"), ("crop", "warn", "one cut out of the other")):
        pairs = [pair for pair in of_images["alike"] if pair[2] == kind]
        for is_apart in (True, False):
            those = [
                (table.files[i], table.files[j], kind, likeness)
                for i, j, _, likeness in pairs
                if bool(apart(i, j)) == is_apart
            ]
            if those:
                where = "with one for learning and one for testing" if is_apart else "of different groups"
                text = f"{counted(len(those), 'pair')} of images, {what}, {where} ({named(those)}); {GROUP_THEM}"
                findings.append(Finding("near-copies", level if is_apart else "warn", text, those))
    plural = {"copy": "copies", "crop": "crops"}
    notes = [f"; {plural[kind]} cannot be told: {why}" for kind, why in of_images["untold"].items()]
    return f"{counted(len(of_images['alike']), 'pair')}{''.join(notes)}", findings


def _identity(
    table, units: np.ndarray, folds: Sequence[Fold], of_images: dict, independent: bool
) -> tuple[str, list[Finding]]:
    pairs = [
        (table.files[i], table.files[j], "taken together", math.nan)
        for i, j in of_images["together"]
        if units[i] != units[j]
    ]
    findings = []
    if pairs:
        text = f"{counted(len(pairs), 'pair')} of photos by one camera, within a minute ({named(pairs)}); {GROUP_THEM}"
        findings.append(Finding("identity", "stop", text, pairs))
    findings += of_one_patient(table, of_images["tags"])
    is_ours = table.name in SOURCES and table.root.is_relative_to(data_folder())
    grouped = table.groups is not None and table.grouped_by not in UNSURE
    known = grouped or table.parts is not None or independent or is_ours
    if not known and not of_images["together"]:
        text = "nothing says which images are of one animal or patient; expected groups.csv (files,group), or "
        findings.append(Finding("identity", "stop", f"{text}--independent if no two are"))
    if grouped:
        kind = "groups" if table.grouped_by == "group" else f"{table.grouped_by}s"
        return f"{len(set(table.groups))} {kind}", findings
    return f"each {'image' if table.groups is None else table.grouped_by} is taken to be by itself", findings


def _shortcuts(of_images: dict) -> tuple[str, list[Finding]]:
    findings, told = [], []
    for name, (auc, low, high) in of_images["shortcuts"].items():
        told.append(f"{name} {auc:.2f} [{low:.2f}, {high:.2f}]")
        if low > WARNS:
            text = f"{name} alone tells the classes apart: ROC AUC {auc:.2f} [{low:.2f}, {high:.2f}]"
            findings.append(Finding("shortcuts", "stop" if low > STOPS else "warn", text))
    return "; ".join(told) or "nothing to look at", findings


def _pipeline(table, units: np.ndarray, folds: Sequence[Fold], features: np.ndarray) -> tuple[str, list[Finding]]:
    named = units if table.groups is None else np.unique(table.groups, return_inverse=True)[1]
    groups = np.unique(named, return_inverse=True)[1]
    make = partial(_look_at_folds, table, groups, folds, features)
    found = _kept(table, f"folds-{_digest(folds, features)}", make)
    if not found["n"]:
        return "too few groups to permute their labels", []
    how = f"ROC AUC {found['mean']:.2f} (SD {found['sd']:.2f}) after {PERMUTATIONS} permutations of the labels"
    if not found["away"]:
        return how, []
    return how, [Finding("pipeline", "stop", f"{how}; expected .5: something of the test images is known before")]


def _digest(folds: Sequence[Fold], features: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(features).tobytes())
    for fold in folds:
        for rows in (np.array([fold.root_split]), fold.train, fold.dev, fold.test):
            digest.update(rows.tobytes() + b"/")
    return digest.hexdigest()[:24]


def _apart(folds: Sequence[Fold], units: np.ndarray):
    """Whether two images are on both sides of the test of a fold."""
    sides = np.zeros((len({fold.root_split for fold in folds}), len(units)), np.int8)
    for number, root in enumerate(sorted({fold.root_split for fold in folds})):
        for fold in folds:
            if fold.root_split == root:
                sides[number, fold.train] = sides[number, fold.dev] = 1
                sides[number, fold.test] = 2
    return lambda i, j: ((sides[:, i] + sides[:, j] == 3) & (sides[:, i] != sides[:, j])).any()


def coarse_features(table) -> np.ndarray:
    """Means of 64 parts of each image or array: features that need no network."""
    width = int(np.prod(table.pixels.shape[1:]))
    edges = np.unique(np.linspace(0, width, 65).astype(int))[:-1]
    found = np.empty((len(table), len(edges)), np.float32)
    for start in range(0, len(table), 512):
        flat = np.asarray(table.pixels[start : start + 512], np.float32).reshape(-1, width)
        found[start : start + 512] = np.add.reduceat(flat, edges, axis=1)
    return found
