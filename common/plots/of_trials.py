"""What the plots of a search share: the look of good, bad and unfinished trials, and axes over what was searched."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from common.plots.figures import GREY, INK, Plot, name_axes
from common.search.pooled import Searched

BLUE = "#0072B2"
STATE_COLOURS = {"complete": BLUE, "pruned": GREY, "not finite": "#CC79A7", "failed": INK}
_RAMP = LinearSegmentedColormap.from_list("best to worst", [BLUE, "#56B4E9", "#E69F00", "#D55E00"])
MARKERS = {"pruned": "X", "not finite": "P", "failed": "v"}


def figure_of(title: str, size: tuple[float, float] = (6.5, 4.6)) -> Plot:
    """An empty figure of that size in inches."""
    figure = Plot(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(12 * size[0])), fontsize=11)
    return figure


def nothing(title: str, x: str, y: str, why: str = "no trial has finished") -> Plot:
    """A figure that says why there is nothing to see."""
    figure = figure_of(title)
    axes = figure.subplots()
    name_axes(axes, x, y)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, why, ha="center", va="center", color=GREY, transform=axes.transAxes)
    return figure


def colours(groups: pd.Series) -> dict[str, object]:
    """A colour for each category of trials, from best to worst, then the states of those without a rank."""
    ranked = [name for name in groups.cat.categories if name not in STATE_COLOURS]
    return {name: _RAMP(i / max(1, len(ranked) - 1)) for i, name in enumerate(ranked)} | STATE_COLOURS


def points(axes: Axes, x: pd.Series, y: pd.Series, groups: pd.Series) -> None:
    """A point for each trial, better ones over worse ones."""
    palette = colours(groups)
    for name in reversed(groups.cat.categories):
        those = groups == name
        look = {"color": palette[name], "marker": MARKERS.get(name, "o"), "edgecolor": "white"}
        if those.any():
            axes.scatter(x[those], y[those], s=55, linewidth=0.7, zorder=3, **look)


def write_values(axes: Axes, x: pd.Series, y: pd.Series, values: pd.Series) -> None:
    """Write a number beside each point."""
    for place in x.index:
        at, text = (x[place], y[place]), f"{values[place]:.3g}"
        axes.annotate(text, at, (6, 4), textcoords="offset points", fontsize=8, color=INK, annotation_clip=False)


def handle(name: str, colour: object, count: int) -> Line2D:
    """An entry of a legend: a state or label with its number of trials."""
    look = {"marker": MARKERS.get(name, "o"), "markersize": 7.5, "markeredgecolor": "white", "linestyle": ""}
    return Line2D([], [], color=colour, label=f"{name} ({count})", **look)


def legend(figure: Plot, groups: pd.Series, title: str) -> None:
    """Names the groups that are there, with their numbers of trials, below the axes."""
    counts, palette = groups.value_counts(sort=False), colours(groups)
    handles = [handle(name, palette[name], count) for name, count in counts.items() if count]
    legend_of(figure, handles, title)


def legend_of(figure: Plot, handles: list[Line2D], title: str | None = None) -> None:
    """A legend below the axes, where it hides nothing."""
    columns = len(handles) if len(handles) < 6 else 4
    handles = [each for column in range(columns) for each in handles[column::columns]]  # they fill columns, not rows
    look = {"fontsize": 9, "title_fontsize": 9, "handlelength": 1.2, "handletextpad": 0.4, "columnspacing": 1.4}
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=columns, frameon=False, **look)


def searched_axis(axes: Axes, which: str, what: Searched) -> None:
    """Let an axis ("x" or "y") show all that was searched, logarithmic if it was sampled so."""
    axis = getattr(axes, f"{which}axis")
    if what.log:
        margin = max(1 + 1e-9, (what.high / what.low) ** 0.04)
        log_axis(axes, which, what.low / margin, what.high * margin)
    else:
        margin = 0.04 * (what.high - what.low) or max(1e-6, abs(0.05 * what.low))
        axes.set(**{f"{which}lim": (what.low - margin, what.high + margin)})
        axis.set_major_locator(MaxNLocator(6, integer=what.whole, steps=[1, 2, 5, 10]))


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis logarithmic between two limits, with few ticks in plain numbers, however far they are apart."""
    axes.set(**{f"{which}lim": (low, high), f"{which}scale": "log"})
    axis, ratio = getattr(axes, f"{which}axis"), high / low
    steps = (1,) if ratio >= 300 else (1, 3) if ratio >= 60 else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=steps, numticks=9) if ratio > 6 else MaxNLocator(5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())  # they take two fifths of the time to draw, and have no numbers
