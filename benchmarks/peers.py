"""Row peers: one fit and one search with Lightning, fastai and skorch, against steps 1 and 4 on the same photos."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import Figure, alternate, at_least, minima, minima_of, progress
from benchmarks.limit import against, bare_figure, bare_seconds, within
from benchmarks.subset import AUDITED, write_subset
from benchmarks.usual import bare_split
from common import data
from common.config import TrainingConfig
from common.seeds import Stream
from common.state import PROJECT

PEERS = {"lightning": (2.2, 3.0), "fastai": (3.0, 4.0), "skorch": (None, None)}
"""Packages, with the aims for the first fit and for each further one."""
SEARCH_AIM = 5.0
SEED = 0


@dataclass(frozen=True)
class Size:
    """Photos of each class for a fit and for a search, pixels, repetitions, and flags of the search."""

    per_class: int = 200
    per_class_of_search: int = 60
    backbone: str = "resnet18"
    image_size: int = 224
    repetitions: int = 1
    n_trials: int = 3
    inner_splits: int = 2


SIZES = {
    "normal": Size(),
    "full": Size(repetitions=3),
    "fast": Size(20, 20, "small_cnn", 32, n_trials=1),
}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Whole processes, in turns; the packages are installed into a folder that is removed afterwards."""
    size = SIZES[size_name]
    with scratch.folder() as folder, progress("peers", 3 + size.repetitions * (len(PEERS) + 2)) as bar:
        python, versions = _environment(folder, bar)
        found = _fits(size, source, folder, python, versions, bar)
        return [*found, *_search(size, source, folder, python, bar)]


def _environment(folder: Path, bar) -> tuple[Path, str]:
    """A Python that has the peers besides all that this one has; and their versions."""
    scratch.run([sys.executable, "-m", "venv", folder / "venv"], PROJECT, bar)
    python = folder / "venv" / "bin" / "python"
    _, own = scratch.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], PROJECT, bar)
    (Path(own.strip()) / "project.pth").write_text(sysconfig.get_path("purelib"))
    scratch.run([python, "-m", "pip", "install", "--quiet", *PEERS], PROJECT, bar)
    versions = f"from importlib.metadata import version; print(*(f'{{name}} {{version(name)}}' for name in {[*PEERS]}))"
    _, printed = scratch.run([python, "-c", versions], PROJECT, bar)
    return python, printed.strip()


def _fits(size: Size, source: Path, folder: Path, python: Path, versions: str, bar) -> list[Figure]:
    photos = PROJECT / "photos"
    write_subset(source, photos, size.per_class, Stream(SEED).at("subset"))
    table = data.load_images(str(photos), size.image_size, cached=False)
    fold = data.random_fold(table, Stream(SEED).at("split"))
    parts = {part: [table.files[row] for row in getattr(fold, part)] for part in ("train", "dev", "test")}
    (folder / "split.json").write_text(json.dumps(parts))
    network = ["--backbone", size.backbone, "--image-size", size.image_size]
    of_peer = [photos, folder / "split.json", *network, "--batch-size", TrainingConfig().batch_size]
    step_1 = [sys.executable, "step_1/train.py", "--data", photos, "--seed", SEED, *network]
    step_1 += ["--weights", "none", "--fast", "--json"]
    scores: dict[str, float] = {}

    def run(name: str, command: list, empty: bool = False) -> float:
        if empty:
            shutil.rmtree(PROJECT / "cache", ignore_errors=True)
        seconds, printed = scratch.run(command, PROJECT, bar)
        scores[name] = json.loads(printed.strip().splitlines()[-1])["test_roc_auc"]
        return seconds

    sides = {name: partial(run, name, [python, "-m", "benchmarks.peer_script", name, *of_peer]) for name in PEERS}
    own = {"step 1, first": partial(run, "step 1", step_1, True), "step 1, further": partial(run, "step 1", step_1)}
    seconds = minima(alternate({**sides, **own}, size.repetitions, bar))
    config = TrainingConfig(backbone=size.backbone, image_size=size.image_size)
    bare = bare_seconds(photos, folder / "split.json", 1, config, bar)
    figures = []
    for name, aims in PEERS.items():
        figures.append(bare_figure("peers", name, seconds[name], bare))
        for which, aim in zip(own, aims, strict=True):
            ratio = seconds[name] / seconds[which]
            figures.append(
                Figure(
                    "peers",
                    f"{name} / {which} fit: {size.backbone} {size.image_size} px",
                    {name: seconds[name], which: seconds[which]},
                    "s",
                    **(at_least(ratio, within(aim, seconds[name] / bare)) if aim else {"ratio": ratio}),
                    taken=minima_of(size.repetitions),
                    note=f"{2 * size.per_class} images of {source.name}, random weights, one epoch of the head and one "
                    f"of all; whole processes; further: what step 1 keeps of the first is there; bare: nothing but "
                    f"this fit; {versions}",
                )
            )
    lowest = min(scores, key=lambda name: scores[name])
    ratio = scores["step 1"] / scores[lowest]
    return [*figures, Figure("peers", "test ROC AUC of a fit", scores, "", ratio, taken="last run")]


def _search(size: Size, source: Path, folder: Path, python: Path, bar) -> list[Figure]:
    photos = PROJECT / "subset"
    write_subset(source, photos, size.per_class_of_search, Stream(SEED).at("subset"))
    splits = ["step_3/make_dataset_splits.py", "--data", photos, "--root-folds", 5, "--nested-folds", 5]
    scratch.run([sys.executable, *splits], PROJECT, bar)
    flags = ["--backbone", size.backbone, "--image-size", size.image_size, "--n-trials", size.n_trials]
    flags += ["--inner-splits", size.inner_splits]
    split = PROJECT / "data" / "subset" / "dataset_splits.json"
    peer = ["benchmarks.peer_script", "lightning_search", photos, split, "--batch-size", TrainingConfig().batch_size]
    step_4 = ["step_4/train.py", "--data", photos, "--root-splits", 1, "--weights", "none", "--fast", "--json"]
    step_4 += AUDITED
    fits = {}

    def run(name: str, command: list) -> float:
        seconds, printed = scratch.run([*command, *flags], PROJECT, bar)
        fits[name] = json.loads(printed.strip().splitlines()[-1])["fits"]
        return seconds

    own = {"Optuna with Lightning": partial(run, "Lightning", [python, "-m", *peer])}
    own["step 4"] = partial(run, "step 4", [sys.executable, *step_4])
    seconds = minima(alternate(own, 1, bar))
    config = TrainingConfig(backbone=size.backbone, image_size=size.image_size)
    bare = bare_seconds(photos, bare_split(split), fits["step 4"], config, bar)
    return against(
        "peers",
        f"Optuna with Lightning / step 4: {size.backbone} {size.image_size} px",
        seconds,
        bare,
        SEARCH_AIM,
        note=f"a search in one outer fold, {fits['Lightning']} and {fits['step 4']} fits (step 4 prunes) on "
        f"{2 * size.per_class_of_search} images",
    )
