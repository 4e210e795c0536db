"""What a lesson looks at beside predictions: pictures, what augmentation does to them, learning curves, and spread."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from IPython.display import Image
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common.cli import UserError
from common.config.settings import Augmentation
from common.data.images import ImageTable
from common.plots.figures import GREY, INK, name_axes
from common.plots.scores import CLASS_COLOURS, Plot
from common.seeds import Stream
from common.training.augmentation import N_DRAWS, augment

COLUMNS = 6
"""Photos side by side."""


class Photos(Plot):
    """A figure of photos, which notebooks show as JPEG: a fifth of the size."""

    def _repr_png_(self) -> None:
        return None

    def _repr_jpeg_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="jpg", pil_kwargs={"quality": 80})
        return content.getvalue()


def sample_pictures(table: ImageTable, rows: Sequence[int] | None = None) -> Photos:
    """Pictures with their labels, and their groups where the table has them.

    Parameters
    ----------
    table : ImageTable
        With `pixels`.
    rows : sequence of int, optional
        Rows of the table; by default a line of each class, spread evenly over the file names.
    """
    if rows is None:
        rows = np.concatenate([_spread(np.flatnonzero(table.labels == i), COLUMNS) for i in range(len(table.classes))])
    figure, axes = _tiles(-(-len(rows) // COLUMNS))
    for place, row in zip(axes.flat, rows, strict=False):
        label = table.labels[row]
        place.imshow(table.pixels[row].transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
        place.set_title(table.classes[label], color=CLASS_COLOURS[label % len(CLASS_COLOURS)], fontsize=9, pad=2)
        if table.groups is not None:
            place.text(0.5, -0.04, table.groups[row], transform=place.transAxes, ha="center", va="top", fontsize=9)
    return figure


def augmented_pictures(table: ImageTable, augmentation: Augmentation | None, stream: Stream) -> Photos:
    """The first and the last picture of a table: as it is, then as training sees it in one epoch after another.

    Parameters
    ----------
    table : ImageTable
        With `pixels`.
    augmentation : Augmentation or None
        None leaves the pictures as they are.
    stream : Stream
        Where the random changes are drawn from.
    """
    figure, axes = _tiles(2)
    for places, row in zip(axes, (0, len(table) - 1), strict=True):
        copies = torch.from_numpy(np.repeat(table.pixels[row][None], COLUMNS, axis=0))
        changed = copies.float() / 255
        if augmentation is not None:
            draws = stream.at(table.files[row]).numpy().random((COLUMNS, N_DRAWS))
            changed[1:] = augment(copies[1:], draws[1:], augmentation)
        for column, (place, image) in enumerate(zip(places, changed.numpy(), strict=True)):
            place.imshow(image.transpose(1, 2, 0))
            if row == 0:
                place.set_title("original" if column == 0 else f"epoch {column}", fontsize=9, pad=2)
    return figure


def learning_curves(fits: Mapping[str, Iterable[tuple[Mapping[str, float], int]]]) -> Plot:
    """Loss and dev ROC AUC by epoch, a colour for each fit; a ring marks the epoch whose weights are kept.

    Parameters
    ----------
    fits : mapping from name to a list of (metrics, epoch)
        What a `log` was called with, in its order (:func:`common.training.train_and_validate_model`), or
        what :func:`common.lesson.history` returns. Phases logged one after another are drawn one after another, with a
        line between them; a phase begins with epoch 0.
    """
    figure = Plot(figsize=(7.5, 3.1), dpi=100, layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for colour, (name, logged) in zip(CLASS_COLOURS * (1 + len(fits) // 6), fits.items(), strict=False):
        start = -1
        for phase, curves in enumerate(_phases(logged)):
            start, x = start + 1 + curves.index[-1], start + 1 + curves.index
            if phase:
                for axes in (losses, scores):
                    axes.axvline(x[0] - 0.5, color=GREY, linestyle=":", linewidth=1)
            label = None if phase else name
            if "train_loss" in curves:
                losses.plot(x, curves["train_loss"], "x--", color=colour, linewidth=1.2, markersize=4)
            losses.plot(x, curves["dev_loss"], ".-", color=colour, linewidth=1.8)
            scores.plot(x, curves["dev_roc_auc"], ".-", color=colour, linewidth=1.8, label=label)
            best = int(np.argmax(curves["dev_roc_auc"]))
            scores.plot(x[best], curves["dev_roc_auc"].iloc[best], "o", mfc="none", color=INK, markersize=8)
    for axes, what in ((losses, "loss"), (scores, "dev ROC AUC")):
        name_axes(axes, "epoch, counted over the phases", what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.legend(handles=[_key("dev", ".-"), _key("train", "x--")], frameon=False)
    scores.legend(handles=[_key("kept", "o", color=INK, mfc="none", markersize=8)], frameon=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def spread_plot(scores: pd.DataFrame, measure: str) -> Plot:
    """A row of dots per column of `scores`, with its mean as a bar.

    Parameters
    ----------
    scores : DataFrame
        A row per repetition, a column per way of doing it.
    measure : str
        Name of the scores, for the axis.
    """
    figure = Plot(figsize=(7.5, 0.8 + 0.4 * scores.shape[1]), dpi=100, layout="constrained")
    axes = figure.subplots()
    for place, column in enumerate(scores):
        axes.plot(scores[column], np.full(len(scores), place), "o", color=GREY, alpha=0.5, markersize=6)
        axes.plot(scores[column].mean(), place, "|", color=INK, markersize=22, markeredgewidth=2.2)
    axes.set(ylim=(scores.shape[1] - 0.5, -0.5))
    axes.set_yticks(range(scores.shape[1]), scores.columns)
    name_axes(axes, measure, "")
    axes.grid(visible=False, axis="y")
    return figure


def small(figure: Plot) -> Image:
    """A figure as a picture of fewer pixels than its file has, so that a notebook with many stays small."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80, metadata={"Software": None})
    return Image(content.getvalue(), format="png")


def _key(label: str, style: str, **options: object) -> Line2D:
    return Line2D([], [], marker=style[0], linestyle=style[1:], label=label, **{"color": GREY, **options})


def _spread(rows: np.ndarray, n: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def _tiles(rows: int):
    height, margin = 1.75 * rows + 0.1, 0.25  # inches; the margin holds a title, or a name
    edges = {"left": 0.01, "right": 0.99, "bottom": margin / height, "top": 1 - margin / height}
    figure = Photos(figsize=(1.5 * COLUMNS, height), dpi=78)
    axes = figure.subplots(rows, COLUMNS, squeeze=False, gridspec_kw={**edges, "hspace": 0.3, "wspace": 0.08})
    for place in axes.flat:
        place.set_axis_off()
    return figure, axes


def _phases(logged: Iterable[tuple[Mapping[str, float], int]]) -> list[pd.DataFrame]:
    phases: list[dict[int, Mapping[str, float]]] = []
    for metrics, epoch in logged:
        if "dev_roc_auc" in metrics:
            if epoch == 0:
                phases.append({})
            phases[-1][epoch] = metrics
    if not phases:
        raise UserError("learning curves: nothing was logged; expected dev_roc_auc by epoch")
    return [pd.DataFrame.from_dict(phase, orient="index").sort_index() for phase in phases]
