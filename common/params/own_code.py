"""The code that a caller's own functions and objects bring, whether from a script, a notebook or modules of theirs."""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from common.tracking.code import code_digests, without_texts
from common.tracking.identity import in_words

PLAIN = (bool, int, float, str, bytes, tuple, frozenset, type(None))


def own_code(things: Mapping[str, Any], scripts: set[str | None]) -> dict[str, str]:
    """What results depend on of some functions, classes and objects, and of all that these use by its name.

    Of the modules in `scripts` only the functions and classes that are used count, since a script holds settings too;
    of others the file, with what it imports. Constants count by their value; lists and dicts do not, as they may change
    while it runs.

    Parameters
    ----------
    things : dict from name to object
    scripts : set of str or None
        Names of modules; None for code without one.

    Returns
    -------
    dict
        As in :func:`common.tracking.identity.identity`: ``code.NAME``, ``settings.NAME``, and ``NAME`` for a module of
        PyTorch such as a loss, or an array.
    """
    parts: dict[str, str] = {}
    files: set[Path] = set()
    seen: set[int] = set()
    todo = list(things.items())
    while todo:
        name, thing = todo.pop()
        if id(thing) in seen and not isinstance(thing, PLAIN):
            continue
        seen.add(id(thing))
        if isinstance(thing, PLAIN):
            parts[f"settings.{name}"] = in_words(thing)
        elif isinstance(thing, partial):
            todo += [(name, thing.func), (f"{name}.args", thing.args)]
            todo += [(f"{name}.{key}", value) for key, value in thing.keywords.items()]
        elif isinstance(thing, MethodType):
            todo += [(name, thing.__func__), (type(thing.__self__).__name__, type(thing.__self__))]
        elif isinstance(thing, torch.Tensor | np.ndarray):
            parts[name] = _digest(thing)
        elif not isinstance(thing, FunctionType | type | ModuleType):
            if isinstance(thing, torch.nn.Module):
                parts[name] = _settings_of(thing)
            todo.append((type(thing).__name__, type(thing)))
        elif isinstance(thing, ModuleType) or thing.__module__ not in scripts:
            module = thing if isinstance(thing, ModuleType) else sys.modules.get(thing.__module__)
            file = getattr(module, "__file__", None)
            files |= {Path(file)} if file else set()
        else:
            title = getattr(thing, "__qualname__", "")
            key = f"code.{title}"
            parts[key] = parts.get(key, "") + _source(thing)  # two may have one name, as lambdas do
            if things.get(name) is thing:
                parts[f"settings.{name}"] = title
            functions = [thing] if isinstance(thing, FunctionType) else vars(thing).values()
            for function in functions:
                todo += _used(function) if isinstance(function, FunctionType) else ()
    return parts | {f"code.{name}": digest for name, digest in code_digests(files).items()}


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function finds by name outside of itself, less what it changes there."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    around = {name: cell.cell_contents for name, cell in cells if cell != type(cell)()}
    around |= {f"{function.__name__}.{name}": value for name, value in _defaults(function).items()}
    names, changed = set(around), set()
    for instruction in (one for code in _codes(function.__code__) for one in dis.get_instructions(code)):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "STORE_DEREF"):
            changed.add(instruction.argval)
    known = function.__globals__ | around
    for name in sorted(names - changed):
        if name in known:
            yield name, known[name]


def _defaults(function: FunctionType) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _source(thing: FunctionType | type) -> str:
    """A digest of its syntax without comments and docstrings, or of its byte code where the source is not known."""
    try:
        if thing.__name__ == "<lambda>":  # its source is the line around it
            raise OSError
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        text = ast.dump(without_texts(tree))
    except (OSError, TypeError, SyntaxError):
        functions = [thing] if isinstance(thing, FunctionType) else vars(thing).values()
        codes = [code for f in functions if isinstance(f, FunctionType) for code in _codes(f.__code__)]
        constants = [[c for c in code.co_consts if isinstance(c, PLAIN)] for code in codes]
        text = repr([(code.co_code, code.co_names, plain) for code, plain in zip(codes, constants, strict=True)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _settings_of(module: torch.nn.Module) -> str:
    """A digest of a loss or metric: its layers, its plain attributes and its buffers."""
    settings = [repr(module)]
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if isinstance(value, PLAIN) and key[:1] != "_"}
        settings.append(repr((name, sorted((key, value) for key, value in plain.items() if key != "training"))))
    settings += [f"{name} {_digest(buffer)}" for name, buffer in module.named_buffers()]
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:8]


def _digest(values: torch.Tensor | np.ndarray) -> str:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return hashlib.sha256(repr((array.shape, array.dtype)).encode() + array.tobytes()).hexdigest()[:8]
