"""Searches in pictures: the history of a study, what mattered in it, and a search space as a tree."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from common.config.places import find_spaces
from common.lesson.tables import compact_table
from common.plots.figures import GREY, INK, name_axes
from common.plots.scores import Plot

_BLUE, _ORANGE = "#0072B2", "#E69F00"
_START = "left of it: random, right: TPE"


def trials_shown(trials: pd.DataFrame) -> HTML:
    """A table of trials to look at: scores with two decimals, settings with two digits that count.

    Parameters
    ----------
    trials : DataFrame
        As :func:`common.search.trials_table` makes it. What a trial lacks is a gap.
    """
    shown = trials.astype(object).where(trials.notna(), "")
    for name in trials.select_dtypes("float"):
        text = "{:.2f}" if name == "value" or name.startswith("fold ") else "{:.2g}"
        shown[name] = [text.format(value) if value == value else "" for value in trials[name]]
    return compact_table(shown)


def history_plot(trials: pd.DataFrame, title: str = "", n_startup_trials: int | None = None) -> Plot:
    """Trials in their order, with their dev score, and the best complete one so far.

    Parameters
    ----------
    trials : DataFrame
        As :func:`common.search.trials_table` makes it.
    title : str
    n_startup_trials : int, optional
        Trials that were drawn at random: a line is drawn behind the last of them.
    """
    folds = trials.filter(regex=r"^fold \d+$")
    score = trials["value"].fillna(folds.mean(axis=1))
    kinds = (
        ("complete", "o", _BLUE, "complete: mean of all its folds"),
        ("pruned", "x", _ORANGE, "pruned: mean of the folds that it has, no value"),
    )
    figure, axes = _drawing(3.4, "trial", "dev ROC AUC", title)
    for state, marker, colour, label in kinds:
        of_state = trials["state"] == state
        if of_state.any():
            axes.plot(trials.index[of_state], score[of_state], marker, color=colour, label=label)
    best = trials["value"].cummax().ffill()
    axes.step(trials.index, best, where="post", color=INK, linewidth=1.4, label="best complete trial so far")
    if n_startup_trials and n_startup_trials < len(trials):
        axes.axvline(n_startup_trials - 0.5, color=GREY, linestyle=":", label=_START)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def importance_plot(shares: Mapping[str, float], title: str = "") -> Plot:
    """A bar per hyper-parameter, the most important at the top.

    Parameters
    ----------
    shares : mapping of str to float
        As :func:`common.search.importance` gives them.
    title : str
    """
    names = sorted(shares, key=lambda name: shares[name])
    figure, axes = _drawing(0.8 + 0.3 * len(names), "share of the importance", "", title)
    axes.barh(names, [shares[name] for name in names], color=_BLUE, height=0.65)
    axes.grid(visible=False)
    return figure


def asked_plot(trials: pd.DataFrame, name: str, n_startup_trials: int) -> Plot:
    """Where a search looked: a parameter's value by trial on a logarithmic axis, with the dev score as colour.

    Parameters
    ----------
    trials : DataFrame
        With the columns `name` and ``value``, the score; a row per trial.
    name : str
        The parameter.
    n_startup_trials : int
        Trials that were drawn at random: a line is drawn behind the last of them.
    """
    figure, axes = _drawing(3, "trial", name)
    dots = axes.scatter(trials.index, trials[name], c=trials["value"], cmap="viridis", s=36)
    axes.axvline(n_startup_trials - 0.5, color=GREY, linestyle=":", label=_START)
    axes.set(yscale="log")
    figure.colorbar(dots, label="dev ROC AUC")
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def best_of_n_plot(optimism: pd.DataFrame) -> Plot:
    """What the best of n trials is worth: its dev and test score, and how much of the difference is the choice.

    Parameters
    ----------
    optimism : DataFrame
        Rows of one data set of the study's table of that name.
    """
    figure = Plot(figsize=(8.5, 3.9), dpi=100, layout="constrained")
    scores, gains = figure.subplots(1, 2)
    for (method, rows), colour in zip(optimism.groupby("method", sort=False), (_BLUE, _ORANGE), strict=False):
        scores.plot(rows["n"], rows["dev"], "o-", color=colour, label=f"{method}: best dev score")
        scores.plot(rows["n"], rows["test"], "s--", color=colour, label=f"{method}: test score of that trial")
        gains.plot(rows["n"], rows["optimism"], "o-", color=colour, label=f"{method}: measured, 95 % interval")
        gains.fill_between(rows["n"], rows["low"], rows["high"], color=colour, alpha=0.15)
    of_formulas = optimism.groupby("n")[["independence", "shared"]].mean()
    gains.plot(of_formulas["independence"], ":", color=INK, label="formula: independent trials")
    gains.plot(of_formulas["shared"].dropna(), "-.", color=GREY, label="formula: equal trials, shared images")
    for axes, what in ((scores, "ROC AUC"), (gains, "optimism by choosing the best")):
        axes.set(xscale="log")
        axes.set_xticks(sorted(set(optimism["n"])), sorted(set(optimism["n"])))
        axes.minorticks_off()
        name_axes(axes, "n: trials to choose from", what)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=8)
    return figure


def space_tree(config: object) -> Plot:
    """A config's search spaces as a tree: a branch for each field, and below a choice one for each alternative.

    What stands below an alternative is asked for only when that one is chosen.

    Raises
    ------
    FieldError
        As :func:`common.search.find_spaces`.
    """
    lines = tree_lines(type(config).__name__, find_spaces(config))
    figure = Plot(figsize=(8.5, 0.4 + 0.3 * len(lines)), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(-0.2, 11), ylim=(len(lines) - 0.4, -0.6))
    for row, (depth, label, space) in enumerate(lines):
        if depth:
            parent = max(above for above in range(row) if lines[above][0] == depth - 1)
            axes.plot([depth - 0.8] * 2 + [depth - 0.1], [parent + 0.35, row, row], color=GREY, linewidth=1)
        axes.text(depth, row, label, va="center", color=INK if space else GREY, weight="bold" if space else None)
        axes.text(5, row, space, va="center", color=_BLUE, family="monospace", fontsize=9)
    return figure


def tree_lines(root: str, spaces: Mapping[str, object]) -> list[tuple[int, str, str]]:
    """The tree of :func:`space_tree` as lines from top to bottom.

    Parameters
    ----------
    root : str
        Name of the root.
    spaces : mapping from name to space
        As :func:`common.search.find_spaces` returns it.

    Returns
    -------
    list of (depth, label, space)
        `space` is empty where a line is but a stop on the way to others.
    """
    lines, open_parts = [(0, root, "")], []
    for name, space in spaces.items():
        parts = name.split(".") if space.name is None else [name]
        shared = next((i for i, pair in enumerate(zip(parts, open_parts, strict=False)) if pair[0] != pair[1]), None)
        shared = min(len(parts), len(open_parts)) if shared is None else shared
        for depth in range(shared, len(parts) - 1):
            lines.append((depth + 1, parts[depth], ""))
        labels = getattr(space, "labels", None)
        text = repr(space) if labels is None else f"one of {', '.join(map(str, labels))}"
        lines.append((len(parts), parts[-1], text))
        open_parts = parts
    return lines


def _drawing(height: float, x: str, y: str, title: str = "") -> tuple[Plot, Axes]:
    figure = Plot(figsize=(6.6, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    name_axes(axes, x, y)
    return figure, axes
