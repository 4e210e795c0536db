"""Audits data before anything is trained on them: copies, patients on both sides of a split, shortcuts.

``python -m common.evidence.audit --data …``; the scripts from step 3 on do the same before a run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common import cli, data
from common.cli import SOURCES
from common.data.folding import Fold
from common.data.scans import UNSURE
from common.evidence.audit_page import audit_page
from common.evidence.findings import PERMUTATIONS, Audit, Finding, as_json, counted, named, waivers
from common.evidence.flow import flow_of
from common.evidence.medical_tags import of_one_patient, privacy
from common.state import cache_folder, data_folder, whole_file

WARNS, STOPS = 0.6, 0.8
"""Lower limit of a shortcut's ROC AUC from which on it is a warning, and a stop."""
VERSION = 3
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
    found = make()
    if table.cached:
        with whole_file(path, "w") as file:
            json.dump(found, file)
    return found


def _of_images(table, units: np.ndarray) -> dict:
    def make() -> dict:
        from common.evidence.looking import look_at_images  # over a second

        return look_at_images(table, units)

    return _kept(table, str(table.pixels.shape[-1]), make)


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

    def make() -> dict:
        from common.evidence.looking import look_at_folds  # over a second

        return look_at_folds(table, groups, folds, features)

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


def before_run(table, roots, args) -> dict[str, str]:
    """The audit before a run, which ends it where results would be wrong; returns its files by their names.

    Parameters
    ----------
    roots : nested lists of Fold
    args : argparse.Namespace
        The flags of a script from step 3 on.

    Raises
    ------
    UserError
        After a line for each finding.
    """
    folds = [fold for folds in roots for fold in folds]
    found = audit(table, folds, coarse_features(table), args.independent, waivers(args.waive))
    _say(found, table)
    found.check_stops()
    flow = json.dumps(flow_of(table, folds))
    return {"audit.json": as_json(found), "audit.html": audit_page(found, table), "flow.json": flow}


def _say(found: Audit, table, path: Path | None = None) -> None:
    print("\n".join(found.lines()))
    if path is None and found.stops:
        path = cache_folder() / f"audit-{found.fingerprint[:24]}.html"
    if path is not None:
        with whole_file(path, "w") as file:
            file.write(audit_page(found, table))
        print(f"page: {path}")


def main(argv: list[str] | None = None) -> Audit:
    """The command: ``python -m common.evidence.audit --data …``."""
    from common import training
    from common.config import TrainingConfig
    from common.evidence.untouched import touched_by_test
    from common.seeds import Stream
    from common.training.features import frozen_features

    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    cli.audit_flags(flags)
    flags.add_argument("--backbone", default="small_cnn", metavar="NAME", help="of the frozen features")
    flags.add_argument("--image-size", type=cli.whole_number(16, 1024), default=64, metavar="N", help="pixels per side")
    flags.add_argument("--output", type=Path, default=Path("audit.html"), metavar="FILE", help="(default: %(default)s)")
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = flags.parse_args(argv)
    waived = waivers(args.waive)
    table = data.load_images(args.data, args.image_size, args.skip_unreadable, not args.no_cache)
    splits = data.current_splits(table)
    folds = [data.folds_of(splits, root, 1)[0] for root in range(len(splits["root_splits"]))]
    config = TrainingConfig(backbone=args.backbone, image_size=args.image_size)
    compute = training.set_up(parallel_fits=1, config=config)
    features = frozen_features(training.new_model(config, table, compute, Stream(0)), table)
    found = audit(table, folds, features, args.independent, waived)
    touched = touched_by_test(table, folds[0], config, compute)
    found.checks["fitted-state"] = "the same to the last bit" if not touched else f"{len(touched)} values differ"
    if touched:
        text = f"with other test images, {', '.join(touched[:3])} differ before the test; expected the same values"
        found.findings.append(Finding("fitted-state", "stop", text))
    _say(found, table, args.output)
    if args.json:
        print(as_json(found))
    found.check_stops()
    return found


if __name__ == "__main__":
    cli.run(main)
