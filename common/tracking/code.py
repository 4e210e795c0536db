"""The code that a run's numbers depend on: what its script and config reach by import, as syntax without docstrings."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from common.cli import WINGS
from common.state import PROJECT

SHOWS = {
    "cli",
    "events",
    "interrupting",
    "lesson",
    "locks",
    "moved",
    "plots",
    "production",
    "progress",
    "tracking",
    "versions",
}
"""Rooms of `common` that only show, tell or keep: no number depends on them."""
REPORTS = {"compare.py", "ending.py", "repeats.py", "results_text.py"}
"""What does so in `common/evaluation`."""


def code_digests(starts: Iterable[Path]) -> dict[str, str]:
    """A digest of each file of code that is reached from some files by import; comments and layout change none.

    A wing counts where the files themselves reach it, not where the core does, which imports it only when asked to.
    Packages that are installed do not count.

    Returns
    -------
    dict from path to str
        Paths in the project folder are relative to it.
    """

    def leads(importer: Path, imported: Path) -> bool:
        return not (_is_core(importer) and _room(imported) in WINGS)

    found = reached(starts, _computes, leads)
    return dict(sorted((_name(path), digest[:8]) for path, digest in found.items()))


def reached(
    starts: Iterable[Path],
    counts: Callable[[Path], bool],
    leads: Callable[[Path, Path], bool] = lambda importer, imported: True,
) -> dict[Path, str]:
    """The files of code that some files reach by import, also later, with the SHA-256 of their syntax without texts.

    Parameters
    ----------
    counts : callable
        Whether a file is to be looked at.
    leads : callable
        Whether the way from a file to one that it imports is to be gone.
    """
    found: dict[Path, str] = {}
    todo = [Path(start).resolve() for start in starts]
    while todo:
        path = todo.pop()
        if path not in found and path.is_file() and counts(path):
            found[path], nodes = _syntax(path.read_bytes())
            todo += [other for other in _imported(nodes, path) if leads(path, other)]
    return found


@cache
def _syntax(content: bytes) -> tuple[str, list[ast.AST]]:
    """The digest of a file of code, and the imports and names in strings in it: read once, however many runs begin."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # such as a module that is no longer what was loaded
        tree = ast.Module([], [])
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) or _is_name(node)]
    return hashlib.sha256(ast.dump(without_texts(tree)).encode()).hexdigest(), nodes


@cache
def _stub(content: bytes) -> list[ast.ImportFrom]:
    return [node for node in ast.parse(content).body if isinstance(node, ast.ImportFrom)]


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def _room(path: Path) -> str | None:
    """The room of `common` that a file lies in."""
    inside = path.relative_to(PROJECT).parts if path.is_relative_to(PROJECT) else ()
    return inside[1].removesuffix(".py") if len(inside) > 1 and inside[0] == "common" else None


def _is_core(path: Path) -> bool:
    room = _room(path)
    return room is not None and room not in WINGS


def _computes(path: Path) -> bool:
    if path.suffix != ".py" or _room(path) in SHOWS:
        return False
    if _room(path) == "evaluation" and path.name in REPORTS:
        return False
    return not is_installed(path)


def is_installed(path: Path) -> bool:
    """Whether a file is of Python itself, or of a package that is installed."""
    return "site-packages" in path.parts or path.is_relative_to(_standard_library())


@cache
def _standard_library() -> str:
    return sysconfig.get_path("stdlib")


def _imported(nodes: Iterable[ast.AST], path: Path) -> Iterator[Path]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, path)
        elif isinstance(node, ast.ImportFrom):
            above = path.parents[node.level - 1] if node.level else None
            for alias in node.names:
                yield from _files(".".join(filter(None, [node.module, alias.name])), path, above)
                yield from _files(node.module or "", path, above, alias.name)
        elif isinstance(node, ast.Constant) and path.name == "__init__.py":
            yield path.with_name(f"{node.value}.py")  # a lazy package names its modules in strings


def _files(module: str, importer: Path, folder: Path | None = None, name: str | None = None) -> Iterator[Path]:
    """The file of a module; of a package its own, and what its stub says that a name, or all of it, comes from."""
    places = [folder] if folder else [PROJECT, importer.parent]
    for base in (place.joinpath(*module.split(".")) for place in places if module):
        if base.with_suffix(".py").is_file():
            yield base.with_suffix(".py")
            return
        if (base / "__init__.py").is_file():
            yield base / "__init__.py"
            yield (stub := base / "__init__.pyi")
            for node in _stub(stub.read_bytes()) if stub.is_file() else []:
                if name in (None, *(alias.name for alias in node.names)):
                    yield base / f"{node.module}.py"
            return
    file = getattr(sys.modules.get(module), "__file__", None)
    if file and folder is None:
        yield Path(file).resolve()


def without_texts(tree: ast.Module) -> ast.Module:
    """A syntax tree without statements that are a text alone, as docstrings are."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [s for s in block if not _is_text(s)])
    return tree


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).isidentifier()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
