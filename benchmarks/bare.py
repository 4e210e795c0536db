"""Row bare: an epoch of the second phase, against a bare loop over augmented float images that wait in memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.figures import Figure, alternate, at_least, minima, progress
from common import data, training
from common.config import TrainingConfig
from common.seeds import Stream

AIM = 0.95
STREAM = Stream(0)


@dataclass(frozen=True)
class Size:
    """A backbone, and how much it is given."""

    backbone: str
    weights: str
    image_size: int
    n_images: int
    repetitions: int


NORMAL = [Size("small_cnn", "DEFAULT", 64, 480, 15), Size("resnet18", "none", 224, 64, 3)]
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": [Size("small_cnn", "DEFAULT", 32, 64, 2)]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Images per second of both sides, for each backbone."""
    sizes = SIZES[size_name]
    with progress("bare", sum(2 * (size.repetitions + 1) for size in sizes)) as bar:
        return [compare("bare", size, AIM, bar) for size in sizes]


def compare(row: str, size: Size, aim: float, bar, parallel_fits: int = 4, fast_math: bool = False) -> Figure:
    """An epoch against the bare loop, whose inputs are where the network is."""
    config = TrainingConfig(backbone=size.backbone, weights=size.weights, image_size=size.image_size)
    compute = training.set_up(parallel_fits=parallel_fits, config=config, fast_math=fast_math)
    table = data.load_images("drawn", config.image_size)
    rows = STREAM.at("rows").numpy().choice(len(table), min(size.n_images, len(table)), replace=False)
    batches = augmented(table, rows, config, compute)
    sides = {
        "epoch": partial(_epoch, *new(config, table, compute), table, rows, config),
        "bare loop": partial(bare_loop, *new(config, table, compute), batches),
    }
    alternate(sides, 1, bar)
    seconds = minima(alternate(sides, size.repetitions, bar))
    return Figure(
        row,
        f"epoch / bare loop: {config.backbone} {config.image_size} px{', --fast-math' if fast_math else ''}",
        {name: len(rows) / value for name, value in seconds.items()},
        "images/s",
        **at_least(seconds["bare loop"] / seconds["epoch"], aim),
        taken=f"best of {size.repetitions}",
        note="images per second of train_one_epoch, by the same of a loop over float images that are augmented already",
        details={
            "n_images": len(rows),
            "precision": compute.precision,
            "threads": compute.threads,
            "device": compute.description,
        },
    )


def new(config, table, compute):
    """A network with its optimizer."""
    network = training.new_model(config, table, compute, STREAM.at("model"))
    return network, training.make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)


def augmented(table, rows: np.ndarray, config, compute) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the bare loop is given: batches as large as those of `train_one_epoch`."""
    draws = STREAM.at("draws").numpy().random((len(rows), 8))
    found = []
    for batch in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / config.batch_size)):
        images = torch.from_numpy(table.pixels[rows[batch]])
        images = training.augment(images, draws[batch], config.augmentation)
        labels = torch.from_numpy(table.labels[rows[batch]])
        found.append(
            (
                images.to(compute.device, memory_format=torch.channels_last),
                labels.to(compute.device, torch.float32),
            )
        )
    return found


def _epoch(network, optimizer, table, rows, config) -> float:
    started = time.perf_counter()
    training.train_one_epoch(
        network, table, rows, optimizer, 1, config.batch_size, STREAM, lambda *_: None, config.augmentation
    )
    return time.perf_counter() - started


def bare_loop(network, optimizer, batches) -> float:
    """Seconds of an epoch that does nothing but train."""
    started = time.perf_counter()
    network.train()
    for images, labels in batches:
        loss = binary_cross_entropy_with_logits(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()
    return time.perf_counter() - started
