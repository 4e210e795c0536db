"""Step 3: split the images once, for nested cross-validation, into a file that all later steps share."""

from pathlib import Path

from common import cli, data
from common.seeds import Stream


def main(argv=None):
    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    for name, default, low in (
        ("root-folds", None, 2),
        ("root-repeats", 1, 1),
        ("nested-folds", None, 2),
        ("nested-repeats", 1, 1),
    ):
        usual = default or "10, or as many as there are groups for"
        flags.add_argument(
            f"--{name}", type=cli.whole_number(low), default=default, metavar="N", help=f"(default: {usual})"
        )
    flags.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="(default: %(default)s)")
    flags.add_argument(
        "--splits",
        type=Path,
        metavar="FILE",
        help="splits of your own instead: a CSV `files,part`, or JSON as made here",
    )
    flags.add_argument("--force", action="store_true", help="replace other splits of the same images")
    args = flags.parse_args(argv)
    table = data.load_images(args.data, image_size=64, skip_unreadable=args.skip_unreadable)
    if args.splits:
        splits = data.own_splits(table, args.splits)
    else:
        splits = data.make_splits(
            table,
            Stream(args.seed).at("splits"),
            args.root_folds,
            args.root_repeats,
            args.nested_folds,
            args.nested_repeats,
        )
    data.save_splits(splits, data.splits_file(table), args.force)
    return splits


if __name__ == "__main__":
    cli.run(main)
