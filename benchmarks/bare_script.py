"""Fits and nothing else: photos opened once, batches that wait in memory, no search, no metrics, no record of runs."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.model import make_classifier
from common.seeds import Stream
from common.training.compute import cores

RATE = 1e-4
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def batches_of(args, files: list[str]) -> Batches:
    def read(file: str) -> np.ndarray:
        image = Image.open(args.folder / file)
        image.draft("RGB", (args.image_size, args.image_size))
        return np.asarray(image.convert("RGB").resize((args.image_size, args.image_size)))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        pixels = torch.from_numpy(np.stack(list(pool.map(read, files)))).permute(0, 3, 1, 2)
    images = (pixels.float() / 255 - 0.45) / 0.225
    labels = torch.tensor([float(Path(file).name[0].islower()) for file in files])
    images = images.contiguous(memory_format=torch.channels_last)
    return list(zip(images.split(args.batch_size), labels.split(args.batch_size), strict=True))


def fit(backbone: nn.Module, head: nn.Module, parts: dict[str, Batches], precision: str) -> None:
    """An epoch of the head, then one of everything, each with a look at the dev set; the test set at the end."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def evaluate(batches: Batches) -> None:
        backbone.eval()
        with torch.inference_mode(), autocast:
            for images, _ in batches:
                head(backbone(images))

    for is_head_alone in (True, False):
        trained = [head] if is_head_alone else [backbone, head]
        optimizer = torch.optim.AdamW([weight for module in trained for weight in module.parameters()], lr=RATE)
        backbone.train(not is_head_alone)
        for images, labels in parts["train"]:
            with autocast:
                with torch.set_grad_enabled(not is_head_alone):
                    features = backbone(images)
                outputs = head(features).squeeze(1)
            loss = binary_cross_entropy_with_logits(outputs.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        evaluate(parts["dev"])
    evaluate(parts["test"])


def fits(args: argparse.Namespace, n_fits: int) -> None:
    torch.set_num_threads(max(1, cores() // args.processes))
    parts = {part: batches_of(args, files) for part, files in json.loads(args.split.read_text()).items()}
    for _ in range(n_fits):
        classifier = make_classifier(Stream(0), backbone=args.backbone, weights="none")
        classifier.to(memory_format=torch.channels_last)
        fit(classifier.backbone, classifier.head, parts, args.precision)


def main() -> None:
    flags = argparse.ArgumentParser()
    for name in ("folder", "split"):
        flags.add_argument(name, type=Path)
    for name in ("backbone", "precision"):
        flags.add_argument(f"--{name}")
    for name in ("image-size", "batch-size", "fits", "processes"):
        flags.add_argument(f"--{name}", type=int)
    args = flags.parse_args()
    if args.processes == 1:
        fits(args, args.fits)
        return
    shares = [len(range(first, args.fits, args.processes)) for first in range(args.processes)]
    with get_context("spawn").Pool(args.processes) as pool:
        pool.starmap(fits, [(args, share) for share in shares if share], chunksize=1)


if __name__ == "__main__":
    main()
