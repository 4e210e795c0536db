"""Row precision: training steps and fits in fp32 and in bf16, and what ``--precision auto`` takes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from benchmarks.figures import Figure, at_most, progress
from benchmarks.machine import HERE
from benchmarks.null_run import NullRun
from common import data, training
from common.config import TrainingConfig
from common.seeds import Stream
from common.training.compute import cores
from step_3 import train as step_3

MOST_APART = 0.01
"""So much ROC AUC at most may lie between the two precisions."""
MOST_SLOWER = 1.1
"""What ``auto`` takes may be so many times as slow as the faster one."""
BACKBONES = {"small_cnn": 64, "mobilenet_v3_small": 224, "resnet18": 224, "densenet121": 224}
"""With their image sizes in pixels."""
N_SEEDS = {"normal": 3, "full": 5, "fast": 2}
PRECISIONS = ("fp32", "bf16")
SIZES = {
    "normal": {"warmup_epochs": 3, "epochs": 4, "patience": 4},
    "fast": {"warmup_epochs": 1, "epochs": 1, "image_size": 32},
}


def measure(size_name: str, source: Path) -> list[Figure]:
    """The seconds of a step of each backbone, and the dev ROC AUC of one, in both precisions."""
    config = replace(step_3.CONFIG, **SIZES.get(size_name, SIZES["normal"]))
    compute = training.set_up(parallel_fits=4, config=config)
    table = data.load_images("drawn", config.image_size)
    seeds = range(N_SEEDS[size_name])
    both = partial(_both, table, config, compute)
    scores = np.array(training.run_jobs(both, seeds, compute, HERE, len(PRECISIONS) * len(seeds))).T
    differences = scores[1] - scores[0]
    half = float(student_t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / np.sqrt(len(seeds)))
    low, high = differences.mean() - half, differences.mean() + half
    return [
        Figure(
            "precision",
            "bf16 / fp32: dev ROC AUC",
            dict(zip(PRECISIONS, scores.mean(1).tolist(), strict=True)),
            "",
            float(scores[1].mean() / scores[0].mean()),
            f"within {MOST_APART:g}",
            bool(max(-low, high) <= MOST_APART),
            f"means of {len(seeds)}",
            f"with {config.backbone} at {config.image_size} px bf16 less fp32 is {differences.mean():+.4f}, "
            f"95 % interval {low:+.4f} to {high:+.4f} by paired t; met where all of it is within {MOST_APART:g}",
            {"scores": dict(zip(PRECISIONS, scores.tolist(), strict=True))},
        ),
        *_steps(0.1 if size_name == "fast" else 20.0),
    ]


def _steps(enough: float) -> list[Figure]:
    """Of each backbone, what auto takes against the faster precision."""
    found = []
    with progress("precision", len(BACKBONES)) as bar:
        for backbone, size in BACKBONES.items():
            config = TrainingConfig(backbone=backbone, weights="none", image_size=size)
            compute = training.set_up(parallel_fits=cores(), config=config)  # threads that wait for others would count
            seconds = training.step_seconds(config, compute, enough)
            found.append(
                Figure(
                    "precision",
                    f"auto / the faster: a step of {backbone}, {size} px",
                    seconds,
                    "s",
                    **at_most(seconds[compute.precision] / min(seconds.values()), MOST_SLOWER),
                    taken="minima",
                    note=f"auto takes {compute.precision} for {backbone}",
                )
            )
            bar.update()
    return found


def _both(table, config, compute, seed: int) -> list[float]:
    """Dev ROC AUC from a seed, in each precision."""
    fold = data.random_fold(table, Stream(seed).at("fold"))
    fit = partial(_fit, table, fold, config, compute, Stream(seed))
    return [next(training.run_fits(fit, [precision])) for precision in PRECISIONS]


def _fit(table, fold, config, compute, stream, precision: str) -> float:
    compute = replace(compute, precision=precision)
    return step_3.run_fold(table, fold, config, compute, stream, NullRun())[1]
