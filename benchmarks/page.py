"""Writes ``docs/speed.md`` from stored runs of the benchmarks: ``python -m benchmarks.page``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks.figures import Figure, columns_of, notes_of
from common import cli

REFERENCE = cli.PROJECT / "benchmarks" / "results" / "reference.json"
COLUMNS = ("measured", "values", "ratio", "aim", "met", "values are")
PAGE = cli.PROJECT / "docs" / "speed.md"


def page_of(results: dict, alone: Iterable[dict] = ()) -> str:
    """The page, as Markdown: of a run of all rows, and of later runs of single rows."""
    lines = [
        "# Benchmarks",
        "",
        "What `python -m benchmarks` measured, each side against the other in the same run. This page is made of",
        "[reference.json](../benchmarks/results/reference.json) and files beside it by `python -m benchmarks.page`.",
        "",
        *_run(results),
    ]
    for again in alone:
        named = " ".join(again["seconds"])
        lines += ["", f"## Alone: {named}", "", f"`python -m benchmarks --rows {named}`", "", *_run(again, "###")]
    return "\n".join([*lines, ""])


def _run(results: dict, heading: str = "##") -> list[str]:
    figures = [Figure(**figure) for figure in results["figures"]]
    met = [figure.met for figure in figures if figure.met is not None]
    minutes, machine = sum(results["seconds"].values()) / 60, results["machine"]
    on = [f"{machine['cores']} cores ({machine['cpu']})", f"{machine['memory_gib']:g} GiB of memory"]
    on += [machine["gpu"] or "no GPU", f"Python {machine['python']}, PyTorch {machine['torch']}"]
    when, load = results["began"][:10], machine["load_average"]
    lines = [
        f"- On: {', '.join(on)}.",
        f"- When, and how long: {when}, {minutes:.0f} minutes. Load when it ended: {load:g}.",
    ]
    lines += [f"- Aims met: {sum(met)} of {len(met)}."] if met else []
    rows = list(dict.fromkeys(figure.row for figure in figures))
    for row in rows:
        of_row = [figure for figure in figures if figure.row == row]
        lines += ["", f"{heading} {row}"] if len(rows) > 1 else []
        lines += ["", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
        lines += [_line(columns_of(figure)[1:]) for figure in of_row]
        lines += [text for note in notes_of(of_row) for text in ("", note[0].upper() + note[1:] + ".")]
    return lines


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def stored_page() -> str:
    """The page of what is stored in ``benchmarks/results``."""
    alone = [json.loads(file.read_text()) for file in sorted(REFERENCE.parent.glob("alone-*.json"))]
    return page_of(json.loads(REFERENCE.read_text()), alone)


def main() -> None:
    PAGE.write_text(stored_page())
    print(f"{PAGE.relative_to(cli.PROJECT)}: made from {REFERENCE.parent.relative_to(cli.PROJECT)}")


if __name__ == "__main__":
    cli.run(main)
