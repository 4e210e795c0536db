"""What a row of the benchmarks finds: a ratio of two sides with its aim, measured in turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

Sides = Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    row : str
    measured : str
        What is compared, at which size.
    values : dict from side to number
    unit : str
        Of the values.
    ratio : float
    aim : str
        What the ratio is expected to be.
    met : bool or None
        None where nothing is expected.
    taken : str
        Which of the repetitions stand in `values`, such as ``minima of 3``.
    note : str
        Shown below the table.
    details : dict
        Whatever else goes into the JSON file.
    """

    row: str
    measured: str
    values: dict[str, float]
    unit: str
    ratio: float
    aim: str = ""
    met: bool | None = None
    taken: str = "one run each"
    note: str = ""
    details: dict | None = None


def at_least(ratio: float, bound: float) -> dict[str, object]:
    """Fields of a figure whose ratio is better the higher it is."""
    return {"ratio": ratio, "aim": f"at least {bound:g}", "met": ratio >= bound}


def at_most(ratio: float, bound: float) -> dict[str, object]:
    """Fields of a figure whose ratio is better the lower it is."""
    return {"ratio": ratio, "aim": f"at most {bound:g}", "met": ratio <= bound}


@contextmanager
def progress(row: str, total: int) -> Iterator[tqdm]:
    """A progress bar over the measurements of a row."""
    with tqdm(total=total, desc=row, unit="run", mininterval=0.5 if os.isatty(2) else 15) as bar:
        yield bar


def alternate(sides: Sides, repetitions: int, bar: tqdm) -> dict[str, list[float]]:
    """What each side returns, `repetitions` times, the sides in turns: A B A B."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, side in sides.items():
            found[name].append(side())
            bar.update()
    return found


def minima(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The least of each side's measurements."""
    return {name: min(values) for name, values in found.items()}


def minima_of(repetitions: int) -> str:
    """Which of the repetitions :func:`minima` gives, in words."""
    return "one run each" if repetitions == 1 else f"minima of {repetitions}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def columns_of(figure: Figure) -> tuple[str, ...]:
    """A figure's row, what is measured, values, ratio, aim, whether it is met, and which values these are, in words."""
    values = ", ".join(f"{name} {_short(value)}".lstrip() for name, value in figure.values.items())
    met = {True: "yes", False: "no", None: ""}[figure.met]
    unit = f" {figure.unit}".rstrip()
    return figure.row, figure.measured, values + unit, f"{figure.ratio:.3g}", figure.aim, met, figure.taken


def notes_of(figures: Iterable[Figure]) -> list[str]:
    """Their notes, each once."""
    return list(dict.fromkeys(figure.note for figure in figures if figure.note))


def as_table(figures: Iterable[Figure]) -> str:
    """The figures as plain text in columns that line up, and their notes below."""
    figures = list(figures)
    lines = [("row", "measured", "values", "ratio", "aim", "met", "values are"), *map(columns_of, figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = dict.fromkeys(f"{figure.row}: {figure.note}" for figure in figures if figure.note)
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:], "", *notes])
