"""The lessons as they are stored: their texts, and what their cells printed and showed."""

import re

import nbformat

from common.state import PROJECT

STEPS = range(1, 6)


def cells(step):
    return nbformat.read(PROJECT / f"step_{step}" / "lesson.ipynb", as_version=4).cells


def text_of(step):
    return "\n".join(cell.source for cell in cells(step) if cell.cell_type == "markdown")


def cell_with(step, part):
    """The one code cell that has a piece of code."""
    (found,) = (cell for cell in cells(step) if cell.cell_type == "code" and part in cell.source)
    return found


def said(cell):
    """What a cell printed and showed, as lines; a row of a table is one. Library source is left out."""
    lines = []
    for out in cell.get("outputs", ()):
        page = out.get("data", {}).get("text/html", "")
        if not page:
            lines.append(out.get("text", "") + out.get("data", {}).get("text/plain", ""))
        elif "<table" in page and "white-space:pre" not in page:
            rows = page.replace("\n", " ").replace("</tr>", "\n")
            lines.append(re.sub(r"(\s*<[^>]+>\s*)+", lambda tags: "\n" if "\n" in tags[0] else "  ", rows))
    return "\n".join(lines)


def compared(step, name):
    """The number that a stored ``lesson.compare`` has shown."""
    shown = "\n".join(map(said, cells(step)))
    (found,) = re.findall(rf"^{re.escape(name)} is (-?[\d.]+)$", shown, re.MULTILINE)
    return float(found)
