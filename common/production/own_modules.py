"""Modules of the user's own that a network is made of: they travel with a registered model, and are its alone."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from common.state import PROJECT
from common.tracking.code import is_installed, reached


def copy_own_code(networks: Iterable[nn.Module], folder: Path) -> None:
    """Copy the modules that networks and their transforms come from, and what these import, as they are imported.

    Packages that are installed, and `common`, are left out.

    Parameters
    ----------
    networks : iterable of nn.Module
        Their ``settings`` say what they are made of, see :func:`common.model.make_classifier`.
    folder : Path
        There already.
    """
    modules = {name for network in networks for name in _modules(getattr(network, "settings", {}))}
    files = {file for name in modules if (file := importlib.import_module(name).__file__)}
    found = reached(map(Path, files), _is_own)
    while packages := {init for path in found if (init := _package(path)).is_file()} - found.keys():
        found = reached({*found, *packages}, _is_own)
    loaded = {Path(file).resolve(): name for name, file in _loaded()}
    places = {path: _place(path, loaded[path]) for path in found if path in loaded}
    roots = sorted({path.parents[len(place.parts) - 1] for path, place in places.items()}, key=lambda p: len(p.parts))
    for path in found:  # what is not loaded is imported later, from beside the others
        root = [path.parent, *(root for root in roots if path.is_relative_to(root))][-1]
        place = places.get(path) or path.relative_to(root)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / place)


@contextlib.contextmanager
def own_modules_of(model: Path) -> Iterator[None]:
    """While a model is loaded its modules come from its folder, whatever modules of these names there are here."""
    code = model / "code"
    names = {path.stem for path in code.iterdir()} - {"common"} if code.is_dir() else set()

    def take_out() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}

    before, path = take_out(), sys.path
    try:
        yield
    finally:
        take_out()
        sys.modules.update(before)
        sys.path = path  # MLflow has put the model's folder first, for processes to come as well


def _modules(record: Any) -> Iterator[str]:
    """The modules that a record of :func:`common.model.modules.as_record` names."""
    if isinstance(record, dict):
        for key in ("call", "name"):
            if isinstance(path := record.get(key), str):
                yield path.partition(":")[0]
    for part in record.values() if isinstance(record, dict) else record if isinstance(record, list) else ():
        yield from _modules(part)


def _is_own(path: Path) -> bool:
    return path.suffix == ".py" and not path.is_relative_to(PROJECT / "common") and not is_installed(path)


def _loaded() -> Iterator[tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        if file := getattr(module, "__file__", None):
            yield name, file


def _place(path: Path, module: str) -> Path:
    base = Path(*module.split("."))
    return base / path.name if path.name == "__init__.py" else base.with_suffix(".py")


def _package(path: Path) -> Path:
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    return folder / "__init__.py"
