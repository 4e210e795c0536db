"""The study as pictures: the closing table with its intervals, and how much too good the best of n trials looks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from common.plots.figures import GREY, INK, PALE, Plot, name_axes

COLOURS = {"drawn": "#0072B2", "phantoms": "#D55E00"}
LIMITS = ["number", "low", "high"]
NAMES = {"drawn": "drawn pets", "phantoms": "phantoms"}


def claims_picture(claims: pd.DataFrame) -> Plot:
    """Each claim as a dot with its interval, for both data sets: scores above, differences of scores below."""
    kinds = {kind: claims[claims["kind"] == kind] for kind in ("score", "difference")}
    heights = [rows["claim"].nunique() for rows in kinds.values()]
    figure = Plot(figsize=(10, 1.7 + 0.42 * sum(heights)), dpi=110, layout="constrained")
    figure.suptitle("What each step lets one claim", fontsize=13)
    *axes, below = figure.subplots(3, 1, height_ratios=[*heights, 0.7])
    shares = claims[claims["kind"] == "share"]
    told = ", ".join(f"{row.number:.0%} on {NAMES[row.data]}" for row in shares.itertuples())
    below.axis("off")
    text = f"{shares['claim'].iloc[0]} (step {shares['step'].iloc[0]}): {told}"
    place = blended_transform_factory(figure.transFigure, below.transAxes)
    below.text(0.5, 0.5, text, transform=place, ha="center", va="center", fontsize=9)
    for one, (kind, rows), axis in zip(axes, kinds.items(), ("test ROC AUC", "difference of ROC AUC"), strict=True):
        _forest(one, rows, axis)
        if kind == "difference":
            one.axvline(0, color=GREY, linewidth=1)
    for data, colour in COLOURS.items():
        axes[0].plot([], [], "o-", color=colour, label=f"{NAMES[data]}, 95 % interval")
    axes[0].plot([], [], "o", color=GREY, linestyle=":", label="a spread, no interval")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _forest(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    claims = list(dict.fromkeys(zip(rows["step"], rows["claim"], strict=True)))
    name_axes(axes, name, "")
    axes.grid(visible=False, axis="y")
    for place, data in enumerate(COLOURS):
        for _, row in rows[rows["data"] == data].iterrows():
            y = len(claims) - 1 - claims.index((row["step"], row["claim"])) + 0.16 - 0.32 * place
            style = ":" if row["method"].startswith("a spread") else "-"
            axes.plot([row["low"], row["high"]], [y, y], style, color=COLOURS[data], linewidth=2)
            axes.plot(row["number"], y, "o", color=COLOURS[data], markersize=5)
            text = axes.annotate(_in_words(row), (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)
            text.set_color(COLOURS[data])
    axes.set_yticks(range(len(claims)), [f"{claim}   step {step}" for step, claim in reversed(claims)], fontsize=9)
    axes.set_ylim(-0.6, len(claims) - 0.4)
    for y in np.arange(0.5, len(claims) - 1):
        axes.axhline(y, color=PALE, linewidth=0.6)


def _in_words(row: pd.Series) -> str:
    number, low, high = (f"{round(row[name], 2) + 0:.2f}".replace("-", "\N{MINUS SIGN}") for name in LIMITS)
    return number if pd.isna(row["low"]) else f"{number} [{low}, {high}]"


def optimism_picture(optimism: pd.DataFrame) -> Plot:
    """How much too good the best of n trials looks, by data set: measured with its interval, and as predicted."""
    names = list(optimism["data"].unique())
    figure = Plot(figsize=(9, 4), dpi=110, layout="constrained")
    figure.suptitle("How much too good the best of n trials looks on the dev sets", fontsize=12)
    for axes, data in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        rows = optimism[optimism["data"] == data]
        name_axes(axes, "trials", "ROC AUC" if data == names[0] else "")
        axes.set_title(NAMES[data], fontsize=10)
        for method, colour, aside, called in (
            ("random", "#0072B2", 0.97, "random search"),
            ("tpe", "#D55E00", 1.03, "TPE"),
        ):
            some = rows[rows["method"] == method]
            limits = np.abs(some[["low", "high"]].to_numpy().T - some["optimism"].to_numpy())
            axes.errorbar(
                some["n"] * aside,
                some["optimism"],
                limits,
                fmt="o-",
                color=colour,
                capsize=2,
                label=f"{called}, measured",
            )
        some = rows[rows["method"] == "random"]
        axes.plot(some["n"], some["independence"], "--", color=GREY, label="predicted, if trials were independent")
        axes.plot(
            some["n"], some["shared"], ":", color=INK, label="predicted, if all are alike and share their dev images"
        )
        axes.axhline(0, color=PALE, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(some["n"], some["n"])
        axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure
