"""What the files that a learner's run has left say, as text or as a CSV table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def value_of(name: str, files: Mapping[Path, bytes]) -> float | None:
    """The number beside a name: ``seed=1`` in a file or its path, ``"seed": 1``, a column of a CSV, a file ``seed``."""
    after = re.compile(rf"(?<![A-Za-z_]){name}[\"'\s:=,_-]*({_NUMBER})")
    for path, content in files.items():
        text = content.decode(errors="ignore")
        rows = list(csv.reader(text.splitlines()[:2])) if name in text.partition("\n")[0] else []
        if len(rows) == 2 and len(rows[0]) == len(rows[1]) and name in rows[0]:
            text = f"{name}={rows[1][rows[0].index(name)]}"
        if found := after.search(f"{path} {text}"):
            return float(found[1])
    return None


def numbers_in(files: Mapping[Path, bytes]) -> Iterator[float]:
    """All numbers that some files, and their names, have as text."""
    for path, content in files.items():
        for found in re.findall(_NUMBER, f"{path} {content.decode(errors='ignore')}"):
            yield float(found)
