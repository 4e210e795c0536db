"""Row growth: time and memory of one fit as the images become more."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, at_most, progress
from common.data.made.drawn import make_drawn_pets
from common.state import PROJECT

LINEAR = 1.1
MOST_MB = 100
WARM_UP = 60
"""Images of a fit that comes first, in each process, and is not counted."""


@dataclass(frozen=True)
class Size:
    """How many images of which size are drawn, and how large they are when they are learned from."""

    counts: tuple[int, ...]
    drawn_size: int
    image_size: int


NORMAL = Size((500, 1000, 4000), 128, 64)
SIZES = {"normal": NORMAL, "full": NORMAL, "fast": Size((100, 200), 32, 32)}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Seconds per 1,000 images with cold and with warm caches, and the growth of the peak of memory."""
    size = SIZES[size_name]
    found: dict[str, list[dict]] = {"cold": [], "warm": []}
    with progress("growth", 2 + 2 * len(size.counts)) as bar:
        everything = _draw(size, bar)
        warm_up = _first(everything, WARM_UP)
        for count in size.counts:
            folder = _first(everything, count)
            shutil.rmtree(PROJECT / "cache", ignore_errors=True)
            for caches in found.values():
                command = [sys.executable, "-m", "benchmarks.growth_fit", warm_up, folder, size.image_size]
                caches.append(json.loads(scratch.run(command, PROJECT, bar)[1].strip().splitlines()[-1]))
                bar.update()
    return [*(_time(caches, fits, part) for caches, fits in found.items() for part in ("fit", "load")), _memory(found)]


def _time(caches: str, fits: list[dict], part: str) -> Figure:
    per_thousand = {f"{fit['n_images']:,}:": 1000 * fit[part] / fit["n_images"] for fit in fits}
    first, *_, last = per_thousand.values()
    what = {"fit": "one fit", "load": "loading"}[part]
    return Figure(
        "growth",
        f"{what}, {caches} caches: most / fewest",
        per_thousand,
        "s per 1,000",
        **at_most(last / first, LINEAR),
        details={"fits": fits},
    )


def _memory(found: dict[str, list[dict]]) -> Figure:
    peaks = {
        f"{pair[0]['n_images']:,}:": max(fit["anonymous_mb"] for fit in pair)
        for pair in zip(*found.values(), strict=True)
    }
    growth = max(peaks.values()) - next(iter(peaks.values()))
    return Figure(
        "growth",
        f"growth of peak memory / {MOST_MB} MB",
        peaks,
        "MB",
        **at_most(growth / MOST_MB, 1),
        taken="the higher of two",
        note=f"peak memory is anonymous memory, without pages of files; it grows by {growth:.0f} MB",
        details={"with pages of files, MB": {c: [fit["resident_mb"] for fit in fits] for c, fits in found.items()}},
    )


def _draw(size: Size, bar) -> Path:
    """Half of the images of one seed and half of another, by two processes, in one folder."""
    folder = PROJECT / "drawn"
    with multiprocessing.get_context("spawn").Pool(2, _silence) as pool:
        for _ in pool.imap_unordered(partial(_draw_half, folder, size), range(2)):
            bar.update()
    return folder


def _silence() -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _draw_half(folder: Path, size: Size, seed: int) -> None:
    make_drawn_pets(folder / str(seed), size.counts[-1] // 2, size.drawn_size, seed)


def _first(everything: Path, count: int) -> Path:
    """A folder with the first animals of both halves, `count` images in all."""
    folder = PROJECT / f"first_{count}"
    (folder / "images").mkdir(parents=True)
    lines = ["files,group"]
    for half in sorted(everything.iterdir()):
        with open(half / "groups.csv", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["group"].split("_")[1]))[: count // 2]
        for row in rows:
            name = Path(row["files"])
            breed, number = name.stem.rsplit("_", 1)
            copied = f"images/{breed}_{number}{half.name}{name.suffix}"
            shutil.copy(half / name, folder / copied)
            lines.append(f"{copied},{half.name} {row['group']}")
    (folder / "groups.csv").write_text("\n".join([*lines, ""]))
    return folder
