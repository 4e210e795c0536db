"""Row usual: a search as it is usually written, against step 4 on the same images, splits and network."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import scratch
from benchmarks.figures import Figure, alternate, progress
from benchmarks.limit import against, bare_seconds
from benchmarks.subset import AUDITED, write_subset
from common import training
from common.config import TrainingConfig
from common.seeds import Stream
from common.state import PROJECT

BATCH_SIZE = 16
WORKERS = 2
PER_CLASS = 40
FOLDS = 5
AIM = 6


@dataclass(frozen=True)
class Size:
    """How much both sides do."""

    backbone: str = "densenet121"
    image_size: int = 224
    n_trials: int = 2
    root_splits: int = 1
    inner_splits: int = 2

    @property
    def config(self) -> TrainingConfig:
        """What both sides train."""
        return TrainingConfig(backbone=self.backbone, image_size=self.image_size, batch_size=BATCH_SIZE)

    @property
    def flags(self) -> list[object]:
        """For both scripts."""
        return [part for name, value in vars(self).items() for part in (f"--{name.replace('_', '-')}", value)]


SIZES = {"normal": Size(), "full": Size(root_splits=2), "fast": Size("small_cnn", 32, 1)}


def measure(size_name: str, source: Path) -> list[Figure]:
    """Wall time of both scripts, and the test ROC AUC that they end with."""
    size, folder = SIZES[size_name], PROJECT / "subset"
    write_subset(source, folder, PER_CLASS, Stream(0).at("subset"))
    splits = ["step_3/make_dataset_splits.py", "--data", folder, "--root-folds", FOLDS, "--nested-folds", FOLDS]
    scratch.run([sys.executable, *splits], PROJECT)
    usual = ["benchmarks.usual_script", folder, PROJECT / "data" / "subset" / "dataset_splits.json"]
    usual += ["--batch-size", BATCH_SIZE, "--workers", WORKERS, "--seed", 0]
    step_4 = ["benchmarks.step_4_script", "--data", folder, "--weights", "none", "--fast", "--json", *AUDITED]
    printed: dict[str, str] = {}
    with progress("usual", 3) as bar:
        sides = {
            name: partial(_time, name, [sys.executable, "-m", *script, *size.flags], printed, bar)
            for name, script in (("usual script", usual), ("step 4", step_4))
        }
        seconds = {name: values[0] for name, values in alternate(sides, 1, bar).items()}
        split = bare_split(PROJECT / "data" / "subset" / "dataset_splits.json")
        bare = bare_seconds(folder, split, json.loads(printed["step 4"])["fits"], size.config, bar)
        bar.update()
    return _figures(size, source, seconds, bare, printed)


def _time(name: str, command: list, printed: dict[str, str], bar) -> float:
    seconds, text = scratch.run(command, PROJECT, bar)
    printed[name] = text.strip().splitlines()[-1]
    return seconds


def bare_split(splits: Path) -> Path:
    """A file with the first of the inner folds, for :func:`benchmarks.limit.bare_seconds`."""
    found = json.loads(splits.read_text())
    root = found["root_splits"][0]
    nested = root["nested_splits"][0]
    rows = {"train": nested["train_indices"], "dev": nested["dev_indices"], "test": root["test_indices"]}
    path = splits.with_name("bare.json")
    path.write_text(
        json.dumps({part: [found["files"][index] for index in part_rows] for part, part_rows in rows.items()})
    )
    return path


def _figures(size: Size, source: Path, seconds: dict[str, float], bare: float, printed: dict[str, str]) -> list[Figure]:
    inner = json.loads(printed["usual script"])
    step_4 = json.loads(printed["step 4"])
    mean = float(np.mean([np.mean(scores) for scores in inner]))
    n_test = 2 * PER_CLASS / FOLDS
    usual_fits = size.root_splits * size.inner_splits * (size.n_trials + 1)
    chosen = training.set_up(config=size.config).precision
    return [
        *against(
            "usual",
            f"usual script / step 4: {size.backbone} {size.image_size} px",
            seconds,
            bare,
            AIM,
            note=f"{2 * PER_CLASS} images of {source.name}; whole processes, step 4 with empty caches, in {chosen}; "
            f"{usual_fits} fits by the usual script, which fits the best again, "
            f"{step_4['fits']} by step 4 and bare; bare: nothing but these fits, in one process or two",
        ),
        Figure(
            "usual",
            f"test ROC AUC, {size.root_splits} x {size.inner_splits} folds",
            {"usual script": mean, "step 4": step_4["test_roc_auc"]},
            "",
            step_4["test_roc_auc"] / mean,
            note=f"random weights, 1 + 1 epochs, {n_test:.0f} test images: scores near 0.5, give or take 0.2",
            details={"by inner fold": inner},
        ),
    ]
