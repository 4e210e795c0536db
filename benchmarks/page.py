"""Writes ``docs/speed.md`` from one stored run of the benchmarks: ``python -m benchmarks.page``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks.figures import Figure, columns_of, notes_of
from common import cli

REFERENCE = cli.PROJECT / "benchmarks" / "results" / "reference.json"
COLUMNS = ("measured", "values", "ratio", "aim", "met", "values are")
PAGE = cli.PROJECT / "docs" / "speed.md"


def page_of(results: dict) -> str:
    """The page, as Markdown."""
    machine = results["machine"]
    figures = [Figure(**figure) for figure in results["figures"]]
    met = [figure.met for figure in figures if figure.met is not None]
    on = [f"{machine['cores']} cores ({machine['cpu']})", f"{machine['memory_gib']:g} GiB of memory"]
    on += [machine["gpu"] or "no GPU", f"Python {machine['python']}, PyTorch {machine['torch']}"]
    minutes = sum(results["seconds"].values()) / 60
    lines = [
        "# Measured",
        "",
        "What `python -m benchmarks` measured on one machine, each side against the other in the same run.",
        "[reference.json](../benchmarks/results/reference.json) has more. This page is made from it by",
        "`python -m benchmarks.page`.",
        "",
        f"- When, and how long: {results['began'][:10]}, {minutes:.0f} minutes.",
        f"- On: {', '.join(on)}. Load when it ended: {machine['load_average']:g}.",
        f"- Of {len(met)} aims {sum(met)} are met.",
    ]
    for row in dict.fromkeys(figure.row for figure in figures):
        of_row = [figure for figure in figures if figure.row == row]
        lines += ["", f"## {row}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
        lines += [_line(columns_of(figure)[1:]) for figure in of_row]
        lines += [text for note in notes_of(of_row) for text in ("", note[0].upper() + note[1:] + ".")]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    PAGE.write_text(page_of(json.loads(REFERENCE.read_text())))
    print(f"{PAGE.relative_to(cli.PROJECT)}: made from {REFERENCE.relative_to(cli.PROJECT)}")


if __name__ == "__main__":
    cli.run(main)
