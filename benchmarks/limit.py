"""What this machine has for a second process: epochs of a fit in one, and in two side by side."""

from __future__ import annotations

import time
from contextlib import redirect_stdout
from multiprocessing import get_context

from benchmarks.figures import Figure

AIM = 1.7
OF_THE_LIMIT = 0.95


def loops(seconds: float) -> dict[str, float]:
    """Epochs a second in one process, and in two side by side: what the machine itself has for a second process.

    A fit's epochs take more than one core: a thread makes the next batch while one is trained on.
    """
    with get_context("spawn").Pool(2) as pool:
        pool.map(_loop, [0.1, 0.1], chunksize=1)
        alone = pool.map(_loop, [seconds])
        both = pool.map(_loop, [seconds] * 2, chunksize=1)
    return {"1 process": sum(alone), "2 processes": sum(both)}


def _loop(seconds: float) -> float:
    from common import data, training
    from common.seeds import Stream
    from step_4.train import CONFIG

    compute = training.set_up(parallel_fits=2, config=CONFIG)
    with redirect_stdout(None):
        table = data.load_images("drawn", CONFIG.image_size)
    stream = Stream(0)
    rows = stream.at("rows").numpy().permutation(len(table))[:384]
    network = training.new_model(CONFIG, table, compute, stream)
    optimizer = training.make_optimizer(network, CONFIG.optimizer, CONFIG.learning_rate, CONFIG.weight_decay)
    parts, epoch, began = (CONFIG.batch_size, stream, lambda *_: None, CONFIG.augmentation), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        training.train_one_epoch(network, table, rows, optimizer, epoch := epoch + 1, *parts)
        training.validate_one_epoch(network, table, rows[:96], CONFIG.batch_size)
    return epoch / (time.perf_counter() - began)


def limit_and_aim(measured: list[dict[str, float]]) -> tuple[float, float]:
    """The ratio that two processes could have, and the one that is expected: 1.7, or 95 % of it where that is less."""
    limit = sum(pair["2 processes"] / pair["1 process"] for pair in measured) / len(measured)
    return limit, round(min(AIM, OF_THE_LIMIT * limit), 2)


def figure_of(row: str, measured: list[dict[str, float]], note: str) -> Figure:
    """The limit, as a line of a row's table."""
    what = "epochs of a fit in two processes / in one"
    return Figure(row, what, measured[-1], "a second", limit_and_aim(measured)[0], note=note, taken="last")
