"""Compares many images with each other, and prints seconds and memory: ``python -m benchmarks.leaks_size N``."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from common.evidence.alike import alike

SIDE = 64


def anonymous_gib() -> float:
    """Memory of this process that is not of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) / 2**20


def main() -> None:
    count, torch_threads = int(sys.argv[1]), 1
    torch.set_num_threads(torch_threads)
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.lib.format.open_memmap(Path(folder) / "pixels.npy", "w+", np.uint8, (count, 3, SIDE, SIDE))
        rng = np.random.default_rng(0)
        for start in range(0, count, 500):
            noise = torch.from_numpy(rng.normal(size=(min(500, count - start), 3, 12, 12)).astype(np.float32))
            smooth = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode="bicubic")
            pixels[start : start + 500] = (128 + 50 * smooth).clamp(0, 255).byte().numpy()
        pixels.flush()
        peak, done = [anonymous_gib()], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], anonymous_gib())

        threading.Thread(target=watch, daemon=True).start()
        started = time.process_time()
        found = alike(pixels, np.arange(count))
        seconds = time.process_time() - started
        done.set()
    print(json.dumps({"seconds": seconds, "gib": peak[0], "pairs": len(found.pairs), "untold": found.untold}))


if __name__ == "__main__":
    main()
