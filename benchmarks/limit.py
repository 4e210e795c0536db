"""What this machine could give: bare fits, and what it has for a second process."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, at_least
from common import training
from common.config import TrainingConfig
from common.state import PROJECT

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
    from common import data
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
    return limit, within(AIM, limit)


def within(aim: float, limit: float) -> float:
    """An aim; or 95 % of what the machine could give, where that is less."""
    return round(min(aim, OF_THE_LIMIT * limit), 2)


def bare_seconds(photos: Path, split: Path, n_fits: int, config: TrainingConfig, bar) -> float:
    """Wall time of fits and nothing else, in one process or in two, whichever is faster.

    Parameters
    ----------
    photos : Path
        A folder.
    split : Path
        JSON: from ``train``, ``dev`` and ``test`` to the files in it.
    n_fits : int
    config : TrainingConfig
        Backbone, pixels and batches.
    """
    precision = training.set_up(config=config).precision
    command = ["benchmarks.bare_script", photos, split, "--backbone", config.backbone, "--precision", precision]
    command += ["--image-size", config.image_size, "--batch-size", config.batch_size, "--fits", n_fits]
    n_processes = range(1, min(2, n_fits) + 1)
    runs = (scratch.run([sys.executable, "-m", *command, "--processes", n], PROJECT, bar) for n in n_processes)
    return min(seconds for seconds, _ in runs)


def against(row: str, what: str, seconds: dict[str, float], bare: float, aim: float, **fields) -> list[Figure]:
    """A side against the project, and against bare fits: what the project cannot pass by much bounds the aim."""
    (name, other), (_, own) = seconds.items()
    aims = at_least(other / own, within(aim, other / bare))
    return [Figure(row, what, seconds, "s", **aims, **fields), bare_figure(row, name, other, bare)]


def bare_figure(row: str, name: str, seconds: float, bare: float) -> Figure:
    """A side against bare fits, as a line of a row's table."""
    return Figure(row, f"{name} / bare fits", {name: seconds, "bare fits": bare}, "s", seconds / bare)


def figure_of(row: str, measured: list[dict[str, float]], note: str) -> Figure:
    """The limit, as a line of a row's table."""
    what = "epochs of a fit in two processes / in one"
    return Figure(row, what, measured[-1], "a second", limit_and_aim(measured)[0], note=note, taken="last")
