"""Configs written as Python: the text of a config file that gives an equal config."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType
from typing import Any

from common.config.places import find_spaces, first_values
from common.config.spaces import FieldError
from common.state import PROJECT

CONFIG_MODULE = "config file "
"""How the names of modules begin that were run as a config file, and cannot be imported."""

_WIDTH = 88


def to_source(config: Any, chosen_on: Mapping[str, object] | None = None) -> str:
    """Write a config as Python that :func:`common.config.file.load_config` reads back to an equal one.

    Parameters
    ----------
    config : dataclass
        Holds dataclasses, dicts, lists, tuples, scalars, paths, enums, and classes or functions that can be imported,
        partials of them, and modules of PyTorch that keep their arguments under their own names.
    chosen_on : mapping of str to object, optional
        Becomes a variable of the file, see :func:`common.data.chosen_on`.

    Returns
    -------
    str
        The same for equal configs, one field per line, as ruff formats it. Floats are written by repr and so read back
        exactly. A class comes from the nearest package that exposes it; two of one name are told apart by their module.

    Raises
    ------
    FieldError
        If a value cannot be written.
    """
    first = _Writer(frozenset())
    first.text(config, type(config).__name__)
    homes = Counter(name for _, name in first.imports)
    writer = _Writer(frozenset(name for name, count in homes.items() if count > 1 or name == "config"))
    text = writer.text(config, type(config).__name__, column=len("config = "))
    chosen = f"chosen_on = {writer.text(dict(chosen_on), 'chosen_on', column=12)}\n" if chosen_on else ""
    return f"{_import_lines(writer.imports)}{chosen}config = {text}\n"


def check_source(config: Any) -> None:
    """Raise now what :func:`to_source` would raise of a config with any of the values that are searched.

    Raises
    ------
    FieldError
    """
    to_source(first_values(config))
    for place, space in find_spaces(config).items():
        for _, value in space.extremes():
            _Writer(frozenset()).text(value, f"{type(config).__name__}.{place}")


class _Writer:
    def __init__(self, ambiguous: frozenset[str]) -> None:
        self.ambiguous = ambiguous
        self.imports: set[tuple[str, str]] = set()

    def text(self, value: Any, field: str, indent: int = 0, column: int = 0) -> str:
        if isinstance(value, Enum):
            return f"{self._name(type(value), field)}.{value.name}"
        if isinstance(value, PurePath):
            return f"{self._name(Path if isinstance(value, Path) else type(value), field)}({_quoted(str(value))})"
        if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
            return self._name(value, field)
        if value is None or isinstance(value, bool):
            return repr(value)
        if isinstance(value, float):
            return float.__repr__(value) if math.isfinite(value) else f'float("{float(value)}")'
        if isinstance(value, int):
            return int.__repr__(value)
        if isinstance(value, str):
            return _quoted(value)
        return self._compound(value, field, indent, column)

    def _compound(self, value: Any, field: str, indent: int, column: int) -> str:
        is_record = dataclasses.is_dataclass(value)
        if is_record:
            opening, closing = f"{self._name(type(value), field)}(", ")"
            items = [(f"{f.name}=", f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
        elif type(value) is dict:
            opening, closing = "{}"
            items = [(f"{self.text(key, field)}: ", key, item) for key, item in value.items()]
        elif type(value) in (list, tuple):
            opening, closing = "[]" if type(value) is list else "()"
            items = [("", i, item) for i, item in enumerate(value)]
        elif isinstance(value, partial):
            opening, closing = f"{self._name(partial, field)}(", ")"
            items = [("", "func", value.func), *((f"{key}=", key, item) for key, item in value.keywords.items())]
        elif hasattr(value, "state_dict") and hasattr(value, "forward"):  # torch's, which is not imported for this
            from common.model.modules import arguments_of

            opening, closing = f"{self._name(type(value), field)}(", ")"
            items = [(f"{key}=", key, item) for key, item in arguments_of(value).items()]
        else:
            raise FieldError(field, f"expected a value that can be written as Python, found {value!r:.80}")
        inner = indent + 4
        parts = [start + self.text(item, f"{field}.{key}", inner, inner + len(start)) for start, key, item in items]
        line = f"{opening}{', '.join(parts)}{',' if type(value) is tuple and len(parts) == 1 else ''}{closing}"
        if not parts or not (is_record or "\n" in line or column + len(line) >= _WIDTH):
            return line
        return "\n".join([opening, *(f"{' ' * inner}{part}," for part in parts), " " * indent + closing])

    def _name(self, thing: Any, field: str) -> str:
        module, path = thing.__module__, thing.__qualname__
        head = path.split(".")[0]
        try:
            found = attrgetter(path)(sys.modules[module])
        except (AttributeError, KeyError):
            found = None
        if found is not thing or module == "__main__" or module.startswith(CONFIG_MODULE):
            raise FieldError(field, f"expected what can be imported from a module, found {thing!r}")
        if module == "builtins":
            return path
        packages = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        top = getattr(sys.modules[module], head)
        home = next((package for package in packages if getattr(sys.modules[package], head, None) is top), module)
        if head in self.ambiguous:
            self.imports.add((home, ""))
            return f"{home}.{path}"
        self.imports.add((home, head))
        return path


def _import_lines(imports: set[tuple[str, str]]) -> str:
    sections: list[list[str]] = [[], [], []]
    for plain in (True, False):
        for module in sorted({module for module, name in imports if (not name) is plain}):
            top = module.split(".")[0]
            names = sorted((name for home, name in imports if home == module and name and not plain), key=_import_order)
            line = f"from {module} import {', '.join(names)}" if names else f"import {module}"
            if len(line) > _WIDTH:
                line = "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])
            own = (PROJECT / top).is_dir() or (PROJECT / f"{top}.py").is_file()
            sections[0 if top in sys.stdlib_module_names else 2 if own else 1].append(line)
    return "".join("\n".join(section) + "\n\n" for section in sections if section)


def _import_order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def _quoted(text: str) -> str:
    written = str.__repr__(text)
    return written if '"' in text or written[0] == '"' else f'"{written[1:-1]}"'
