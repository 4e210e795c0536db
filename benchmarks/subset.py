"""A few photos of a folder in Oxford-IIIT Pet layout, as a folder of their own."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from common.cli import UserError
from common.data.sources import OXFORD_NAME
from common.seeds import Stream

AUDITED = ("--independent", "--waive", "near-copies", "what is measured is time")
"""Flags for photos whose groups nobody knows."""


def write_subset(source: Path, folder: Path, per_class: int, stream: Stream) -> None:
    """Copy `per_class` cats and as many dogs, drawn from `stream`, with their groups where there are any.

    Raises
    ------
    UserError
        When there are fewer.
    """
    files = sorted(path.name for path in (source / "images").iterdir() if OXFORD_NAME.fullmatch(path.name))
    (folder / "images").mkdir(parents=True)
    chosen = set()
    for species, capital in (("cats", True), ("dogs", False)):
        of_class = [name for name in files if name[0].isupper() == capital and not name.endswith(".mat")]
        if len(of_class) < per_class:
            raise UserError(f"{source / 'images'}: {len(of_class)} {species}; expected at least {per_class}")
        chosen |= set(stream.at(species).numpy().choice(of_class, per_class, replace=False).tolist())
    for name in chosen:
        shutil.copy(source / "images" / name, folder / "images")
    if (source / "groups.csv").exists():
        with open(source / "groups.csv", newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if Path(row["files"]).name in chosen]
        lines = ["files,group", *(f"{row['files']},{row['group']}" for row in rows)]
        (folder / "groups.csv").write_text("\n".join([*lines, ""]))
