"""Row heads: a search that trains the head alone, and how much any faster training of heads could bring there."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks import scratch
from benchmarks.figures import Figure, alternate, at_least, minima, minima_of, progress
from benchmarks.subset import AUDITED
from common import data, training
from common.seeds import Stream
from common.state import PROJECT
from step_4 import train as step_4

WORTH = 1.3
"""What a remedy must bring to be taken up."""
CONFIG = """from common.config import Float, Int, TrainingConfig

config = TrainingConfig(
    warmup_epochs={epochs},
    epochs=0,
    hidden_dim=Int(16, 256, log=True),
    warmup_learning_rate=Float(1e-4, 1e-2, log=True),
)
"""


@dataclass(frozen=True)
class Size:
    """Epochs of a head, trials and outer folds of a search, repetitions, and heads that are trained at once."""

    epochs: int = 5
    n_trials: int = 10
    root_splits: int = 2
    repetitions: int = 2
    heads: int = 60


SIZES = {"normal": Size(), "full": Size(repetitions=4), "fast": Size(1, 1, 1, 1, 4)}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Whole searches with and without any epoch; heads one by one and at once, without anything around them."""
    size = SIZES[size_name]
    with progress("heads", 2 + 6 * size.repetitions) as bar:
        return [_search(size, bar), _alone(size, bar)]


def _search(size: Size, bar) -> Figure:
    sides = {
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'}": partial(_run_search, size, epochs)
        for epochs in (size.epochs, 0)
    }
    alternate(sides, 1, bar)  # fills the caches
    seconds = minima(alternate(sides, size.repetitions, bar))
    trained, untrained = seconds.values()
    return Figure(
        "heads",
        f"search of heads / the same without any epoch: {size.root_splits} x 3 folds, {size.n_trials} trials",
        seconds,
        "s a fit",
        trained / untrained,
        f"faster heads are worth it from {WORTH} on",
        None,
        minima_of(size.repetitions),
        "whole scripts, by fit; the ratio is the most that any faster training of heads can bring to a search of heads "
        "on frozen features",
    )


def _run_search(size: Size, epochs: int) -> float:
    config = PROJECT / f"heads_{epochs}.py"
    config.write_text(CONFIG.format(epochs=epochs))
    flags = ["--data", "drawn", "--root-splits", size.root_splits, "--inner-splits", 3, "--n-trials", size.n_trials]
    command = [sys.executable, "step_5/train.py", config, *flags, "--fresh", "--n-jobs", 2, "--json", *AUDITED]
    outcome = json.loads(scratch.run(command, PROJECT)[1].strip().splitlines()[-1])
    return outcome["seconds"] / outcome["fits"]


def _alone(size: Size, bar) -> Figure:
    """Seconds a head of the step's own warm-up, with larger batches of evaluation, and of many heads at once."""
    config = replace(step_4.CONFIG, warmup_epochs=size.epochs, patience=size.epochs)
    compute = training.set_up(parallel_fits=2, config=config)
    table = data.load_images("drawn", config.image_size)
    fold = data.folds_of(data.load_splits(table), 0, 1)[0]
    network = training.new_model(config, table, compute, Stream(0).at("model"))
    network.freeze_backbone()
    features = training.frozen_features(network, table)
    found = alternate(
        {
            "one by one": partial(_one, config, compute, table, fold),
            **{
                f"{heads} at once": partial(_at_once, heads, config, features, table.labels, fold)
                for heads in (3, size.heads)
            },
        },
        size.repetitions,
        bar,
    )
    larger = min(_one(replace(config, eval_batch_size=512), compute, table, fold) for _ in range(size.repetitions))
    bar.update(size.repetitions)
    seconds = {**minima(found), "evaluation of 512 images at once": larger}
    one, _, at_once, _ = seconds.values()
    return Figure(
        "heads",
        f"a head, {size.epochs} epochs: one by one / {size.heads} at once",
        seconds,
        "s a head",
        taken=minima_of(size.repetitions),
        note="one process, one thread, features in the cache; at once: the same layers, with AdamW and a learning rate "
        "for each head, as batched products; 3 are the inner folds of one trial",
        **at_least(one / at_once, 1),
    )


def _one(config, compute, table, fold) -> float:
    network = training.new_model(config, table, compute, Stream(0).at("model"))
    started = time.perf_counter()
    step_4.warm_up(network, table, fold, config, Stream(0).at("warm-up"), lambda metrics, epoch: None)
    return time.perf_counter() - started


def _at_once(heads: int, config, features: np.ndarray, labels: np.ndarray, fold) -> float:
    rng = Stream(0).at("heads").numpy()
    rates = torch.from_numpy(10 ** rng.uniform(-4, -2, (heads, 1, 1)).astype("float32"))
    shapes = [(features.shape[1], config.hidden_dim), (1, config.hidden_dim), (config.hidden_dim, 2), (1, 2)]
    weights = [torch.from_numpy(rng.normal(0, 0.05, (heads, *shape)).astype("float32")) for shape in shapes]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=1.0, weight_decay=0)
    inputs, targets = torch.tensor(features), torch.tensor(labels)

    def outputs(rows: np.ndarray, dropout: float) -> torch.Tensor:
        hidden = torch.relu(inputs[rows] @ weights[0] + weights[1])
        return torch.nn.functional.dropout(hidden, dropout) @ weights[2] + weights[3]

    started = time.perf_counter()
    for _ in range(config.warmup_epochs):
        for rows in np.array_split(rng.permutation(fold.train), max(1, len(fold.train) // config.batch_size)):
            loss = cross_entropy(
                outputs(rows, config.dropout_rate).flatten(0, 1), targets[rows].repeat(heads), reduction="sum"
            )
            optimizer.zero_grad()
            (loss / len(rows)).backward()
            before = [weight.detach().clone() for weight in weights]
            optimizer.step()
            with torch.no_grad():  # AdamW's step is proportional to its rate
                for weight, old in zip(weights, before, strict=True):
                    weight.copy_(old + rates * (weight - old))
        with torch.no_grad():
            outputs(fold.dev, 0).softmax(-1)
    return (time.perf_counter() - started) / heads
