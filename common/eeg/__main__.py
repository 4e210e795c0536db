"""Make a file of EEG epochs for training: ``python -m common.eeg OUTPUT.npz``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from common import cli
from common.cli import UserError

ONLY_FOR = {
    "files": ("files",),
    "subjects": ("files",),
    "n_subjects": ("simulated", "eegbci"),
    "n_trials": ("simulated",),
    "seed": ("simulated",),
}
"""The sources that a flag goes with."""
SETTINGS = ("tmin", "tmax", "l_freq", "h_freq", "notch", "resample", "reject", "groups")


def make(path: Path) -> None:
    """Make the file of simulated EEG that ``--data eeg`` stands for."""
    main([str(path)])


def main(argv: Sequence[str] | None = None):
    """Make the file, say in one line what is in it, and return its :class:`~common.eeg.epochs.Epochs`.

    Raises
    ------
    UserError
        Naming the flag, file, channel or event; nothing is written then.
    """
    args = _parser().parse_args(argv)
    for name, sources in ONLY_FOR.items():
        if getattr(args, name) is not None and args.source not in sources:
            raise UserError(f"--{name.replace('_', '-')}: only with --source {' or '.join(sources)}")
    if args.source == "files" and not args.files:
        raise UserError("--source files: expected --files FILE …")
    if args.output.is_dir() or args.output.suffix != ".npz":
        raise UserError(f"{args.output}: expected the name of an .npz file")

    from common.eeg.epoching import EpochSettings, make_epochs
    from common.eeg.epochs import save_epochs

    settings = EpochSettings(
        events=args.events and tuple(args.events),
        channels=args.channels and tuple(args.channels),
        baseline=args.baseline and tuple(args.baseline),
        **{name: getattr(args, name) for name in SETTINGS},
    )
    recordings, source, settings = _load(args, settings)
    epochs = make_epochs(recordings, settings, source)
    save_epochs(epochs, args.output)
    print(f"{args.output}: {epochs.describe()}")
    return epochs


def _load(args: argparse.Namespace, settings):
    """The recordings of a source, what the metadata say about it, and the settings with the source's own defaults."""
    from dataclasses import replace

    from common.eeg import recordings

    n_subjects = 20 if args.n_subjects is None else args.n_subjects
    if args.source == "files":
        found = recordings.read_files(args.files, args.subjects)
        return found, {"source": "files", "files": [path.name for path in args.files]}, settings
    if args.source == "eegbci":
        source = {"source": "eegbci", "runs": [4, 8, 12], "doi": "10.13026/C28G6P"}
        return recordings.load_eegbci(n_subjects), source, replace(settings, events=settings.events or ("T1", "T2"))
    from common.eeg.simulation import simulate_recordings

    made = {"n_subjects": n_subjects, "n_trials": args.n_trials or 40, "seed": args.seed or 0}
    return simulate_recordings(**made), {"source": "simulated", "simulation": made}, settings


def _number(unit: str, low: float = -math.inf) -> Callable[[str], float]:
    """A converter for argparse: a finite number above `low`."""
    expected = f"a number of {unit}" + ("" if low == -math.inf else f" above {low:g}")

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > low):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return number

    return convert


def _even(text: str) -> int:
    number = cli.whole_number(2)(text)
    if number % 2:
        raise argparse.ArgumentTypeError(f"expected an even number, found {text!r}")
    return number


def _parser() -> argparse.ArgumentParser:
    flags = cli.parser(__doc__)
    seconds, hertz = _number("seconds"), _number("Hz", 0)
    flags.add_argument("output", type=Path, metavar="OUTPUT.npz", help="written whole or not at all")
    flags.add_argument(
        "--source",
        default="simulated",
        choices=["simulated", "eegbci", "files"],
        help="simulated, PhysioNet's motor imagery (downloaded), or your own files (default: %(default)s)",
    )
    flags.add_argument("--files", nargs="+", type=Path, metavar="FILE", help="EDF, BDF, FIF, BrainVision (.vhdr), …")
    flags.add_argument(
        "--subjects", nargs="+", metavar="NAME", help="the subject of each file (default: from its name)"
    )
    flags.add_argument("--n-subjects", type=cli.whole_number(1, 109), metavar="N", help="(default: 20)")
    flags.add_argument("--n-trials", type=_even, metavar="N", help="of each simulated subject (default: 40)")
    flags.add_argument("--seed", type=cli.seed, metavar="N", help="of the simulation (default: 0)")
    flags.add_argument("--events", nargs="+", metavar="NAME", help="the classes: annotations, or numbers of a trigger")
    flags.add_argument("--channels", nargs="+", metavar="NAME", help="(default: all EEG channels not marked bad)")
    flags.add_argument("--l-freq", type=hertz, metavar="HZ", help="lower edge of the pass band")
    flags.add_argument("--h-freq", type=hertz, metavar="HZ", help="upper edge of the pass band")
    flags.add_argument("--notch", type=hertz, metavar="HZ", help="frequency of the mains")
    flags.add_argument("--resample", type=hertz, metavar="HZ", help="new sampling rate")
    flags.add_argument("--tmin", type=seconds, default=0.0, metavar="S", help="from the event (default: %(default)s)")
    flags.add_argument("--tmax", type=seconds, default=1.0, metavar="S", help="not included (default: %(default)s)")
    flags.add_argument("--baseline", nargs=2, type=seconds, metavar="S", help="begin and end of what is subtracted")
    flags.add_argument("--reject", type=_number("volts", 0), metavar="VOLTS", help="largest range within an epoch")
    flags.add_argument(
        "--groups",
        default="subject",
        choices=["subject", "session", "run", "block"],
        help="kept on one side of a split; a run is a recording, a block a tenth of one (default: %(default)s)",
    )
    return flags


if __name__ == "__main__":
    cli.run(main)
