"""What each outer fold gave, on disk as soon as all of it has arrived: then its checkpoints are needed no more."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from common import progress
from common.state import whole_file
from common.tracking.outbox import outbox_of
from common.tracking.runs import open_root

Item = TypeVar("Item")
Result = TypeVar("Result")


class Kind(NamedTuple):
    """Results of one type: what JSON holds of one, and how it is had again from that."""

    type: type
    plain: Callable[[Any], Any]
    again: Callable[[Any], Any]


KINDS = {
    "table": Kind(
        pd.DataFrame,
        lambda table: [[name, str(table[name].dtype), table[name].tolist()] for name in table],
        lambda columns: pd.DataFrame({name: pd.Series(values, dtype=kind) for name, kind, values in columns}),
    ),
    "tuple": Kind(tuple, lambda items: [*map(_plain, items)], lambda items: tuple(map(_again, items))),
    "dict": Kind(dict, dict, dict),
}
"""By name, or by the module that adds it here when it is imported; JSON's own besides, but no lists."""


def once(function: Callable[[Item], Result], item: Item, n_fits: int) -> Result:
    """``function(item)`` for the inner folds of an outer fold, or what it gave before the run was interrupted.

    Parameters
    ----------
    n_fits : int
        Of one item; the bar moves on by as many where nothing is called.
    """
    root, folds = open_root(), item if isinstance(item, list) else []
    number = getattr(folds[0], "root_split", None) if folds else None
    if root is None or number is None:
        return function(item)
    path = root.checkpoint.with_name(f"root {number}.json")
    try:
        result = _read(path)
    except FileNotFoundError:
        pass
    except Exception as error:  # damaged, or the study is gone
        print(f"{path}: damaged, so it counts as absent ({type(error).__name__})", file=sys.stderr)
    else:
        progress.advance(n_fits)
        return result
    result = function(item)
    with contextlib.suppress(TypeError):  # such as networks, which are not kept
        outbox_of(root.uri).call(partial(_keep, path, json.dumps(_plain(result))))
    return result


def _keep(path: Path, text: str) -> None:
    """Called when what comes before it is stored."""
    with contextlib.suppress(OSError):  # no space: the checkpoints stay
        with whole_file(path, "w") as file:
            file.write(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
        for checkpoint in path.parent.glob(f"{path.stem} *"):
            checkpoint.unlink(missing_ok=True)


def _read(path: Path) -> Any:
    digest, _, text = path.read_text(encoding="utf-8").partition("\n")
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError("wrong checksum")
    return _again(json.loads(text))


def _plain(value: Any) -> Any:
    for name, kind in KINDS.items():
        if isinstance(value, kind.type):
            return {"kind": name, "value": kind.plain(value)}
    if isinstance(value, list):
        raise TypeError("a list of results")
    return value


def _again(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value["kind"] not in KINDS and value["kind"].startswith("common."):
        importlib.import_module(value["kind"])
    return KINDS[value["kind"]].again(value["value"])
