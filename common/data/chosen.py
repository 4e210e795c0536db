"""Where a config was chosen: the outer fold whose learning images decided on its settings."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from common.cli import escaped
from common.data.folding import Fold
from common.state import regular


def test_set_digest(images: Iterable[tuple[str, str]]) -> str:
    """SHA-256 (hex) of the escaped names and the digests of test images, in any order."""
    return hashlib.sha256(json.dumps(sorted(set(images))).encode()).hexdigest()


def chosen_on(table, folds: Sequence[Fold]) -> dict[str, object]:
    """What ``best_config.py`` says of the outer fold that it was chosen on: data, outer fold and its test images.

    Parameters
    ----------
    table : ImageTable
    folds : sequence of Fold
        The inner folds of one outer fold.
    """
    first = folds[0]
    return {"data": table.fingerprint[:16], "root_split": first.root_split, "test_set": _digest(table, first.test)}


def tested_elsewhere(path: Path, table, roots: Sequence[Sequence[Fold]]) -> str:
    """A warning where a config is tested on images that had a part in choosing it; else an empty text.

    Parameters
    ----------
    path : Path
        Config file; one without a variable ``chosen_on``, a literal as of :func:`chosen_on`, is not looked at.
    table : ImageTable
    roots : sequence of outer folds, each a sequence of its inner folds
    """
    names: object = {}
    for line in ast.parse(regular(path).read_bytes()).body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "chosen_on":
            with contextlib.suppress(ValueError):
                names = ast.literal_eval(line.value)
    if not isinstance(names, dict) or names.get("data") != table.fingerprint[:16]:
        return ""
    others = [folds[0].root_split for folds in roots if _digest(table, folds[0].test) != names.get("test_set")]
    if not others:
        return ""
    return (
        f"{path.name}: its settings were chosen on the learning images of outer fold {names.get('root_split')}, and "
        f"outer fold {', '.join(map(str, others))} tests some of these: scores there look better than they are"
    )


def _digest(table, rows: np.ndarray) -> str:
    return test_set_digest((escaped(table.files[row]), table.digests[row]) for row in rows)
