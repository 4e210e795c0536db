"""Figures without global state, for files, threads and notebooks, and what they have in common."""

from __future__ import annotations

import io
from functools import cache

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

INK, GREY, PALE = "#222222", "#8a8a8a", "#d9d9d9"


class Plot(Figure):
    """A figure that notebooks show by itself."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches() * 100
        return self.png(), {"width": int(width), "height": int(height)}

    def png(self) -> bytes:
        """The figure as a PNG file: the same bytes for the same figure."""
        content = io.BytesIO()
        quickly = {"compress_level": 1}  # a tenth larger, in half the time
        FigureCanvasAgg(self).print_png(content, metadata={"Software": None}, pil_kwargs=quickly)  # savefig draws twice
        return content.getvalue()


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes, over a pale grid and without a frame."""
    axes.set(xlabel=x, ylabel=y, axisbelow=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.6)


def printable(text: object, width: int = 40) -> str:
    """A text of anybody's as one line of at most `width` characters, drawn as it stands.

    A dollar sign begins no formula, and a character that the font lacks becomes a question mark.
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= width else f"{line[: width - 3]}..."
    return "".join(sign if ord(sign) in _signs() else "?" for sign in line).replace("$", r"\$")


@cache
def _signs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
