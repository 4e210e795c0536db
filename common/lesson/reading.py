"""Code in a lesson: the difference between two steps side by side, and the source of a function."""

from __future__ import annotations

import difflib
import html
import inspect

from IPython.display import HTML, Code

from common.cli import PROJECT

_STYLE = """<style>
.delta {font: 12px/1.35 monospace; border-collapse: collapse; width: 100%; table-layout: fixed}
table.delta.delta td {white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; padding: 0 6px;
  vertical-align: top; color: #1f2328; background: #fff}
table.delta.delta td.gone {background: #ffebe9}
table.delta.delta td.new {background: #dafbe1}
table.delta.delta td.gap {background: #f6f8fa}
table.delta.delta th {text-align: left; padding: 4px 6px; color: #1f2328; background: #eaeef2}
</style>"""


def delta(step: int, script: str = "train.py", context: int = 2) -> HTML:
    """The difference between the step before and this one, made from the files as they are now.

    Parameters
    ----------
    step : int
        From 2.
    script : str
        A file that both steps have.
    context : int
        Unchanged lines shown around each change.
    """
    folders = [f"step_{step - 1}", f"step_{step}"]
    before, now = ((PROJECT / folder / script).read_text().splitlines() for folder in folders)
    rows = []
    for group in difflib.SequenceMatcher(None, before, now, autojunk=False).get_grouped_opcodes(context):
        rows.append('<tr><td class="gap">…</td><td class="gap">…</td></tr>' if rows else "")
        for kind, a, b, c, d in group:
            for left, right in _side_by_side(before[a:b], now[c:d]):
                rows.append(
                    _cell(left, "gone" if kind != "equal" else "") + _cell(right, "new" if kind != "equal" else "")
                )
    head = "".join(f"<th>{folder}/{script}</th>" for folder in folders)
    body = "".join(row if row.startswith("<tr>") or not row else f"<tr>{row}</tr>" for row in rows)
    return HTML(f'{_STYLE}<table class="delta"><tr>{head}</tr>{body}</table>')


def source(*things: object) -> HTML:
    """The source of functions or classes, highlighted."""
    code = Code("\n\n".join(inspect.getsource(thing).rstrip() for thing in things), language="python")
    return HTML(code._repr_html_() + "<style>.output_html pre {font: 12px/1.35 monospace}</style>")


def _side_by_side(left: list[str], right: list[str]) -> list[tuple[str | None, str | None]]:
    n = max(len(left), len(right))
    return list(zip([*left, *[None] * (n - len(left))], [*right, *[None] * (n - len(right))], strict=True))


def _cell(line: str | None, kind: str) -> str:
    return f'<td class="{kind if line is not None else "gap"}">{html.escape(line or "")}</td>'
