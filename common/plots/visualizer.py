"""A search in pictures: all plots that suit what was searched, and a page that shows them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from common.plots.figures import Plot
from common.plots.page import search_page
from common.plots.scores import save_plots
from common.plots.trials import SCORE, category_plot, count_plot, duration_plot, line_plot, scatter_plot
from common.search.labels import match_label
from common.search.pooled import Pool, Studies
from common.state import whole_file

__all__ = [
    "category_plot",
    "count_plot",
    "duration_plot",
    "line_plot",
    "match_label",
    "save_study_plots",
    "scatter_plot",
    "study_plots",
]

MOST = 6
"""So many pairs of parameters are drawn, and so many discrete parameters against the score."""


def study_plots(studies: Studies, score: str = SCORE) -> dict[str, Plot]:
    """All plots that suit what was searched, by the stem of a file; none while no trial has finished.

    Of many parameters the most important are drawn; a plot that would show nothing is left out.
    """
    pool = Pool.of(studies)
    if pool.trials.empty:
        return {}
    plots = {"line": line_plot(pool, score)}
    pairs, discrete = pool.telling(MOST)
    for names in pairs:
        plots[_stem(plots, "scatter", *names)] = scatter_plot(pool, *names, score=score)
    for name in discrete:
        plots[_stem(plots, "category", name)] = category_plot(pool, name, score)
    counted = [name for name, what in pool.searched.items() if len(what.values) > 1]
    if counted:
        plots["count"] = count_plot(pool, counted, score)
    if pool.trials["seconds"].notna().any():
        plots["duration"] = duration_plot(pool, score)
    return plots


def save_study_plots(studies: Studies, folder: Path, score: str = SCORE) -> list[Path]:
    """Write the plots of a search, and `index.html`, a page with all of them, into the folder, made where missing."""
    pool = Pool.of(studies)
    figures = study_plots(pool, score)
    paths = save_plots(figures, folder)
    plots = {path.stem: (_caption(figures[path.stem]), path.read_bytes()) for path in paths}
    with whole_file(folder / "index.html", "w") as file:
        file.write(search_page(pool, plots, score))
    return [*paths, folder / "index.html"]


def _stem(taken: Iterable[str], *parts: str) -> str:
    """A file name's stem of plain letters, not taken yet."""
    stem = re.sub(r"[^\w.-]+", "_", "_".join(parts), flags=re.ASCII)[:80]
    numbered = (f"{stem}_{i}" for i in itertools.count(2))
    return next(name for name in itertools.chain([stem], numbered) if name not in taken)


def _caption(plot: Plot) -> str:
    return plot.get_suptitle().replace("\n", " ").replace("\\$", "$")
