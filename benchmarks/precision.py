"""Row precision: fits in fp32 and in bf16, from the same seeds."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure
from common import data, training
from common.seeds import Stream
from step_3 import train as step_3

N_SEEDS = {"normal": 5, "full": 5, "fast": 2}
PRECISIONS = ("fp32", "bf16")
SIZES = {
    "normal": {"warmup_epochs": 3, "epochs": 4, "patience": 4},
    "fast": {"warmup_epochs": 1, "epochs": 1, "image_size": 32},
}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Dev ROC AUC and images per second of both precisions, by seed."""
    config = replace(step_3.CONFIG, **SIZES.get(size_name, SIZES["normal"]))
    compute = training.set_up(parallel_fits=4, config=config)
    table = data.load_images("drawn", config.image_size)
    seeds = range(N_SEEDS[size_name])
    both = partial(_both, table, config, compute)
    found = training.run_jobs(both, seeds, compute, None, len(PRECISIONS) * len(seeds))
    scores, speeds = np.array(found).transpose(2, 1, 0)
    differences = scores[1] - scores[0]
    error = differences.std(ddof=1) / np.sqrt(len(seeds))
    return [
        Figure(
            "precision",
            "bf16 / fp32: dev ROC AUC",
            dict(zip(PRECISIONS, scores.mean(1).tolist(), strict=True)),
            "",
            float(scores[1].mean() / scores[0].mean()),
            "no difference",
            bool(abs(differences.mean()) <= 2 * error),
            f"means of {len(seeds)}",
            f"{config.backbone} {config.image_size} px; bf16 less fp32: {differences.mean():+.4f}, "
            f"standard error {error:.4f}; met where within two of them",
            {"scores": dict(zip(PRECISIONS, scores.tolist(), strict=True))},
        ),
        Figure(
            "precision",
            "bf16 / fp32: second phase",
            dict(zip(PRECISIONS, np.median(speeds, 1).tolist(), strict=True)),
            "images/s",
            float(np.median(speeds[1]) / np.median(speeds[0])),
            taken=f"medians of {len(seeds)}",
            note=f"--precision auto chooses {compute.precision} here",
        ),
    ]


def _both(table, config, compute, seed: int) -> list[tuple[float, float]]:
    """Dev ROC AUC and images per second of a seed's second phase, in each precision."""
    fold = data.random_fold(table, Stream(seed).at("fold"))
    fit = partial(_fit, table, fold, config, compute, Stream(seed))
    return [next(training.run_fits(fit, [precision])) for precision in PRECISIONS]


def _fit(table, fold, config, compute, stream, precision: str) -> tuple[float, float]:
    epochs = []

    def log(metrics: dict[str, float], step: int) -> None:
        epochs.extend([step] if "train_loss" in metrics else [])

    network = training.new_model(config, table, replace(compute, precision=precision), stream.at("model"))
    step_3.warm_up(network, table, fold, config, stream.at("warm-up"), lambda *_: None)
    started = time.perf_counter()
    score = step_3.fine_tune(network, table, fold, config, stream.at("fine-tuning"), log)
    return score, len(epochs) * len(fold.train) / (time.perf_counter() - started)
