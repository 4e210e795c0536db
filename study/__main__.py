"""Runs the study: nested searches, baselines and single splits, on drawn pets and on phantoms.

It takes about an hour on two cores. What has finished is kept, and the same command goes on from there. In the end the
tables are in ``study/results``; ``python -m study.tables`` draws the conclusions from them.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common import cli

if TYPE_CHECKING:
    from study.units import Source, Unit

RESULTS = cli.PROJECT / "study" / "results"
IMAGE_SIZE = 64
NEW = {"drawn": {"n_images": 200}, "phantoms": {"n_patients": 50}}
"""How many images there are that no fold has; a patient has four."""


class Size(NamedTuple):
    """How much is run.

    Attributes
    ----------
    trials, root_splits, inner_splits : int
        Of each search.
    seeds, random_seeds, baseline_seeds : int
        Root seeds of step 4's search and the fixed settings, of random search, and of the baselines.
    singles : int
        Random splits with one seed, and as many seeds on one split.
    """

    trials: int = 50
    root_splits: int = 10
    inner_splits: int = 3
    seeds: int = 3
    random_seeds: int = 3
    baseline_seeds: int = 1
    singles: int = 40


FAST = Size(trials=4, root_splits=2, inner_splits=2, seeds=1, random_seeds=1, baseline_seeds=1, singles=2)


def units_of(size: Size) -> list[Unit]:
    """What is to be computed, the most needed first: what is there at any time is whole for the first seeds."""
    from study.units import Unit

    rounds = range(size.singles)
    units = [Unit(data, "single", s, split, 1) for s in rounds for split in rounds if 0 in (s, split) for data in NEW]
    seeds = {"fixed": size.seeds, "tpe": size.seeds, "random": size.random_seeds}
    seeds |= dict.fromkeys(("logistic", "neighbours"), size.baseline_seeds)
    plan = [(method, seed) for method, count in seeds.items() for seed in range(count)]
    for method, seed in sorted(plan, key=lambda one: (one[0] == "random" and one[1] > 0, one[1])):
        n_trials = 1 if method == "fixed" else size.trials
        units += [Unit(data, method, seed, root, n_trials) for root in range(size.root_splits) for data in NEW]
    return units


def sources_of() -> dict[str, Source]:
    """Both data sets with their splits, and new images, also as another camera would show them."""
    from common import data
    from common.data.made.drawn import make_drawn_pets
    from common.data.made.phantoms import make_phantoms
    from common.seeds import Stream
    from common.state import data_folder
    from study.methods import features_of
    from study.units import Source, seen_elsewhere

    sources = {}
    for name, make in (("drawn", make_drawn_pets), ("phantoms", make_phantoms)):
        table = data.load_images(name, IMAGE_SIZE)
        if not (folder := data_folder() / "study" / name).exists():
            make(folder, seed=1, **NEW[name])
        new = data.load_images(str(folder), IMAGE_SIZE)
        splits = data.make_splits(table, Stream(0).at("splits"))
        tables = [features_of(images) for images in (table, new, seen_elsewhere(new))]
        sources[name] = Source(tables[0], splits, *tables[1:])
    return sources


def part_of(unit: Unit) -> tuple[str, int]:
    """What is in the tables as a whole or not at all: a method with one seed, on both data sets."""
    return unit.method, unit.seed


def main(argv: list[str] | None = None) -> dict[str, object]:
    flags = cli.parser(__doc__)
    flags.add_argument("--n-jobs", type=cli.whole_number(1), metavar="N", help="processes (default: one for each core)")
    flags.add_argument(
        "--so-far", action="store_true", help="write the tables of what has finished, and compute nothing"
    )
    flags.add_argument(
        "--fast", action="store_true", help="a tiny study: to see that it runs; its numbers mean nothing"
    )
    help_output = "folder of the tables (default: study/results; with --fast outputs/study)"
    flags.add_argument("--output", type=Path, metavar="FOLDER", help=help_output)
    args = flags.parse_args(argv)
    folder, size = (
        args.output or (cli.PROJECT / "outputs" / "study" if args.fast else RESULTS),
        FAST if args.fast else Size(),
    )
    return run(size, args, folder)


def run(size: Size, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Compute what is missing, and write the tables."""
    from common import progress, training
    from common.training.compute import cores
    from study.kept import Kept, commit, identity, write_about, write_tables
    from study.units import run_unit

    started, now = time.perf_counter(), commit()
    compute = training.set_up("cpu", "fp32", parallel_fits=cores())
    sources = sources_of()
    kept = Kept(identity(sources, compute))
    units = units_of(size)
    todo = [] if args.so_far else [unit for unit in units if not kept.has(unit)]

    def compute_one(unit: Unit) -> None:
        (rows,) = training.run_fits(partial(run_unit, sources, compute, size.inner_splits), [unit])
        kept.keep(unit, rows, now)
        progress.advance(unit.n_fits - 1)

    if todo:
        how = argparse.Namespace(engine="local", n_jobs=args.n_jobs, fits_per_gpu=1)
        training.run_jobs(compute_one, todo, compute, how, sum(unit.n_fits for unit in todo))
    unfinished = {part_of(unit) for unit in units if not kept.has(unit)}
    done = [unit for unit in units if part_of(unit) not in unfinished]
    if not done:
        raise cli.UserError("no method has finished all its folds yet; python -m study computes them")
    tables = kept.of(done)
    write_tables(tables, sources, folder)
    about = write_about(kept, done, units, tables["seconds"], folder)
    computed = f"{len(todo)} computed now, in {time.perf_counter() - started:.0f} s"
    print(f"done: {len(done)} of {len(units)} units ({computed}); tables in {folder}")
    return about


if __name__ == "__main__":
    cli.run(main)
