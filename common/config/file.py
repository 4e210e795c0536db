"""Config files: Python files whose variable `config` holds the settings, run and checked."""

from __future__ import annotations

import ast
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, TypeVar

from common.cli import Terminated, UserError, did_you_mean
from common.cli.converters import experiment, place, promotion, registered_name, whole_number
from common.config.checks import check_config
from common.config.settings import TrainingConfig
from common.config.source import CONFIG_MODULE, check_source
from common.config.spaces import FieldError
from common.state import regular

T = TypeVar("T")

DEFAULTS: dict[str, tuple[Callable[[str], object], type, ...]] = {
    "experiment": (experiment, str),
    "promotion": (promotion, str),
    "register": (registered_name, str),
    "data": (place, str, Path),
    **dict.fromkeys(("inner_splits", "n_trials", "root_splits"), (whole_number(1), int)),
}
"""Flags whose defaults a config file may set, as variables beside `config`: their converters, and classes of values."""


def load_config(path: str | Path, kind: type[T]) -> T:
    """Run a config file and return its variable `config`.

    Parameters
    ----------
    path : str or Path
        Python file. It may define other variables, and import whatever the running program can.
    kind : type
        Dataclass whose instance `config` must be.

    Raises
    ------
    UserError
        If the file cannot be read or run, `config` is missing or no `kind`, or a value is wrong
        (:func:`common.config.checks.check_config`). One line: file, line, field, value and what was expected.
    """
    return _config_of(*_run(path), path, kind)


def load_experiment(path: str | Path) -> tuple[list[TrainingConfig], dict[str, Any]]:
    """Run a config file and return its configs, one for each of its ``models``, and the flags that it sets.

    Parameters
    ----------
    path : str or Path
        As for :func:`load_config`. Its variable ``models``, if it has one, is a list of values for the field ``model``
        of ``config``; without it there is one config. A variable ``params`` may stand in place of ``config``, see
        :func:`common.params.from_params`; its messaging keys go into the environment, where they are not set already.

    Returns
    -------
    configs : list of TrainingConfig
    defaults : dict
        In place of the defaults of the flags of the same names: the file's variables among :data:`DEFAULTS`, and what
        ``params`` say of the whole experiment.

    Raises
    ------
    UserError
        As :func:`load_config`.
    """
    module, tree = _run(path)
    found = {name: value for name, value in vars(module).items() if name in DEFAULTS}
    with _errors_placed(path, tree, vars(module)):
        _check_defaults(found)
        _use(found)
    if "params" in vars(module):
        from common.params.experiment import for_experiment, from_params

        if "config" in vars(module):
            raise UserError(f"{path}: expected either `config` or `params`, found both")
        with _errors_placed(path, tree, vars(module)):
            module.config = from_params(module.params)
            found = for_experiment(module.params) | found
    configs = [_config_of(module, tree, path, TrainingConfig)]
    models = vars(module).get("models")
    if models is not None:
        with _errors_placed(path, tree, vars(module)):
            if not isinstance(models, (list, tuple)) or not models:
                raise FieldError("models", f"expected a list of networks, found {models!r:.80}")
            configs = [replace(configs[0], model=model) for model in models]
            _use({"models": [asdict(config) for config in configs]})
    with _errors_placed(path, tree, vars(module)):
        for config in configs:
            check_source(config)
    return configs, found


def _config_of(module: ModuleType, tree: ast.Module, path: str | Path, kind: type[T]) -> T:
    if "config" not in vars(module):
        near = did_you_mean("config", vars(module))
        raise UserError(f"{path}: expected a variable `config` of class {kind.__name__}, found none{near}")
    config = module.config
    with _errors_placed(path, tree, vars(module)):
        if not isinstance(config, kind):
            found = f"the class {config.__name__}" if isinstance(config, type) else f"{config!r:.80}"
            raise FieldError("config", f"expected a {kind.__name__}, found {found}")
        check_config(config)
        _use(asdict(config))
    return config


def _check_defaults(found: dict[str, Any]) -> None:
    for name, value in found.items():
        convert, *kinds = DEFAULTS[name]
        if value is None:
            continue
        if not isinstance(value, tuple(kinds)) or isinstance(value, bool):
            expected = "a whole number" if int in kinds else "a text"
            raise FieldError(name, f"expected {expected}, found {value!r:.80}")
        try:
            convert(str(value))
        except ArgumentTypeError as error:
            raise FieldError(name, str(error)) from error


def _use(values: dict[str, Any]) -> None:
    """Do with values what a run does when it records them: what goes wrong then goes wrong now."""
    for value in values.values():
        str(value), repr(value)


def _run(path: str | Path) -> tuple[ModuleType, ast.Module]:
    file = os.path.abspath(path)
    try:
        tree = ast.parse(regular(Path(file)).read_bytes(), file)
        code = compile(tree, file, "exec", dont_inherit=True)
    except OSError as error:
        raise UserError(f"{path}: expected a Python file that can be read: {error.strerror}") from error
    except SyntaxError as error:
        raise UserError(_one_line(path, error.lineno, f"{error.msg}: {error.text or ''}".rstrip(": \n"))) from error
    except ValueError as error:
        raise UserError(f"{path}: expected Python: {error}") from error
    module = ModuleType(CONFIG_MODULE + file)
    module.__file__ = file
    import_path = sys.path[:]
    sys.modules[module.__name__] = module  # dataclasses look there for what annotations name
    try:
        with _errors_placed(path, tree, vars(module)):
            exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    finally:
        sys.path[:] = import_path
    return module, tree


@contextmanager
def _errors_placed(path: str | Path, tree: ast.Module, names: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if type(error) in (KeyboardInterrupt, Terminated):  # Ctrl-C and SIGTERM; a config may raise what it likes
            raise
        frames = list(walk_tb(error.__traceback__))
        lines = [line for frame, line in frames if frame.f_code.co_filename == names["__file__"]]
        line = lines[-1] if lines else None
        try:
            line, text = _told(error, tree, line, frames[-1][0].f_globals, names)
        except BaseException:  # while its message was made
            text = f"{type(error).__name__}, whose message cannot be shown"
        raise UserError(_one_line(path, line, text)) from error


def _told(
    error: BaseException, tree: ast.Module, line: int | None, scope: dict[str, Any], names: dict[str, Any]
) -> tuple[int | None, str]:
    """The line that an error is about, and its text."""
    text = f"{type(error).__name__}: {error}"
    unknown = re.match(r"(?:.*\.)?(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, NameError):
        text += did_you_mean(error.name, names)
    elif isinstance(error, TypeError) and unknown:
        line, text = _unknown_field(*unknown.groups(), tree, line, [scope, names])
    if isinstance(error, FieldError):
        owner, *fields = error.field.split(".")
        keywords = filter(None, (_keyword(tree, owner, field, line) for field in fields or [owner]))
        line = next((keyword.value.lineno for keyword in keywords), line)
        if owner == "params":
            line = _line_of_key(tree, fields) or line
        elif owner == "config":
            line = _line_of_config(tree)
    return line, text


def _unknown_field(
    owner: str, field: str, tree: ast.Module, line: int | None, scopes: list[dict[str, Any]]
) -> tuple[int | None, str]:
    keyword = _keyword(tree, owner, field, line)
    found = f"{field}={ast.unparse(keyword.value)}" if keyword else field
    seen = [value if isinstance(value, type) else type(value) for scope in scopes for value in scope.values()]
    known = next((kind.__dataclass_fields__ for kind in seen if kind.__name__ == owner and is_dataclass(kind)), ())
    text = f"{owner}.{field}: expected a field of {owner}, found {found}{did_you_mean(field, known)}"
    return keyword.value.lineno if keyword else line, text


def _keyword(tree: ast.Module, owner: str, name: str, line: int | None) -> ast.keyword | None:
    found = [
        (ast.unparse(call.func).split(".")[-1] == owner, keyword)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and (line is None or call.lineno <= line <= call.end_lineno)
        for keyword in call.keywords
        if keyword.arg == name
    ]
    return max(found, key=lambda match: match[0])[1] if found else None


def _line_of_key(tree: ast.Module, keys: list[str]) -> int | None:
    """Where the last of some keys stands that dicts in the file have."""
    lines = {
        key.value: key.lineno
        for entry in ast.walk(tree)
        if isinstance(entry, ast.Dict)
        for key in entry.keys
        if isinstance(key, ast.Constant)
    }
    return next((lines[key] for key in reversed(keys) if key in lines), None)


def _line_of_config(tree: ast.Module) -> int:
    return max(
        (node.lineno for node in ast.walk(tree) if getattr(node, "id", getattr(node, "name", "")) == "config"),
        default=1,
    )


def _one_line(path: str | Path, line: int | None, text: str) -> str:
    return " ".join(f"{path}:{line}: {text}".split() if line else f"{path}: {text}".split())
