"""One fit on a folder of images, watched from beside: its time, and the most memory it takes."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.null_run import NullRun
from common import cli, data, training
from common.seeds import Stream
from step_3 import train as step_3

PAUSE = 0.01


def anonymous_mb() -> float:
    """Memory of this process that no file backs; all of its memory where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resident_mb()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def resident_mb() -> float:
    """The most memory that this process has had, with the pages of files that it has read."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    warm_up, folder, image_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, anonymous_mb())
            time.sleep(PAUSE)

    threading.Thread(target=watch, daemon=True).start()
    config = replace(step_3.CONFIG, image_size=image_size, warmup_epochs=1, epochs=1)
    compute = training.set_up(parallel_fits=4, config=config)

    def fit(folder: str) -> dict[str, float]:
        started = time.perf_counter()
        table = data.load_images(folder, config.image_size)
        fold = data.random_fold(table, Stream(0).at("fold"))
        loaded = time.perf_counter()
        step_3.run_fold(table, fold, config, compute, Stream(0), NullRun())
        return {"n_images": len(table), "load": loaded - started, "fit": time.perf_counter() - loaded}

    fit(warm_up)
    found = fit(folder) | {
        "anonymous_mb": max(peak, anonymous_mb()),
        "resident_mb": resident_mb(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    cli.run(main)
