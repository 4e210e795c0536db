"""What a run's results depend on: two runs of one identity give the same results, so one may go on with the other."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache, partial
from importlib.metadata import distributions
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from common.state import PROJECT
from common.tracking.code import code_digests

FLAGS = ("seed", "root_splits", "only_root_split", "inner_splits", "n_trials", "lag", "fast", "skip_unreadable")


def identity(step: int, args: argparse.Namespace, table, folds, config, compute) -> dict[str, str]:
    """Digests of the parts that results depend on, and the settings in plain words.

    Parameters
    ----------
    table : common.data.ImageTable
    folds : nested lists of common.data.Fold
    config : common.training.TrainingConfig
    compute : common.training.Compute

    Returns
    -------
    dict
        Keys ``data``, ``splits``, ``packages``, ``machine``, one ``code.FILE`` for each file of code, and one
        ``settings.NAME`` for each setting.
    """
    code = [PROJECT / f"step_{step}" / "train.py", *filter(None, [getattr(args, "config", None)]), *own_modules(config)]
    settings = flatten(config)
    settings |= {f"--{name.replace('_', '-')}": getattr(args, name) for name in FLAGS if hasattr(args, name)}
    return {
        "data": table.fingerprint[:16],
        "splits": _digest(*_indices(folds)),
        **surroundings(compute),
        **{f"code.{name}": digest for name, digest in code_digests(code).items()},
        **{f"settings.{name}": in_words(value) for name, value in settings.items()},
    }


def searched_all(settings: Mapping[str, str], root_split: str) -> bool:
    """Whether the search with this number is that on all images, which ``--register`` asks for.

    It has the number that follows those of the splits file's outer folds.

    Parameters
    ----------
    settings : mapping
        The root run's, as :func:`identity` has them, by name; where it has none the answer is no.
    """
    outer_folds = settings.get("--root-splits", "")
    return root_split.isdecimal() and outer_folds.isdecimal() and int(root_split) >= int(outer_folds)


def surroundings(compute) -> dict[str, str]:
    """The parts ``packages`` and ``machine`` of :func:`identity`."""
    return {
        "packages": _digest(*map(str.encode, packages())),
        "machine": f"{'mixed machines' if compute.mixed else compute.machine}, {compute.precision_description}",
    }


@cache
def packages() -> list[str]:
    """What is installed: ``name==version``, sorted."""
    return sorted(f"{found.name}=={found.version}" for found in distributions())


def fingerprint(parts: dict[str, str]) -> str:
    """One digest of all the parts."""
    return _digest(json.dumps(parts, sort_keys=True).encode())


def differences(parts: dict[str, str], others: dict[str, str]) -> list[str]:
    """The parts that differ, settings with their values: ``code of step_2/train.py``, ``--seed 0 (was 1)``."""
    found, files = [], []
    for name in sorted(parts.keys() | others.keys()):
        now, then = parts.get(name, "nothing"), others.get(name, "nothing")
        if now == then:
            continue
        if name.startswith("code."):
            files.append(f"code of {name.removeprefix('code.')}")
        elif name.startswith("settings.") or name == "machine":
            found.append(f"{name.removeprefix('settings.')} {now} (was {then})")
        else:
            found.append(name)
    return [*(files if len(files) <= 5 else [*files[:3], f"{len(files) - 3} other files"]), *found]


def own_modules(value: object) -> set[Path]:
    """Files that define what a config names: a network of one's own, its transforms, and so on."""
    if isinstance(value, partial):
        return own_modules(value.func) | own_modules(value.keywords)
    if is_dataclass(value) and not isinstance(value, type):
        return own_modules({field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, dict):
        return own_modules(list(value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(own_modules, value))
    kind = value if isinstance(value, (type, FunctionType)) else type(value)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return {Path(file)} if file else set()


def flatten(values: Any, prefix: str = "") -> dict[str, object]:
    """A dict or a dataclass with those within it, and arguments of partials, as one dict with dotted names."""
    flat: dict[str, object] = {}
    for name, value in (values if isinstance(values, dict) else asdict(values)).items():
        if isinstance(value, partial):
            flat[f"{prefix}{name}"] = value.func.__qualname__
            value = value.keywords
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, type):
            flat[f"{prefix}{name}"] = value.__qualname__
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def in_words(value: object) -> str:
    """Its repr, without where in the memory of this process something lies."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def count_folds(folds) -> int:
    """How many folds there are in nested lists of them."""
    return sum(map(count_folds, folds)) if isinstance(folds, (list, tuple)) else 1


def _indices(folds) -> list[bytes]:
    if isinstance(folds, (list, tuple)):
        return [part for some in folds for part in _indices(some)]
    return [np.asarray(rows, np.int64).tobytes() for rows in (folds.train, folds.dev, folds.test)]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]
