"""Row gpu: a GPU kept busy: epochs against a bare loop, CUDA graphs, fits side by side, and the usual script."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import scratch, usual
from benchmarks.bare import STREAM, Size, augmented, bare_loop, compare, new
from benchmarks.figures import Figure, alternate, minima, progress
from common import data, training
from common.cli import UserError
from common.config import TrainingConfig
from common.state import PROJECT

AIM = 0.9
SIDE_BY_SIDE = (1, 2, 4)
NORMAL = [
    Size("small_cnn", "DEFAULT", 64, 480, 10),
    Size("resnet18", "none", 224, 480, 5),
    Size("densenet121", "none", 224, 240, 3),
]
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": [Size("small_cnn", "DEFAULT", 32, 64, 2)]}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Images per second with and without deterministic algorithms, and seconds of whole scripts.

    Raises
    ------
    UserError
        When there is no GPU of NVIDIA's.
    """
    if not torch.cuda.is_available():
        raise UserError("row gpu: PyTorch finds no CUDA GPU on this machine; expected one")
    sizes = SIZES[size_name]
    n_runs = sum(4 * (size.repetitions + 1) for size in sizes) + 2 * (sizes[0].repetitions + 1) + len(SIDE_BY_SIDE) + 1
    with progress("gpu", n_runs) as bar:
        figures = [
            compare("gpu", size, AIM, bar, parallel_fits=1, fast_math=fast_math)
            for size in sizes
            for fast_math in (False, True)
        ]
        figures.append(_graphed(sizes[0], bar))
        figures += _side_by_side(sizes[min(1, len(sizes) - 1)], bar)
    return [*figures, *(replace(figure, row="gpu") for figure in usual.measure(size_name, source))]


def _graphed(size: Size, bar) -> Figure:
    """The bare loop with its forward and backward passes as CUDA graphs: what an epoch could gain from them."""
    config = TrainingConfig(backbone=size.backbone, weights=size.weights, image_size=size.image_size)
    compute = training.set_up(config=config)
    table = data.load_images("drawn", config.image_size)
    rows = STREAM.at("rows").numpy().permutation(len(table))[: size.n_images // config.batch_size * config.batch_size]
    batches = augmented(table, rows, config, compute)
    network, optimizer = new(config, table, compute)
    graphed = torch.cuda.make_graphed_callables(network, (batches[0][0],))
    sides = {
        "graphs": partial(bare_loop, graphed, optimizer, batches),
        "bare loop": partial(bare_loop, *new(config, table, compute), batches),
    }
    alternate(sides, 1, bar)
    seconds = minima(alternate(sides, size.repetitions, bar))
    return Figure(
        "gpu",
        f"CUDA graphs / bare loop: {config.backbone} {config.image_size} px",
        {name: len(rows) / value for name, value in seconds.items()},
        "images/s",
        seconds["bare loop"] / seconds["graphs"],
        taken=f"best of {size.repetitions}",
    )


def _side_by_side(size: Size, bar) -> list[Figure]:
    """The fits of step 3 on one GPU, so many at once."""
    flags = ["--backbone", size.backbone, "--weights", size.weights, "--image-size", size.image_size, "--fast"]
    flags += ["--root-splits", 2, "--inner-splits", 4, "--device", "cuda", "--fresh", "--json"]
    seconds, scores = {}, {}
    for n_jobs in (SIDE_BY_SIDE[0], *SIDE_BY_SIDE):  # the first fills the caches
        command = [sys.executable, "step_3/train.py", *flags, "--n-jobs", n_jobs, "--fits-per-gpu", n_jobs]
        result = json.loads(scratch.run(command, PROJECT, bar)[1].strip().splitlines()[-1])
        seconds[n_jobs], scores[n_jobs] = result["seconds"], result["test_roc_auc"]
        bar.update()
    alone = SIDE_BY_SIDE[0]
    figures = [
        Figure(
            "gpu",
            f"{alone} / {n_jobs} fits on one GPU: {size.backbone} {size.image_size} px",
            {f"{alone} at once": seconds[alone], f"{n_jobs} at once": seconds[n_jobs]},
            "s",
            seconds[alone] / seconds[n_jobs],
            note=f"{result['fits']} fits of step 3 with --fast, seconds by the script",
        )
        for n_jobs in SIDE_BY_SIDE[1:]
    ]
    same = len(set(scores.values())) == 1
    by_number = {f"{n_jobs} at once": score for n_jobs, score in scores.items()}
    ratio = max(scores.values()) / min(scores.values())
    return [*figures, Figure("gpu", "test ROC AUC by fits on one GPU", by_number, "", ratio, "equal", same)]
