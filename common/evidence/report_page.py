"""A report as one HTML page that needs nothing else; each sentence with a number names its artifact."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from itertools import groupby

from common.evidence import statements as of
from common.evidence.building import Report, Section
from common.evidence.claims import embedded, without_claims
from common.evidence.sheets import document
from common.evidence.statements import Block, Cell, Source

_STYLE = """
main { overflow-wrap: break-word; }
nav ol { columns: 16rem; padding-left: 1.5rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; }
section.part { border: 0; margin: 0; padding: 0; }
section.stop { border: 2px solid #b3261e; padding: 0.2rem 1rem; }
a { color: #0b57d0; }
@media (prefers-color-scheme: dark) { a { color: #a8c7fa; } }
sup a { font-size: 0.75rem; text-decoration: none; padding: 0 0.1rem; }
.ask { align-items: baseline; column-gap: 1rem; display: flex; flex-wrap: wrap; justify-content: space-between; }
.ask, .lack, .answer { border: 1px dashed #888; border-radius: 6px; margin: 0.6rem 0; padding: 0.4rem 0.8rem; }
.lack { border: 1px solid #b3261e; }
.answer { border-style: solid; }
.answer p, .ask p { margin: 0.2rem 0; white-space: pre-line; }
pre { background: #8882; border-radius: 6px; font-size: 0.8rem; overflow-x: auto; padding: 0.8rem; }
table { font-size: 0.9rem; font-variant-numeric: tabular-nums; margin: 0.5rem 0 1rem; }
td code, td.long { overflow-wrap: anywhere; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0.5rem 0; }
figure img { background: #fff; border-radius: 6px; height: auto; max-width: 640px; width: 100%; }
svg.flow { display: block; max-width: 560px; width: 100%; }
svg.flow rect { fill: #8881; stroke: currentColor; stroke-opacity: 0.5; }
svg.flow path { fill: none; stroke: currentColor; }
svg.flow text { fill: currentColor; font: 14px system-ui, sans-serif; }
:target { background: #ffd54f55; }
@media print {
  nav { display: none; }
  body { font-size: 10.5pt; margin: 0; max-width: none; }
  .table, pre { overflow: visible; white-space: pre-wrap; }
  table { font-size: 8.5pt; }
  th, td { overflow-wrap: anywhere; padding-right: 0.5rem; }
  figure, tr, .ask, .answer, .lack, svg { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
}
"""


def report_page(report: Report, request: dict) -> str:
    """The page of a report.

    Parameters
    ----------
    report : Report
    request : dict
        What it is about, for JSON: with it the page can be made again.
    """
    contents = "".join(f'<li><a href="#{one.key}">{escape(one.title)}</a></li>' for one in report.sections)
    sections = "\n".join(_section(one, report.sources) for one in report.sections)
    body = f"""{_withheld(report.withheld)}
<nav aria-label="Contents"><ol>{contents}<li><a href="#sources">Sources</a></li></ol></nav>
{sections}
{_sources(report.sources)}
<script type="application/json" id="request">{embedded(request)}</script>
"""
    page = document(report.title, body, _STYLE)
    return without_claims(page) if report.withheld else page


def _withheld(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    lines = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return (
        '<section class="stop" aria-labelledby="withheld"><h2 id="withheld">Nothing is claimed here</h2>'
        "<p>How good these models are is not said, and pictures of their scores are left out. What was computed is "
        f"shown, but it may be wrong:</p><ul>{lines}</ul></section>"
    )


def _section(section: Section, sources: Sequence[Source]) -> str:
    parts = []
    for are_pictures, some in groupby(section.blocks, lambda block: isinstance(block, of.Shown)):
        made = "\n".join(_html(block, _Bound(getattr(block, "sources", ()), sources)) for block in some)
        parts.append(f'<div class="pictures">{made}</div>' if are_pictures else made)
    blocks = "\n".join(parts)
    return (
        f'<section class="part" aria-labelledby="{section.key}"><h2 id="{section.key}">{escape(section.title)}</h2>\n'
        f"{blocks}\n</section>"
    )


class _Bound:
    """Where a block comes from: as attributes of an element, and as links to the table of sources."""

    def __init__(self, own: Sequence[Source], every: Sequence[Source]):
        runs, artifacts, digests = zip(*own, strict=True) if own else ((), (), ())
        each = {"run": " ".join(runs), "artifact": ", ".join(artifacts), "sha256": " ".join(digests)}
        self.attributes = "".join(f' data-{name}="{escape(text)}"' for name, text in each.items()) if own else ""
        numbers = [every.index(source) + 1 for source in own]
        links = " ".join(f'<a href="#source-{n}" aria-label="source {n}">[{n}]</a>' for n in numbers)
        self.links = f"<sup>{links}</sup>" if own else ""


def _full(value: of.Value) -> str:
    return escape(value if isinstance(value, str) else repr(value))


@singledispatch
def _html(block: Block, bound: _Bound) -> str:
    raise TypeError(block)


@_html.register
def _(block: of.Said, bound: _Bound) -> str:
    values = f' data-value="{"; ".join(map(_full, block.values))}"' if block.values else ""
    return f"<p><span{bound.attributes}{values}>{escape(block.text)}</span>{bound.links}</p>"


@_html.register
def _(block: of.Rows, bound: _Bound) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in block.heads)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in block.rows)
    return (
        f'<div class="table" role="group" aria-label="{escape(block.caption)}" tabindex="0"><table{bound.attributes}>'
        f"<caption>{escape(block.caption)}{bound.links}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, Cell):
        return f'<td data-value="{_full(cell.value)}">{escape(cell.text)}</td>'
    return f"<td>{escape(cell)}</td>"


@_html.register
def _(block: of.Shown, bound: _Bound) -> str:
    image = base64.b64encode(block.png).decode()
    return (
        f'<figure{bound.attributes}><img alt="{escape(block.title)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(block.title)}{bound.links}</figcaption></figure>"
    )


@_html.register
def _(block: of.Drawing, bound: _Bound) -> str:
    return f"<figure{bound.attributes}>{block.svg}<figcaption>{escape(block.title)}{bound.links}</figcaption></figure>"


@_html.register
def _(block: of.Listing, bound: _Bound) -> str:
    return (
        f'<h3>{escape(block.title)}{bound.links}</h3><pre{bound.attributes} tabindex="0" role="group" '
        f'aria-label="{escape(block.title)}">{escape(block.text)}</pre>'
    )


@_html.register
def _(block: of.Ask, bound: _Bound) -> str:
    if block.answer:
        said = f"<p><strong>{escape(block.question)}</strong></p><p>{escape(block.answer)}</p>"
        return f'<div class="answer" data-key="{block.key}">{said}<p><small>said by a person</small></p></div>'
    return (
        f'<div class="ask" data-key="{block.key}"><p>{escape(block.question)}</p>'
        f"<p><small>to be filled in by a person: <code>{block.key}</code></small></p></div>"
    )


@_html.register
def _(block: of.Lack, bound: _Bound) -> str:
    return f'<p class="lack">{escape(block.text)}</p>'


@_html.register
def _(block: of.Headed, bound: _Bound) -> str:
    return f"<h3>{escape(block.text)}</h3>"


def _sources(sources: Sequence[Source]) -> str:
    rows = "\n".join(
        f'<tr id="source-{n}"><td>{n}</td><td>{escape(one.artifact)}</td><td class="long"><code>{escape(one.run_id)}'
        f'</code></td><td class="long"><code>{one.sha256}</code></td></tr>'
        for n, one in enumerate(sources, 1)
    )
    return f"""<section class="part" aria-labelledby="sources"><h2 id="sources">Sources</h2>
<p>Each sentence with a number is computed from these artifacts.
<code>python -m common.evidence.report --verify</code> computes it again.</p>
<div class="table" role="group" aria-label="Sources" tabindex="0"><table>
<caption>Artifacts</caption>
<thead><tr><th scope=col>No.</th><th scope=col>Artifact</th><th scope=col>Run</th><th scope=col>SHA-256</th></tr>
</thead>
<tbody>
{rows}
</tbody></table></div></section>"""
