"""Folds: drawn from a splits file, tried by the dozen with a quick model, and simulated where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import training
from common.config.settings import TrainingConfig
from common.data.folding import folds_of
from common.data.images import ImageTable
from common.plots.figures import INK, name_axes
from common.plots.scores import CLASS_COLOURS, Plot
from common.seeds import Stream
from common.training.compute import Compute

PART_COLOURS = {"train": "#d9d9d9", "dev": "#E69F00", "test": "#0072B2"}
"""A colour per part that colour-blind readers tell apart (Okabe & Ito 2008)."""


def fold_diagram(
    splits: Mapping[str, object], table: ImageTable, root_splits: int | None = None, inner_splits: int | None = 2
) -> Plot:
    """What a splits file says: a row per fold, a column per image, and the colour is the image's part.

    Parameters
    ----------
    splits : dict
        As :func:`common.data.load_splits` returns it.
    table : ImageTable
        Its images; the columns are sorted by class, then group, then file.
    root_splits, inner_splits : int, optional
        How many to draw; None for all.

    Raises
    ------
    UserError
        When the splits hold fewer than asked for.
    """
    roots = [folds_of(splits, root, inner_splits) for root in range(root_splits or len(splits["root_splits"]))]
    groups = np.arange(len(table)) if table.groups is None else table.groups
    order = np.lexsort((np.arange(len(table)), groups, table.labels))
    parts = np.zeros((sum(map(len, roots)), len(table)), int)
    for row, fold in enumerate(fold for folds in roots for fold in folds):
        for value, rows in enumerate((fold.train, fold.dev, fold.test)):
            parts[row, rows] = value

    figure = Plot(figsize=(9, 1.4 + 0.16 * len(parts)), dpi=100, layout="constrained")
    axes = figure.subplots()
    colours = ListedColormap(list(PART_COLOURS.values()))
    axes.imshow(parts[:, order], cmap=colours, vmin=0, vmax=2, aspect="auto", interpolation="none")
    ends = np.cumsum([len(folds) for folds in roots])
    axes.set_yticks(ends - [len(folds) / 2 + 0.5 for folds in roots], [f"root {fold[0].root_split}" for fold in roots])
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=2.5)
    counts = [int((table.labels == label).sum()) for label in range(len(table.classes))]
    for end in np.cumsum(counts)[:-1]:
        axes.axvline(end - 0.5, color=INK, linewidth=1.2)
    axes.set_xticks(
        np.cumsum(counts) - np.array(counts) / 2,
        [f"{count} {name}" for count, name in zip(counts, table.classes, strict=True)],
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=f"images, sorted by class{'' if table.groups is None else ' and group'}")
    axes.set_ylabel(f"outer folds, {len(roots[0])} inner each")
    keys = [Patch(color=colour, label=part) for part, colour in PART_COLOURS.items()]
    figure.legend(handles=keys, loc="outside upper center", ncols=3, frameon=False)
    return figure


def scores_by_fold(results: pd.DataFrame) -> Plot:
    """Test ROC AUC by outer fold: a dot for each network, a colour for each root seed, and a bar at the fold's mean.

    Parameters
    ----------
    results : DataFrame
        With ``root_split`` and ``test_roc_auc``, as ``results.csv`` has them, and perhaps ``seed``.
    """
    seeds = sorted(set(results["seed"])) if "seed" in results else [None]
    figure = Plot(figsize=(7.5, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for place, seed in enumerate(seeds):
        of_seed = results if seed is None else results[results["seed"] == seed]
        x = of_seed["root_split"] + 0.18 * (place - (len(seeds) - 1) / 2)
        name = "a network" if seed is None else f"a network, seed {seed}"
        axes.plot(
            x, of_seed["test_roc_auc"], "o", color=CLASS_COLOURS[place + 1], markersize=4.5, alpha=0.7, label=name
        )
    means = results.groupby("root_split")["test_roc_auc"].mean()
    axes.plot(means.index, means, "_", color=INK, markersize=24, markeredgewidth=2, label="mean of the outer fold")
    axes.axhline(means.mean(), color=INK, linestyle="--", linewidth=1, label=f"mean {means.mean():.2f}")
    axes.set(xticks=means.index)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    name_axes(axes, "outer fold (root split)", "test ROC AUC")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def backbone_features(table: ImageTable, backbone: str = "small_cnn") -> np.ndarray:
    """What a backbone makes of every image before any training: :func:`common.training.frozen_features`, on the CPU.

    Raises
    ------
    UserError
        When the backbone cannot be built.
    """
    cpu = Compute("cpu", "fp32", torch.get_num_threads())
    return training.frozen_features(training.new_model(TrainingConfig(backbone), table, cpu, Stream(0)), table)


def probe_score(features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Test ROC AUC of a linear probe: ridge regression on the features, fitted in milliseconds.

    Parameters
    ----------
    features : ndarray of float, shape (n, n_features)
    labels : ndarray of int, shape (n,)
    train, test : ndarray of int
        Rows to fit on and to test on.
    """
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=300.0)).fit(features[train], labels[train])
    return float(roc_auc_score(labels[test], probe.decision_function(features[test])))


def simulated_scores(
    stream: Stream, data_sets: int = 500, n: int = 200, n_test: int = 40, splits: int = 10, random: bool = True
) -> np.ndarray:
    """Test ROC AUCs of one learner over the splits of many simulated data sets, of which the true mean is then known.

    The data are two normal classes in 20 dimensions; the learner projects on the difference of the class means.

    Parameters
    ----------
    stream : Stream
    data_sets : int
    n, n_test : int
        Images per data set, and in each test set; even, so that the classes are of one size.
    splits : int
        Splits of each data set.
    random : bool
        Draw each test set anew; else they are the folds of a k-fold, and n_test is n / splits.

    Returns
    -------
    ndarray of float64, shape (data_sets, splits)
    """
    draw = stream.numpy()
    scores = np.empty((data_sets, splits))
    half, half_test = n // 2, n_test // 2 if random else n // 2 // splits
    for scored in scores:
        classes = draw.normal(size=(2, half, 20)) + np.array([0.0, 0.235]).reshape(2, 1, 1)
        orders = draw.permuted(np.tile(np.arange(half), (2, 1)), axis=1)
        for split in range(splits):
            if random:
                orders = draw.permuted(orders, axis=1)
            tested = np.roll(orders, -split * half_test * (not random), axis=1)
            test, train = (
                np.stack([classes[c, rows] for c, rows in enumerate(part)])
                for part in (tested[:, :half_test], tested[:, half_test:])
            )
            low, high = test @ (train[1].mean(axis=0) - train[0].mean(axis=0))
            scored[split] = (high[:, None] > low).mean()
    return scores
