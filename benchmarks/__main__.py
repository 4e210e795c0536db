"""Benchmarks: each row measures the project against another side in the same run, in copies of the project."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, scratch
from benchmarks.figures import Figure, as_table
from common import cli

ROWS = ("usual", "bare", "tracking", "growth", "first", "precision", "coverage", "idx", "engines", "leaks")
ASKED = ("pruning", "sampler", "heads", "peers", "gpu")
"""Rows only when they are named: they ask which default or way is best, or need the internet or a GPU."""
RESULTS = cli.PROJECT / "benchmarks" / "results"
DRAWN = cli.PROJECT / "data" / "drawn"


def rows_of(text: str) -> list[str]:
    """The rows that `text` names, in their order."""
    named = text.split(",")
    known = (*ROWS, *ASKED)
    wrong = [name for name in named if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"no row {wrong[0]!r}; expected some of {','.join(known)}")
    return [row for row in known if row in named]


def source_of(text: str) -> str:
    """``drawn``, or the absolute path of a folder of photos."""
    if text != "drawn" and not (Path(text).expanduser() / "images").is_dir():
        raise argparse.ArgumentTypeError(f"expected drawn or a folder with images/Breed_1.jpg, found {text!r}")
    return text if text == "drawn" else str(Path(text).expanduser().resolve())


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags."""
    flags = cli.parser(__doc__)
    flags.add_argument(
        "--rows",
        type=rows_of,
        default=list(ROWS),
        help=f"some of {', '.join((*ROWS, *ASKED))}, with commas (default: all but {', '.join(ASKED)})",
    )
    flags.add_argument("--data", type=source_of, default="drawn", metavar="drawn|PATH", help="photos of row usual")
    size = flags.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="hours: as many seeds and data sets as the docs")
    size.add_argument("--fast", action="store_true", help="tiny sizes: to see that it runs; its ratios mean nothing")
    return flags.parse_args(argv)


def drawn_pets(folder: Path, fast: bool) -> Path:
    """The project's drawn pets, or new ones in `folder` where it has none; fewer and smaller ones to be fast."""
    if (DRAWN / "images").exists() and not fast:
        return DRAWN
    from common.data.made.drawn import make_drawn_pets

    make_drawn_pets(folder / "drawn", *((160, 48) if fast else ()))
    return folder / "drawn"


def measure(row: str, args: argparse.Namespace, drawn: Path, results: Path) -> list[Figure]:
    """The figures of a row, measured in a copy of the project."""
    size = "fast" if args.fast else "full" if args.full else "normal"
    with scratch.copied_project(drawn) as project:
        command = [sys.executable, "-m", "benchmarks.row", row, size, args.data, results]
        scratch.run(command, project, show_errors=True)
    return [Figure(**figure) for figure in json.loads(results.read_text())]


def save(results: dict, now: datetime) -> Path:
    """Write the results as JSON, under the time at which they were begun."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%dT%H-%M-%SZ}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(part, path)
    return path


def main(argv: list[str] | None = None) -> Path:
    args = parse(argv)
    now, started = datetime.now(UTC), time.perf_counter()
    figures, seconds, failed = [], {}, []
    with scratch.folder() as folder:
        drawn = drawn_pets(folder, args.fast)
        for row in args.rows:
            begun = time.perf_counter()
            try:
                figures += measure(row, args, drawn, folder / f"{row}.json")
            except cli.UserError as error:
                print(f"row {row} failed: {error}", file=sys.stderr)
                failed.append(row)
            seconds[row] = round(time.perf_counter() - begun, 1)
    path = save(
        {
            "began": now.isoformat(timespec="seconds"),
            "seconds": seconds,
            "failed": failed,
            "options": {**vars(args), "data": Path(args.data).name},
            "machine": machine.describe(),
            "figures": [vars(figure) for figure in figures],
        },
        now,
    )
    if figures:
        print(as_table(figures))
    done = f"{len(seconds) - len(failed)} of {len(seconds)} rows"
    print(f"\ndone: {done} in {time.perf_counter() - started:.0f} s, {path.relative_to(cli.PROJECT)}")
    if failed:
        raise cli.UserError(f"rows that failed, for the reasons above: {', '.join(failed)}")
    return path


if __name__ == "__main__":
    cli.run(main)
