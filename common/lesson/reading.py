"""Code in a lesson: the difference between two steps side by side, and the source of a function.

JupyterLab strips style sheets from the outputs of a notebook that was not run here: styles stand at the elements.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap
from difflib import SequenceMatcher
from pathlib import Path

from IPython.display import HTML
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from common.cli import UserError
from common.state import PROJECT

_FONT = "font:11px/1.4 monospace;color:#1f2328"
_CODE = f"{_FONT};background:#f6f8fa;white-space:pre;overflow-x:auto;padding:6px"
_TABLE = f"{_FONT};overflow-wrap:break-word;table-layout:fixed;width:100%"
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap"
_WHITE, _RED, _GREEN, _GREY = "#fff", "#ffebe9", "#dafbe1", "#f6f8fa"
MOST_LINES = 40
"""Lines of the library that a lesson shows at once."""
_ALIKE = 0.5
"""How much of two lines, from 0 to 1, is the same where one has become the other."""


def delta(step: int, context: int = 2) -> HTML:
    """The difference between train.py of the step before and of this one, as they are now, side by side and folded.

    Parameters
    ----------
    step : int
        From 2.
    context : int
        Unchanged lines shown around each change.
    """
    scripts = [f"step_{step - 1}/train.py", f"step_{step}/train.py"]
    pairs = paired_lines(*((PROJECT / script).read_text() for script in scripts))
    changed = {row for row, (left, right) in enumerate(pairs) if left != right}
    near = {row + i for row in changed for i in range(-context, context + 1)}
    head = f'<th style="{_CELL};padding:4px 6px;background:#eaeef2">'
    rows = ["".join(f"{head}{script}</th>" for script in scripts)]
    last = 0
    for row in sorted(near.intersection(range(len(pairs)))):
        if row > last + 1:
            rows.append(2 * _cell("…", _GREY))
        left, right = pairs[row]
        colours = (_RED, _GREEN) if row in changed else (_WHITE, _WHITE)
        rows.append(_cell(left, colours[0]) + _cell(right, colours[1]))
        last = row
    title = f"what step {step} changes in train.py ({len(changed)} lines)"
    table = f'<table style="{_TABLE}">{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'
    return HTML(f'<details><summary style="cursor:pointer">{title}</summary>{table}</details>')


def source(*things: object, docstrings: bool = True) -> HTML:
    """The source of functions, properties, classes or files, highlighted, and folded until it is clicked.

    Parameters
    ----------
    things : function, property, class or Path
    docstrings : bool
        Whether those of functions and classes are shown.

    Raises
    ------
    UserError
        When these are more than :data:`MOST_LINES`: nobody reads them, so a lesson shows less, or links to the file.
    """
    texts = [_text(thing) if docstrings else _without_docstrings(_text(thing)) for thing in things]
    code = "\n\n".join(text.rstrip() for text in texts)
    names = ", ".join(_name(thing) for thing in things)
    lines = len(code.splitlines())
    if lines > MOST_LINES:
        advice = "leave some out, or the docstrings (docstrings=False), or name the file to read"
        raise UserError(f"source of {names}: {lines} lines; a lesson shows at most {MOST_LINES} at once: {advice}")
    formatter = HtmlFormatter(noclasses=True, nobackground=True, prestyles=_CODE)
    title = f"source of {html.escape(names)} ({lines} lines)"
    shown = highlight(code, PythonLexer(), formatter)
    return HTML(f'<details><summary style="cursor:pointer">{title}</summary>{shown}</details>')


def _name(thing: object) -> str:
    if isinstance(thing, Path):
        return str(thing.relative_to(PROJECT)) if thing.is_relative_to(PROJECT) else thing.name
    thing = thing.fget if isinstance(thing, property) else thing
    return getattr(thing, "__qualname__", getattr(thing, "__name__", type(thing).__name__))


def _text(thing: object) -> str:
    if isinstance(thing, Path):
        return thing.read_text()
    return textwrap.dedent(inspect.getsource(thing.fget if isinstance(thing, property) else thing))


def _without_docstrings(code: str) -> str:
    told = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, told) and ast.get_docstring(node)]
    dropped = {line for node in nodes for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    return "\n".join(line for i, line in enumerate(code.splitlines(), 1) if i not in dropped).lstrip("\n")


def paired_lines(before: str, now: str) -> list[tuple[str | None, str | None]]:
    """The lines of two scripts side by side, each in its order; None is beside a line that has no partner.

    Functions are paired by name. In them, and above the first, lines are paired when they are equal, or so alike that
    one has become the other.
    """
    blocks = [_blocks(script) for script in (before, now)]
    names = [list(each) for each in blocks]
    pairs = []
    for kind, a, b, c, d in SequenceMatcher(None, *names, autojunk=False).get_opcodes():
        if kind == "equal":
            for name in names[0][a:b]:
                pairs += _paired(blocks[0][name], blocks[1][name])
        else:
            pairs += [(line, None) for name in names[0][a:b] for line in blocks[0][name]]
            pairs += [(None, line) for name in names[1][c:d] for line in blocks[1][name]]
    return pairs


def _blocks(script: str) -> dict[str, list[str]]:
    """The lines of a script by the function that they belong to; those above the first have no name."""
    blocks, name = {"": []}, ""
    for line in script.splitlines():
        if line.startswith("def "):
            name = line.split("(")[0]
        blocks.setdefault(name, []).append(line)
    return blocks


def _paired(before: list[str], now: list[str]) -> list[tuple[str | None, str | None]]:
    pairs = []
    for kind, a, b, c, d in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        pairs += zip(before[a:b], now[c:d], strict=True) if kind == "equal" else _alike(before[a:b], now[c:d])
    return pairs


def _alike(before: list[str], now: list[str]) -> list[tuple[str | None, str | None]]:
    ratios = ((SequenceMatcher(None, a, b).ratio(), i, j) for i, a in enumerate(before) for j, b in enumerate(now))
    ratio, i, j = max(ratios, key=lambda each: each[0], default=(0, 0, 0))
    if ratio < _ALIKE:
        return [*((line, None) for line in before), *((None, line) for line in now)]
    return [*_alike(before[:i], now[:j]), (before[i], now[j]), *_alike(before[i + 1 :], now[j + 1 :])]


def _cell(line: str | None, background: str) -> str:
    """A table cell with a line of code; where it is too long it goes on four characters further in than it began."""
    if line is None:
        return f'<td style="background:{_GREY}"></td>'
    hanging = 0.6 * (len(line) - len(line.lstrip()) + 4)
    style = f"{_CELL};background:{background};padding:0 6px 0 {hanging + 0.6:.1f}em;text-indent:-{hanging:.1f}em"
    code = re.sub(r"[\w.]+(-\w+)+", r"<nobr>\g<0></nobr>", html.escape(line).replace("(", "(<wbr>"))
    return f'<td style="{style}">{code or "&nbsp;"}</td>'
