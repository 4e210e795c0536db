"""Step 3: split the images once, for nested cross-validation, into a file that all later steps share.

Where the images have changed since, the former splits are extended: what was tested in a fold is tested in it again.
"""

from pathlib import Path

from common import cli, data


def main(argv=None):
    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    usual = "10, or as many as there are groups for"
    for name, default, low in (
        ("root-folds", usual, 2),
        ("root-repeats", 1, 1),
        ("nested-folds", usual, 2),
        ("nested-repeats", 1, 1),
    ):
        flags.add_argument(
            f"--{name}",
            type=cli.whole_number(low),
            metavar="N",
            help=f"(default: {default}; or as in the former splits)",
        )
    flags.add_argument("--seed", type=cli.seed, metavar="N", help="(default: 0, or as in the former splits)")
    flags.add_argument(
        "--splits",
        type=Path,
        metavar="FILE",
        help="splits of your own instead: a CSV `files,part`, or JSON as made here",
    )
    flags.add_argument(
        "--force",
        action="store_true",
        help="make new splits from scratch: replace others of the same images, and extend none",
    )
    args = flags.parse_args(argv)
    table = data.load_images(args.data, image_size=64, skip_unreadable=args.skip_unreadable)
    if args.splits:
        splits = data.own_splits(table, args.splits)
    else:
        names = ("seed", "root_folds", "root_repeats", "nested_folds", "nested_repeats")
        splits = data.current_splits(table, args.force, **{name: getattr(args, name) for name in names})
    data.save_splits(splits, data.splits_file(table), args.force)
    return splits


if __name__ == "__main__":
    cli.run(main)
