"""Row idx: 60,000 small images, read and gone through, against torchvision's FashionMNIST on the same files."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from benchmarks.figures import Figure, alternate, at_least, minima, minima_of, progress
from common.params.idx import load_idx, write_standin
from common.seeds import Stream
from common.state import PROJECT
from common.training.engine import train_one_epoch

BATCH = 64
AIM_FIRST, AIM_EPOCH = 1, 3
SIZES = {"normal": (60_000, 2), "full": (60_000, 5), "fast": (2_000, 1)}
OURS, THEIRS = "project", "torchvision"
FIRST = {
    OURS: """
from pathlib import Path
from common.params.idx import load_idx
table = load_idx(Path(folder))
rows = torch.randperm(len(table))[:64].numpy()
images, labels = torch.from_numpy(table.pixels[rows]).float() / 255, torch.from_numpy(table.labels[rows])
""",
    THEIRS: """
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2
to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
images, labels = next(iter(DataLoader(FashionMNIST(root, transform=to_tensor), 64, shuffle=True)))
""",
}
"""From a new process to the first batch in memory; the clock starts when torch is imported, which both need."""
CLOCK = """
import sys, time
import torch
folder, root = sys.argv[1:]
started = time.perf_counter()
{}
assert images.shape == (64, 1, 28, 28) and labels.shape == (64,)
print(time.perf_counter() - started)
"""


def measure(size_name: str, source: Path) -> list[Figure]:
    """Seconds to the first batch, with and without what the project keeps, and to the end of an epoch."""
    n_images, repetitions = SIZES[size_name]
    root = PROJECT / "idx"
    folder = root / "FashionMNIST" / "raw"  # where torchvision looks
    write_standin(folder, n_images, 100)
    for packed in folder.glob("*.gz"):  # torchvision reads them unpacked
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    with progress("idx", 2 * (2 * repetitions + 1) + 2 * repetitions) as bar:
        cold = alternate(
            {OURS: partial(_first_cold, folder, root), THEIRS: partial(_first, THEIRS, folder, root)}, 1, bar
        )
        sides = {name: partial(_first, name, folder, root) for name in FIRST}
        first = minima(alternate(sides, repetitions, bar))
        theirs = FashionMNIST(str(root), transform=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]))
        table = load_idx(folder)
        epochs = {OURS: partial(_our_epoch, table), THEIRS: partial(_their_epoch, theirs)}
        train = {OURS: partial(_our_training, table), THEIRS: partial(_their_training, theirs)}
        epoch = minima(alternate(epochs, repetitions, bar))
        training = minima(alternate(train, max(1, repetitions // 2), bar))
    taken = minima_of(repetitions)
    what = f"{n_images:,} images 28 px"
    return [
        _figure(f"first batch, first time: {what}", minima(cold), None, "one run each"),
        _figure(f"first batch: {what}", first, AIM_FIRST, taken),
        _figure(f"epoch of batches: {what}", epoch, AIM_EPOCH, taken),
        _figure(f"epoch of training: {what}", training, None, minima_of(max(1, repetitions // 2))),
    ]


def _figure(measured: str, seconds: dict[str, float], aim: float | None, taken: str) -> Figure:
    ratio = seconds[THEIRS] / seconds[OURS]
    fields = {"ratio": ratio} if aim is None else at_least(ratio, aim)
    note = "torchvision / project, in float32 and shuffled, batches of 64; training: one linear layer, plain SGD"
    return Figure("idx", measured, seconds, "s", **fields, taken=taken, note=note)


def _first(side: str, folder: Path, root: Path) -> float:
    script = CLOCK.format(FIRST[side])
    command = [sys.executable, "-c", script, folder, root]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _first_cold(folder: Path, root: Path) -> float:
    shutil.rmtree(PROJECT / "cache", ignore_errors=True)
    return _first(OURS, folder, root)


def _our_epoch(table) -> float:
    """The engine's own batches, with nothing done to them but what a network does first."""
    return _seconds(lambda: _our_pass(table, lambda images, labels: (images.float() / 255).sum()))


def _their_epoch(dataset) -> float:
    return _seconds(lambda: [images.sum() for images, _ in DataLoader(dataset, BATCH, shuffle=True)])


def _our_training(table) -> float:
    network, optimizer = _network()

    def step(images: torch.Tensor, labels: torch.Tensor) -> float:
        return _step(network, optimizer, images.float() / 255, labels)

    return _seconds(lambda: _our_pass(table, step))


def _their_training(dataset) -> float:
    network, optimizer = _network()
    return _seconds(
        lambda: [_step(network, optimizer, images, y) for images, y in DataLoader(dataset, BATCH, shuffle=True)]
    )


def _our_pass(table, step) -> None:
    rows = torch.arange(len(table)).numpy()
    settings = (1, BATCH, Stream(0), lambda *_: None, None, True, step)
    train_one_epoch(nn.Linear(1, 1), table, rows, None, *settings)


def _network():
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    return network, torch.optim.SGD(network.parameters(), 0.01)


def _step(network, optimizer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    loss = functional.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
