"""Is anything that is fitted before the test touched by the test images? They are replaced, and all must stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from common.config.settings import TrainingConfig
from common.data.folding import Fold
from common.data.images import ImageTable
from common.seeds import Stream
from common.training.compute import Compute
from common.training.single import fit_on

MOST = 96
"""Images of each part of the fold that are used."""


def touched_by_test(table: ImageTable, fold: Fold, config: TrainingConfig, compute: Compute) -> list[str]:
    """What a short training before the test has other values for, bit by bit, once test images and labels are others.

    One epoch on up to :data:`MOST` images, twice: on the table, and on one whose test images are noise and whose test
    labels are permuted.

    Returns
    -------
    list of str
        Names of weights (or of running means), and ``dev score``: nothing, if all is as it should be.
    """
    short = replace(fold, train=fold.train[:MOST], dev=_of_each_class(table, fold.dev))
    config = replace(config, epochs=1, warmup_epochs=0)
    found = []
    for version in (table, _with_others(table, fold.test)):
        torch.use_deterministic_algorithms(compute.deterministic)
        network, score = fit_on(version, short, compute, Stream(0))(config, lambda score, epoch: None)
        found.append({**network.state_dict(), "dev score": torch.tensor(score)})
    one, other = found
    return [name for name in one if not torch.equal(one[name], other[name])]


def _of_each_class(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    """Some rows, with each class among them."""
    of = [rows[table.labels[rows] == label][: MOST // len(table.classes) + 1] for label in range(len(table.classes))]
    return np.sort(np.concatenate(of))


def _with_others(table: ImageTable, rows: np.ndarray) -> ImageTable:
    rng = np.random.default_rng(0)
    pixels, labels = np.array(table.pixels), table.labels.copy()
    if pixels.dtype == np.uint8:
        pixels[rows] = rng.integers(0, 256, pixels[rows].shape, np.uint8)
    else:
        pixels[rows] = rng.normal(size=pixels[rows].shape)
    labels[rows] = (labels[rows] + rng.integers(1, len(table.classes), len(rows))) % len(table.classes)
    return replace(table, pixels=pixels, labels=labels, cached=False)
