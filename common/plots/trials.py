"""Plots of a search: when and where its good trials lie, and which values they have.

In every plot `studies` is one Optuna study or several, such as one per outer fold, whose trials are pooled. Completed
trials are labelled by the quantile of their score *within their study*, since outer folds differ in difficulty.
`score` is the name of the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common.cli import UserError
from common.plots import of_trials as drawing
from common.plots.figures import GREY, INK, Plot, name_axes, printable
from common.search.labels import group_labels
from common.search.pooled import STATES, Pool, Studies

SCORE = "dev ROC AUC"
_ENOUGH, _DENSE, _FEW = 5, 15, 12
"""So many trials or more have a box, and a density; so many or fewer have their scores written beside them."""
_TALLEST = 100
"""Inches of a figure; an image has a limit."""


def line_plot(studies: Studies, score: str = SCORE) -> Plot:
    """The score of the trials in their order, and the best so far; a panel for each study.

    A pruned trial stands where its folds so far have their mean, a trial without score at the lower edge.
    """
    pool = Pool.of(studies)
    title = f"{score} of {_trials(pool)} in order, and the best so far"
    if pool.trials.empty:
        return drawing.nothing(title, "trial", score)
    panels = list(pool.trials.groupby("study", sort=False))
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = math.ceil(len(panels) / columns)
    figure = drawing.figure_of(title, (3.3 * columns, 1.4 + 2.3 * rows) if columns > 1 else (6.5, 4.6))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for i, axes in enumerate(grid):
        is_bottom = i + columns >= len(panels)
        name_axes(axes, "trial" if is_bottom else "", "" if i % columns else score)
        axes.tick_params(labelbottom=is_bottom)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.set_visible(i < len(panels))
    last = pool.trials["trial"].max()
    grid[0].set_xlim(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    grid[0].margins(y=0.09)
    for axes, (name, trials) in zip(grid, panels, strict=False):
        scored = trials["score"].notna()
        states = trials["state"].astype(pd.CategoricalDtype(STATES))
        drawing.points(axes, trials.loc[scored, "trial"], trials.loc[scored, "score"], states[scored])
        low = axes.get_xaxis_transform()
        for state, without in trials[~scored].groupby("state"):
            look = {"color": drawing.STATE_COLOURS[state], "marker": drawing.MARKERS.get(state)}
            axes.plot(without["trial"], [0.05] * len(without), linestyle="", transform=low, **look)
        complete = trials[trials["state"] == "complete"].set_index("trial")["score"]
        so_far = complete.cummax() if pool.maximize else complete.cummin()
        so_far = so_far.reindex(trials["trial"]).ffill()
        after = [*so_far.index, so_far.index[-1] + 0.4]  # so that the last one is seen too
        axes.step(after, [*so_far, so_far.iloc[-1]], where="post", color=INK, linewidth=1.6, zorder=1.5)
        best = so_far.iloc[-1]
        found = "none completed" if complete.empty else f"best {best:.4g} in trial {complete.eq(best).idxmax()}"
        axes.set_title(found if len(panels) == 1 else f"{printable(name, 24)}: {found}", fontsize=9.5)
    counts = pool.trials["state"].value_counts()
    handles = [
        drawing.handle(state, drawing.STATE_COLOURS[state], counts[state]) for state in STATES if state in counts
    ]
    if pool.complete.any():
        handles.append(Line2D([], [], color=INK, linewidth=1.6, label="best so far"))
    drawing.legend_of(figure, handles)
    return figure


def scatter_plot(studies: Studies, x: str, y: str | None = None, score: str = SCORE) -> Plot:
    """Where the good trials lie in two continuous parameters, over all that was searched; or in one, by the score.

    Few trials have their scores written beside them.

    Raises
    ------
    UserError
        When a parameter is unknown or discrete.
    """
    pool = Pool.of(studies)
    names = [printable(name) for name in (x, y) if name is not None]
    if pool.trials.empty:
        return drawing.nothing(f"{' and '.join(names)} of 0 trials, by {score}", names[0], [*names, score][1])
    _check(pool, [x] if y is None else [x, y], discrete=False)
    at = pd.DataFrame({"x": pool.values[x], "y": pool.trials["score"] if y is None else pool.values[y]}).dropna()
    figure = drawing.figure_of(f"{' and '.join(names)} of {_trials(pool, len(at))}, by {score}")
    axes = figure.subplots()
    groups = group_labels(pool)[at.index]
    drawing.points(axes, at["x"], at["y"], groups)
    name_axes(axes, names[0], [*names, score][1])
    drawing.searched_axis(axes, "x", pool.searched[x])
    if y is not None:
        drawing.searched_axis(axes, "y", pool.searched[y])
        scores = pool.trials["score"][at.index].dropna()
        if len(at) <= _FEW:
            drawing.write_values(axes, at["x"][scores.index], at["y"][scores.index], scores)
    drawing.legend(figure, groups, _rank(pool, score))
    return figure


def duration_plot(studies: Studies, score: str = SCORE) -> Plot:
    """How long trials took: a mark for each, and the densities of those groups that are large enough.

    Without a density the axis begins at zero, unless it is logarithmic.
    """
    pool = Pool.of(studies)
    seconds = pool.trials["seconds"].dropna()
    title = f"Duration of {_trials(pool, len(seconds))}, by {_rank(pool, score)}"
    if seconds.empty:
        return drawing.nothing(title, "duration", "trials", "no trial has a duration")
    units = {"h": 3600, "min": 60, "s": 1, "ms": 0.001}
    unit = next((unit for unit, length in units.items() if seconds.median() >= 2 * length), "ms")
    durations, groups = seconds / units[unit], group_labels(pool)[seconds.index]
    palette, is_log = drawing.colours(groups), 0 < 30 * durations.min() < durations.max()
    rows = [(name, times) for name, times in durations.groupby(groups, observed=True)]
    dense, of = [(palette[name], times) for name, times in rows if times.nunique() >= _DENSE], "each group"
    if not dense and durations.nunique() >= _DENSE:
        dense, of = [(INK, durations)], "all trials"
    figure = drawing.figure_of(title, (6.5, 4.6 if dense else 1.5 + 0.5 * len(rows)))
    heights = [3, 0.4 + 0.4 * len(rows)][0 if dense else 1 :]
    *upper, lower = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights).flat
    if is_log:
        drawing.log_axis(lower, "x", durations.min() / 1.5, durations.max() * 1.5)
    elif not dense:
        lower.set_xlim(0, 1.1 * durations.max() or 1)
    for colour, times in dense:
        sns.kdeplot(x=times, ax=upper[0], color=colour, clip=None if is_log else (0, None), warn_singular=False)
    for line in upper[0].lines if dense else ():
        x, y = line.get_data()
        line.set_ydata(y / y.max())
        upper[0].fill_between(x, y / y.max(), color=line.get_color(), alpha=0.1, linewidth=0)
    for axes in upper:
        name_axes(axes, "", f"density of {of}")
        axes.set(yticks=[], ylim=(0, 1.08))
    for row, (name, times) in enumerate(rows):
        lower.plot(times, [row] * len(times), "|", color=palette[name], markersize=14, markeredgewidth=1.6)
    name_axes(lower, f"duration in {unit}", "trials")
    lower.set_yticks(range(len(rows)), [f"{name} ({len(times)})" for name, times in rows])
    lower.set_ylim(len(rows) - 0.4, -0.6)
    return figure


def category_plot(studies: Studies, parameter: str, score: str = SCORE) -> Plot:
    """The score by the value of a discrete parameter: a point for each trial, and a box over five or more completed.

    The number of completed trials stands after each value.

    Raises
    ------
    UserError
        When the parameter is unknown or continuous.
    """
    pool = Pool.of(studies)
    shown = printable(parameter)
    if pool.trials.empty:
        return drawing.nothing(f"{score} by {shown}, 0 trials", score, shown)
    _check(pool, [parameter], discrete=True)
    names = pool.searched[parameter].values
    at = pd.DataFrame({"score": pool.trials["score"], "value": pool.values[parameter]}).dropna()
    complete = at[pool.complete[at.index]]
    figure = drawing.figure_of(
        f"{score} by {shown}, {_trials(pool, len(at))}", (6.5, min(_TALLEST, 2.2 + 0.45 * len(names)))
    )
    axes = figure.subplots()
    scores = [complete.loc[complete["value"] == name, "score"] for name in names]
    axes.boxplot(
        [each if len(each) >= _ENOUGH else [] for each in scores],
        orientation="horizontal",
        positions=range(len(names)),
        widths=0.7,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": "#f0f0f0", "edgecolor": GREY},
        medianprops={"color": INK, "linewidth": 1.8},
        whiskerprops={"color": GREY},
        capprops={"color": GREY},
    )
    groups = group_labels(pool)[at.index]
    # spread evenly, and the same each time
    aside = at.groupby("value", observed=True).cumcount().mul(0.618).add(0.5) % 1 - 0.5
    drawing.points(axes, at["score"], at["value"].cat.codes + 0.55 * aside, groups)
    name_axes(axes, score, shown)
    axes.set_yticks(range(len(names)), [f"{printable(n, 24)} ({len(s)})" for n, s in zip(names, scores, strict=True)])
    axes.set_ylim(len(names) - 0.4, -0.6)
    drawing.legend(figure, groups, _rank(pool, score))
    return figure


def count_plot(studies: Studies, parameters: Sequence[str] | None = None, score: str = SCORE) -> Plot:
    """How many trials had each value of the discrete parameters, by their score; all parameters unless some are named.

    Raises
    ------
    UserError
        When a parameter is unknown or continuous.
    """
    pool = Pool.of(studies)
    title = f"How often each value was tried in {_trials(pool)}"
    discrete = [name for name, what in pool.searched.items() if what.values]
    chosen = discrete if parameters is None else list(parameters)
    if pool.trials.empty or not chosen:
        return drawing.nothing(title, "trials", "value", "no trial has a discrete parameter")
    _check(pool, chosen, discrete=True)
    groups = group_labels(pool)
    heights = [len(pool.searched[name].values) + 1.2 for name in chosen]
    figure = drawing.figure_of(title, (6.5, min(_TALLEST, 1.6 + 0.3 * sum(heights))))
    panels = figure.subplots(len(chosen), sharex=True, squeeze=False, height_ratios=heights).flat
    for axes, name in zip(panels, chosen, strict=True):
        names = pool.searched[name].values
        has = pool.values[name].notna()
        sns.histplot(
            y=pool.values.loc[has, name],
            hue=groups[has],
            hue_order=groups.cat.categories[::-1],
            palette=drawing.colours(groups),
            multiple="stack",
            shrink=0.75,
            alpha=1,
            linewidth=0.6,
            edgecolor="white",
            legend=False,
            ax=axes,
        )
        name_axes(axes, "trials", "value")
        axes.set_title(printable(name), fontsize=10, loc="left")
        axes.set_yticks(range(len(names)), [printable(name, 24) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.label_outer()
    figure.align_ylabels()
    drawing.legend(figure, groups[pool.values[chosen].notna().any(axis=1)], _rank(pool, score))
    return figure


def _trials(pool: Pool, count: int | None = None) -> str:
    """Such as "12 of 30 trials in 5 studies"."""
    total, studies = len(pool.trials), pool.trials["study"].nunique()
    of_total = f"{total} trial{'' if total == 1 else 's'}"
    some = "" if count in (None, total) else f"{count} of "
    return some + of_total + (f" in {studies} studies" if studies > 1 else "")


def _rank(pool: Pool, score: str) -> str:
    return f"rank of {score}" + (" within each study" if pool.trials["study"].nunique() > 1 else "")


def _check(pool: Pool, names: Sequence[str], discrete: bool) -> None:
    kind = "discrete" if discrete else "continuous"
    known = [name for name, what in pool.searched.items() if bool(what.values) == discrete]
    for name in names:
        if name not in known:
            raise UserError(
                f"parameter {name}: expected a {kind} one of the search ({', '.join(known) or 'it has none'})"
            )
