"""Searches in pictures: the history of a study, what mattered in it, and a search space as a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from common import tracking
from common.cli import UserError
from common.config.places import find_spaces
from common.plots.scores import Plot

_INK, _GREY, _PALE, _BLUE, _ORANGE = "#222222", "#8a8a8a", "#d9d9d9", "#0072B2", "#E69F00"


def history_plot(trials: pd.DataFrame, title: str = "") -> Plot:
    """Trials in their order, with their mean dev score, and the best so far.

    A pruned trial stands where its folds so far have their mean.

    Parameters
    ----------
    trials : DataFrame
        As :func:`common.search.trials_table` makes it.
    title : str
    """
    folds = trials.filter(regex=r"^fold \d+$")
    score = trials["value"].fillna(folds.mean(axis=1))
    figure = Plot(figsize=(6, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for state, marker, colour in (("complete", "o", _BLUE), ("pruned", "x", _ORANGE)):
        of_state = trials["state"] == state
        if of_state.any():
            axes.plot(trials.index[of_state], score[of_state], marker, color=colour, label=state)
    axes.step(trials.index, trials["value"].cummax().ffill(), where="post", color=_INK, linewidth=1.4, label="best")
    axes.set(xlabel="trial", ylabel="mean dev ROC AUC", title=title, axisbelow=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_PALE, linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
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
    figure = Plot(figsize=(6, 0.8 + 0.3 * len(names)), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [shares[name] for name in names], color=_BLUE, height=0.65)
    axes.set(xlabel="share of the importance", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def best_of_n_plot(trials: Sequence[int], best: Sequence[float]) -> Plot:
    """What the best of n trials scores on average, by n on a logarithmic axis."""
    figure = Plot(figsize=(6, 2.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.semilogx(trials, best, "o-", color=_BLUE)
    axes.set(xlabel="trials", ylabel="mean of the best", axisbelow=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_PALE, linewidth=0.6)
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
            axes.plot([depth - 0.8] * 2 + [depth - 0.1], [parent + 0.35, row, row], color=_GREY, linewidth=1)
        axes.text(depth, row, label, va="center", color=_INK if space else _GREY, weight="bold" if space else None)
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


def best_config_file(run_id: str, root_split: int, folder: str | Path) -> Path:
    """Fetch ``best_config.py`` of one outer fold of a run of step 5 into a folder.

    Raises
    ------
    UserError
        When there is no such run or outer fold.
    """
    run = tracking.find_run("step_5", run_id)
    below = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.root_split = '{root_split}'"
    found = run.client.search_runs([run.experiment_id], f"{below} and tags.run_level = 'root_split'")
    if not found:
        raise UserError(f"run {run_id}: it has no root split {root_split}")
    return Path(run.client.download_artifacts(found[0].info.run_id, "best_config.py", str(folder)))
