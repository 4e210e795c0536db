"""A report as Markdown, for a repository or a paper; its pictures are in the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import singledispatch

from common.evidence import statements as of
from common.evidence.building import Report
from common.evidence.claims import embedded, without_claims
from common.evidence.statements import Block, Cell, Source


def report_text(report: Report, request: dict) -> str:
    """The Markdown of a report.

    Parameters
    ----------
    report : Report
    request : dict
        What it is about, for JSON: with it the text can be made again.
    """
    lines = [f"# {_plain(report.title)}", ""]
    if report.withheld:
        said = "How good these models are is not said. What was computed is shown, but it may be wrong:"
        lines += [f"**Nothing is claimed here.** {said}", ""]
        lines += [*(f"- {_plain(reason)}" for reason in report.withheld), ""]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for block in section.blocks:
            numbers = [report.sources.index(source) + 1 for source in getattr(block, "sources", ())]
            lines += [*_markdown(block, "".join(f" [{n}]" for n in numbers)), ""]
    lines += ["## Sources", "", *_sources(report.sources), ""]
    text = "\n".join(lines)
    text = without_claims(text) if report.withheld else text
    return f"{text}\n<!-- request: {embedded(request)} -->\n"


def _plain(text: str) -> str:
    """Any text as Markdown that shows it as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", " ".join(text.split()))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@singledispatch
def _markdown(block: Block, links: str) -> list[str]:
    raise TypeError(block)


@_markdown.register
def _(block: of.Said, links: str) -> list[str]:
    return [_plain(block.text) + links]


@_markdown.register
def _(block: of.Rows, links: str) -> list[str]:
    rows = [[_plain(cell.text if isinstance(cell, Cell) else cell) for cell in row] for row in block.rows]
    heads = [_plain(head) for head in block.heads]
    return [f"**{_plain(block.caption)}**{links}", "", _row(heads), _row(["---"] * len(heads)), *map(_row, rows)]


@_markdown.register
def _(block: of.Shown, links: str) -> list[str]:
    return [f"*Picture: {_plain(block.title)}, in the page*{links}"]


@_markdown.register
def _(block: of.Drawing, links: str) -> list[str]:
    return [f"*Picture: {_plain(block.title)}, in the page*{links}"]


@_markdown.register
def _(block: of.Listing, links: str) -> list[str]:
    return [f"**{_plain(block.title)}**{links}", "", *(f"    {line}" for line in block.text.splitlines())]


@_markdown.register
def _(block: of.Ask, links: str) -> list[str]:
    if not block.answer:
        return [f"> {_plain(block.question)}", ">", f"> to be filled in by a person: `{block.key}`"]
    said = [f"> {_plain(line)}" for line in block.answer.splitlines()]
    return [f"> **{_plain(block.question)}**", ">", *said, ">", "> said by a person"]


@_markdown.register
def _(block: of.Lack, links: str) -> list[str]:
    return [f"> **{_plain(block.text)}**"]


@_markdown.register
def _(block: of.Headed, links: str) -> list[str]:
    return [f"### {_plain(block.text)}"]


def _sources(sources: Sequence[Source]) -> list[str]:
    rows = [[str(n), _plain(one.artifact), one.run_id, one.sha256] for n, one in enumerate(sources, 1)]
    return [_row(["No.", "artifact", "run", "SHA-256"]), _row(["---"] * 4), *map(_row, rows)]
