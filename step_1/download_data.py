"""Step 1: fetch the data before training: the drawn pets, the Oxford-IIIT Pet photos, or a check of your own folder."""

from common import cli, data


def main(argv=None):
    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    flags.set_defaults(data="oxford-pets")
    args = flags.parse_args(argv)
    return data.load_images(args.data, image_size=64, skip_unreadable=args.skip_unreadable)


if __name__ == "__main__":
    cli.run(main)
