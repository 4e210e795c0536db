"""How images, and their groups, go from a data set into the folds of a run: counted before it, drawn in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from common.cli import escaped
from common.data.folding import Fold

WIDTH, LINE, MARGIN, GAP, LONGEST = 480, 22, 14, 26, 56
MOST = 6
"""Outer folds that are drawn; a table has them all."""
PARTS = ("train", "dev", "test")


def flow_of(table, folds: Iterable[Fold]) -> dict:
    """Images and groups in a data set and in each part of each fold of a run, for JSON.

    Parameters
    ----------
    table : ImageTable
    folds : iterable of Fold
        Those that are to be run.

    Returns
    -------
    dict
        ``all`` : [images, groups], the groups None where there are none; ``classes`` : by name the same;
        ``left_out`` : images that could not be read; ``copies`` : images with the pixels of another;
        ``root_splits`` : outer folds that the splits have; ``folds`` : for each fold ``root_split, inner_split`` and
        ``train, dev, test``, each [images, groups].
    """

    def count(rows: np.ndarray) -> list[int | None]:
        return [len(rows), None if table.groups is None else len(set(table.groups[rows]))]

    folds = list(folds)
    every = np.arange(len(table))
    return {
        "all": count(every),
        "classes": {escaped(name): count(every[table.labels == label]) for label, name in enumerate(table.classes)},
        "left_out": len(table.skipped),
        "copies": int((table.same_as != every).sum()),
        "root_splits": max(fold.root_splits for fold in folds),
        "folds": [
            {"root_split": fold.root_split, "inner_split": fold.inner_split}
            | {part: count(getattr(fold, part)) for part in PARTS}
            for fold in folds
        ],
    }


def amount(count: Sequence[int | None]) -> str:
    """[images, groups] in words: ``60 images of 15 groups``."""
    images, groups = count
    said = f"{images} image{'s' * (images != 1)}"
    return said if groups is None else f"{said} of {groups} group{'s' * (groups != 1)}"


def outer_folds(flow: Mapping) -> list[dict]:
    """The outer folds of a flow: the first inner fold of each, with the number of them as ``inner``."""
    first: dict[int, dict] = {}
    for fold in flow["folds"]:
        own = first.setdefault(fold["root_split"], fold | {"inner": 0})
        own["inner"] += 1
    return list(first.values())


def flow_diagram(flow: Mapping) -> str:
    """A flow of :func:`flow_of` as one SVG element, which needs nothing else and is as wide as there is room."""
    outer = outer_folds(flow)
    top = [f"All: {amount(flow['all'])}", *(f"{name}: {amount(count)}" for name, count in flow["classes"].items())]
    if flow["left_out"]:
        top.append(f"left out before, as they cannot be read: {flow['left_out']}")
    boxes = [top, [f"{len(outer)} of {flow['root_splits']} outer folds were run"]]
    for fold in outer[:MOST]:
        inner = f"in the first of {fold['inner']} inner folds:" if fold["inner"] > 1 else "in its inner fold:"
        lines = [f"Outer fold {fold['root_split']}", f"test: {amount(fold['test'])}", inner]
        boxes.append([*lines, *(f"    {part}: {amount(fold[part])}" for part in ("train", "dev"))])
    if len(outer) > MOST:
        boxes.append([f"{len(outer) - MOST} more outer folds: see the table"])
    told = escape("; ".join(line.strip() for box in boxes for line in box))
    drawn, height = _drawn(boxes)
    return (
        f'<svg class="flow" role="img" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>Flow of images into folds</title><desc>{told}</desc>{drawn}</svg>"
    )


def _drawn(boxes: Sequence[Sequence[str]]) -> tuple[str, int]:
    """The first box above the second, and the others to the right of a line that begins at the second."""
    parts: list[str] = []
    y, line_from = 2, 0
    for number, lines in enumerate(boxes):
        height, left = LINE * len(lines) + MARGIN, 2 if number < 2 else 40
        if number == 1:
            parts.append(f'<path d="M{WIDTH / 2:g} {y - GAP} v{GAP - 4} m-5 -7 l5 7 l5 -7"/>')
            line_from = y + height
        elif number:
            parts.append(f'<path d="M20 {line_from} V{y + height / 2:g} H36 m-7 -5 l7 5 l-7 5"/>')
        parts.append(f'<rect x="{left}" y="{y}" width="{WIDTH - left - 2}" height="{height}" rx="6"/>')
        for row, line in enumerate(lines):
            indent = 24 if line.startswith(" ") else 0
            shown = line.strip() if len(line) <= LONGEST else f"{line.strip()[: LONGEST - 3]}..."
            parts.append(f'<text x="{left + 12 + indent}" y="{y + LINE * (row + 1) - 1}">{escape(shown)}</text>')
        y += height + GAP // (1 if number == 0 else 2)
    return "".join(parts), y
