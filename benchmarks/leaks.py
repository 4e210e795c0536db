"""Row leaks: of 100 planted copies of each kind, how many the audit finds, and how long it takes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from tqdm import tqdm

from benchmarks import scratch
from benchmarks.figures import Figure, at_least, at_most, progress
from common import data
from common.data.images import ImageTable
from common.evidence.alike import alike
from common.state import PROJECT

PLANTED = 100
SIDE = 64
LEAST = 0.95
MOST_SECONDS = {600: 5, 10_000: 60}
MOST_GIB = 2
SIZES = {"normal": (600, 10_000), "full": (600, 10_000, 100_000), "fast": (600,)}


def _compressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return Image.open(content)


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = round(image.width * rng.uniform(0.82, 0.95))
    left, top = rng.integers(0, image.width - side + 1, 2)
    return image.crop((left, top, left + side, top + side)).resize(image.size)


KINDS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "rotated": lambda image, rng: image.rotate(90 * int(rng.integers(1, 4))),
    "flipped": lambda image, rng: ImageOps.mirror(image),
    "re-compressed": _compressed,
    "brightened": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.3),
    "cropped": _cropped,
}
"""What is done to a copy."""


def measure(size_name: str, source: Path) -> list[Figure]:
    """Shares of planted copies that are found in each data set; seconds and memory for many images."""
    sources = ["drawn", "phantoms", *([] if source == PROJECT / "data" / "drawn" else [str(source)])]
    sizes = SIZES[size_name]
    with progress("leaks", len(sources) * (1 + len(KINDS)) + len(sizes)) as bar:
        found = [figure for name in sources for figure in _found(data.load_images(name, SIDE), bar)]
        return [*found, *(_size(count, bar) for count in sizes)]


def _found(table: ImageTable, bar: tqdm) -> list[Figure]:
    pixels = np.array(table.pixels)
    units = np.arange(len(table)) if table.unit_of is None else table.unit_of
    clean = {pair[:2] for pair in alike(pixels, units).pairs}
    bar.update()
    figures = []
    for number, (kind, change) in enumerate(KINDS.items()):
        rng = np.random.default_rng(number)
        rows = rng.choice(len(table), PLANTED, replace=False)
        copies = [change(_image(pixels[row]), rng).convert("RGB" if pixels.shape[1] == 3 else "L") for row in rows]
        planted = np.stack([np.atleast_3d(np.asarray(copy)).transpose(2, 0, 1) for copy in copies])
        pairs = alike(np.concatenate([pixels, planted]), np.append(units, units.max() + 1 + np.arange(PLANTED))).pairs
        right = sum(
            tuple(sorted(pair[:2])) in {(row, len(table) + i) for i, row in enumerate(rows.tolist())} for pair in pairs
        )
        others = sum(max(pair[:2]) < len(table) and pair[:2] not in clean for pair in pairs)
        figures.append(
            Figure(
                "leaks",
                f"{table.name}, {kind}: share of {PLANTED} planted copies found",
                {"found": right, "others": others, "without any planted": len(clean)},
                "pairs",
                **at_least(right / PLANTED, LEAST),
                taken="one run",
                note="pairs of images of different groups that the audit calls copies or crops; 'without any planted' "
                "are pairs that it finds in the data as they are: of the real photos, shots of one scene. Crops "
                "cannot be told among images that are as much alike as the phantoms are: the audit says so",
            )
        )
        bar.update()
    return figures


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])


def _size(count: int, bar: tqdm) -> Figure:
    command = [sys.executable, "-m", "benchmarks.leaks_size", count]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    used = json.loads(scratch.run(command, PROJECT, bar, **single)[1].strip().splitlines()[-1])
    bar.update()
    most = MOST_SECONDS.get(count)
    bound = at_most(used["seconds"], most) if most else at_most(used["gib"], MOST_GIB)
    return Figure(
        "leaks",
        f"{count:,} images: {'seconds on one core' if most else 'GiB of memory'}",
        {"seconds:": used["seconds"], "GiB:": used["gib"]},
        "",
        **bound,
        taken="one run",
        note="images of 64 px in one file, of smooth noise; to compare all of them, without imports",
    )
