"""The flags that all scripts share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from common.cli.converters import (
    PROMOTIONS,
    engine_address,
    experiment,
    place,
    precision,
    promotion,
    reason_text,
    registered_name,
    seed,
    whole_number,
)
from common.cli.errors import UserError, escaped, masked
from common.state import PROJECT, state_folder

Item = TypeVar("Item")
SOURCES = ("drawn", "phantoms", "digits", "eeg", "oxford-pets")
"""What ``--data`` takes besides paths."""
PARTS = {"train": "train", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}
"""What the folders of a split may be called, in any case, and what they are for."""
HELP_INDEPENDENT = "say that no two images are of one group, where no groups are given"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {escaped(masked(message))} (see {self.prog} --help)\n")

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        found = super().parse_args(args, namespace)
        has_folds = "root_splits" in found and found.data not in SOURCES
        parts = parts_in(Path(found.data).expanduser()).values() if has_folds else ()
        if getattr(found, "root_splits", 0) is None:
            found.root_splits = 1 if "test" in parts else 2
        if getattr(found, "inner_splits", 0) is None:
            found.inner_splits = 1 if "dev" in parts else 2
        return found


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose errors are one line, with `description`'s first line in its help.

    Raises
    ------
    UserError
        As :func:`check_project`.
    """
    check_project()
    module = getattr(sys.modules["__main__"], "__spec__", None)
    prog = f"python -m {module.name.removesuffix('.__main__')}" if module else None
    return _Parser(prog, description=(description or "").split("\n")[0], allow_abbrev=False)


def check_project(folder: Path | None = None) -> None:
    """Refuse a folder, by default that of all state, from whose path addresses of databases cannot be made.

    Raises
    ------
    UserError
    """
    folder = folder or state_folder()
    if found := re.search(r"[?{}]|%[0-9A-Fa-f]{2}", str(folder)):
        expected = "a path without '?', '{', '}' and '%20' or the like, for MLflow's and Optuna's databases"
        raise UserError(f"{folder}: the project's folder has {found[0]!r} in its path; expected {expected}")


def parts_in(folder: Path) -> dict[str, str]:
    """The subfolders of data that come split, and what each is for; none where they come otherwise.

    They come split where a folder of :data:`PARTS` is for training and another for something else.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    except OSError:
        return {}
    if "images" in names or (folder / "info.csv").exists():
        return {}
    found = {name: PARTS[name.casefold()] for name in names if name.casefold() in PARTS}
    return found if {"train"} < set(found.values()) else {}


def data_flags(flags: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--skip-unreadable`` and ``--no-cache``."""
    flags.add_argument(
        "--data",
        type=place,
        default="drawn",
        metavar="|".join((*SOURCES, "PATH")),
        help="images to use (default: %(default)s)",
    )
    flags.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    flags.add_argument("--no-cache", action="store_true", help="do without the images and features under cache/")


def audit_flags(flags: argparse.ArgumentParser) -> None:
    """Add ``--independent`` and ``--waive``."""
    flags.add_argument("--independent", action="store_true", help=HELP_INDEPENDENT)
    help_waive = "go on although this check of the audit stops it; recorded (see python -m common.evidence.audit)"
    flags.add_argument("--waive", action="append", nargs=2, metavar=("CHECK", "REASON"), help=help_waive)


def promotion_flags(flags: argparse.ArgumentParser) -> None:
    """Add ``--promotion`` and ``--promote``."""
    flags.add_argument(
        "--promotion",
        type=promotion,
        metavar=f"{{{','.join(PROMOTIONS)}}}",
        default=PROMOTIONS[0],
        help="into production goes what is better on common test images, or what has the highest test_mcc",
    )
    flags.add_argument("--promote", type=reason_text, metavar="REASON", help="into production for this reason")


def train_parser(description: str | None, step: int) -> argparse.ArgumentParser:
    """The flags of ``step_<step>/train.py``: each step has those of the one before and its own.

    Flags whose default is None leave the choice to the step's settings.
    """
    flags = parser(description)
    if step >= 5:
        flags.add_argument(
            "config", nargs="?", default=PROJECT / "step_5" / "config.py", type=Path, help="Python file with `config`"
        )
    data_flags(flags)
    flags.add_argument("--backbone", metavar="NAME", help="small_cnn or a torchvision classification model")
    flags.add_argument("--weights", metavar="DEFAULT|none|PATH", help="where the backbone's weights come from")
    flags.add_argument("--image-size", type=whole_number(16, 1024), metavar="N", help="pixels per side")
    flags.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    flags.add_argument(
        "--precision",
        default="auto",
        type=precision,
        metavar="{auto,fp32,bf16,measure}",
        help="auto: by processor and backbone, always the same; measure: what is faster now, so results may vary",
    )
    flags.add_argument(
        "--fast-math",
        action="store_true",
        help="on a GPU, allow algorithms that are faster but not deterministic; changes nothing on a CPU",
    )
    flags.add_argument(
        "--seed",
        type=seed,
        default=None if step == 1 else 0,
        metavar="N",
        help="root seed (default: a new one each time)" if step == 1 else "root seed (default: %(default)s)",
    )
    flags.add_argument("--fast", action="store_true", help="small images and few epochs: to try things out")
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    if step >= 3:
        audit_flags(flags)
    else:
        flags.add_argument("--independent", action="store_true", help=HELP_INDEPENDENT)
    if step >= 2:
        flags.add_argument("--verbose", action="store_true", help="a line for each epoch: its losses and scores")
        flags.add_argument("--fresh", action="store_true", help="start anew: never resume an unfinished run")
        flags.add_argument(
            "--allow-changed-data", action="store_true", help="take data that differ from their .dvc file"
        )
    if step >= 3:
        two = "(default: 2, or 1 where the data come split)"
        flags.add_argument("--root-splits", type=whole_number(1), metavar="K", help=f"outer folds to run {two}")
        flags.add_argument("--only-root-split", type=whole_number(0), metavar="K", help="run this outer fold alone")
        flags.add_argument("--inner-splits", type=whole_number(1), metavar="K", help=f"inner folds of each {two}")
        help_jobs = "processes (default: as many as fit the cores)"
        flags.add_argument("--n-jobs", type=whole_number(1), metavar="N", help=help_jobs)
        help_engine = "where fits run: local, or a Dask scheduler's tcp://HOST:PORT (default: %(default)s)"
        flags.add_argument("--engine", type=engine_address, default="local", metavar="ADDRESS", help=help_engine)
        help_gpu = "fits at once on each GPU (default: %(default)s)"
        flags.add_argument("--fits-per-gpu", type=whole_number(1), default=1, metavar="N", help=help_gpu)
        help_mixed = "with --engine: take workers whose kind of machine differs, and so the last digits"
        flags.add_argument("--mixed-machines", action="store_true", help=help_mixed)
        help_repeats = "run from K root seeds, --seed and those that follow it, and say how much they differ"
        flags.add_argument("--repeats", type=whole_number(2, 1000), metavar="K", help=help_repeats)
        help_resplit = "on splits drawn from the root seed; with --repeats in addition to the same splits"
        flags.add_argument("--resplit", action="store_true", help=help_resplit)
    if step >= 4:
        help_unsealed = "show test scores of your own data when the run ends, for this reason (docs/ledger.md)"
        flags.add_argument("--unsealed", metavar="REASON", type=reason_text, help=help_unsealed)
        flags.add_argument("--n-trials", type=whole_number(1), metavar="N", help="trials per outer fold")
        help_lag = "trials of a search at once: each is drawn from those up to N before it (default: %(default)s)"
        flags.add_argument("--lag", type=whole_number(1), default=1, metavar="N", help=help_lag)
        flags.add_argument(
            "--register", type=registered_name, metavar="NAME", help="search on all images too, and register that model"
        )
        promotion_flags(flags)
    if step >= 5:
        help_experiment = "MLflow's; strftime codes (default: step_5)"
        flags.add_argument("--experiment", type=experiment, metavar="NAME", help=help_experiment)
        flags.add_argument("--only-model", type=whole_number(0), metavar="K", help="of the config's models this alone")
    return flags


def with_defaults(
    flags: argparse.ArgumentParser, argv: list[str] | None, defaults: dict[str, object]
) -> argparse.Namespace:
    """The flags, where those that are not given have other defaults than usual.

    There a relative path of data starts at the project folder, not at the working directory.
    """
    texts = {name: str(value) for name, value in defaults.items() if value is not None}
    if texts.get("data", SOURCES[0]) not in SOURCES:
        texts["data"] = str(PROJECT / Path(texts["data"]).expanduser())
    flags.set_defaults(**texts)
    return flags.parse_args(argv)


def each_model(args: argparse.Namespace, models: Sequence[Item]) -> list[tuple[argparse.Namespace, Item]]:
    """Of a config's models all, or the one that ``--only-model`` names, each with the flags that run it alone.

    Raises
    ------
    UserError
        When there is none of that number.
    """
    number, n_models = args.only_model, len(models)
    if number is not None and number >= n_models:
        raise UserError(f"--only-model {number}: expected less than {n_models}, the number of models of the config")

    def alone(i: int) -> argparse.Namespace:
        return argparse.Namespace(**{**vars(args), "only_model": i if n_models > 1 else None})

    return [(alone(i), model) for i, model in enumerate(models) if number in (None, i)]


def root_splits(args: argparse.Namespace) -> Iterable[int]:
    """The outer folds that the flags ask for.

    Raises
    ------
    UserError
        When ``--only-root-split`` is none of ``--root-splits``.
    """
    if args.only_root_split is None:
        return range(args.root_splits)
    if args.only_root_split >= args.root_splits:
        raise UserError(
            f"--only-root-split {args.only_root_split}: expected less than --root-splits {args.root_splits}"
        )
    return [args.only_root_split]


def command_of(step: int, args: argparse.Namespace) -> list[str]:
    """The script of a step and its arguments, as they would be typed in the project folder."""
    words = [f"step_{step}/train.py"]
    for name, value in vars(args).items():
        if name in ("repeats", "engine", "fits_per_gpu"):
            continue
        if name == "config":
            path = Path(value).resolve()
            words.append(str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path))
        elif name == "data" and value not in SOURCES:
            words += ["--data", str(Path(value).expanduser().resolve())]
        elif name == "waive":
            words += [word for check in value or () for word in ("--waive", *check)]
        elif isinstance(value, bool):
            words += [f"--{name.replace('_', '-')}"] if value and name not in ("fresh", "json", "verbose") else []
        elif value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
