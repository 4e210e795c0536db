"""Is each number of a report what its artifacts give? The report is made again, and compared piece by piece."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from html.parser import HTMLParser
from pathlib import Path

from common.cli import UserError, escaped
from common.state import regular

MOST = 50
"""Differences that are printed."""
BEFORE, WIDTH = 60, 160
"""Characters of a piece before the place where it differs, and in all, that are printed."""


def request_in(path: Path) -> tuple[str, dict]:
    """A report, a page or Markdown, and what it was asked to be about.

    Raises
    ------
    UserError
        When it cannot be read, or is no report.
    """
    try:
        text = regular(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8"
        raise UserError(f"--verify {path}: cannot be read ({why})") from error
    for pattern in (r'<script type="application/json" id="request">(.*?)</script>', r"<!-- request: (.*) -->"):
        if found := re.findall(pattern, text):
            try:
                request = json.loads(found[-1])
                request["runs"]
            except (ValueError, KeyError, TypeError):
                break
            return text, request
    raise UserError(f"--verify {path}: expected a report, a page or Markdown, as this command writes them")


def differences_of(found: str, expected: str, with_pictures: bool) -> list[str]:
    """A line for each piece of a report that is not what the artifacts give.

    Parameters
    ----------
    found, expected : str
        The report, and what is made now; both pages, or both Markdown.
    with_pictures : bool
        Whether the pictures are compared, byte by byte: another version of matplotlib draws others.
    """
    is_page = found.lstrip().lower().startswith("<!doctype")
    here, there = ([*_pieces(text, with_pictures)] if is_page else text.splitlines() for text in (found, expected))
    lines = []
    for what, a, b, c, d in SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        for row in range(max(b - a, d - c)):
            has = here[a + row] if a + row < b else ""
            wants = there[c + row] if c + row < d else ""
            same = next((i for i, (one, other) in enumerate(zip(has, wants, strict=False)) if one != other), 0)
            start = max(0, same - BEFORE)
            lines.append(f"found {_part(has, start)}; expected {_part(wants, start)}")
    return lines


def _part(piece: str, start: int) -> str:
    """What of a piece is told: some of it, where it begins to differ."""
    if not piece:
        return "nothing"
    said = piece[start : start + WIDTH]
    return f"`{'...' * (start > 0)}{escaped(said)}{'...' * (start + WIDTH < len(piece))}`"


def _pieces(page: str, with_pictures: bool) -> Iterator[str]:
    """The elements of a page with their attributes, and its texts, in order."""
    reader = _Reader(with_pictures)
    reader.feed(page)
    reader.close()
    yield from reader.pieces


class _Reader(HTMLParser):
    def __init__(self, with_pictures: bool):
        super().__init__()
        self.pieces: list[str] = []
        self.with_pictures = with_pictures

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        shown = []
        for name, value in attributes:
            if name == "src":
                value = hashlib.sha256((value or "").encode()).hexdigest() if self.with_pictures else "a picture"
            shown.append(f"{name}={value}")
        self.pieces.append(" ".join([tag, *shown]))

    def handle_endtag(self, tag: str) -> None:
        self.pieces.append(f"/{tag}")

    def handle_data(self, text: str) -> None:
        if text.strip():
            self.pieces.append(" ".join(text.split()))

    def handle_comment(self, text: str) -> None:
        self.pieces.append(f"comment {text}")
