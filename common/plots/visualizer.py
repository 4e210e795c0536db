"""A search in pictures: all plots that suit what was searched, and a page that shows them, stored with its run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from common.plots.figures import Plot
from common.plots.page import search_page
from common.plots.trials import SCORE, category_plot, count_plot, duration_plot, line_plot, scatter_plot
from common.search.labels import match_label
from common.search.pooled import Pool, Studies

if TYPE_CHECKING:
    from common.tracking.runs import Run

__all__ = [
    "category_plot",
    "count_plot",
    "duration_plot",
    "line_plot",
    "log_study_plots",
    "match_label",
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


def log_study_plots(run: Run, studies: Studies, score: str = SCORE) -> None:
    """Store the plots of a search, and a page with all of them, under ``search/`` of a run; a finished run stays."""
    if run.is_over:
        return
    pool = Pool.of(studies)
    plots = {stem: (_caption(plot), plot.png()) for stem, plot in study_plots(pool, score).items()}
    for stem, (_, image) in plots.items():
        run.text(image, f"search/{stem}.png")
    run.text(search_page(pool, plots, score), "search/index.html")


def _stem(taken: Iterable[str], *parts: str) -> str:
    """A file name's stem of plain letters, not taken yet."""
    stem = re.sub(r"[^\w.-]+", "_", "_".join(parts), flags=re.ASCII)[:80]
    numbered = (f"{stem}_{i}" for i in itertools.count(2))
    return next(name for name in itertools.chain([stem], numbered) if name not in taken)


def _caption(plot: Plot) -> str:
    return plot.get_suptitle().replace("\n", " ").replace("\\$", "$")
