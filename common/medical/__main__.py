"""Medical images: ``phantoms`` writes drawn heads as DICOM files, ``volumes`` the volumes of NIfTI files as arrays."""

from __future__ import annotations

import os
from pathlib import Path

from common import cli
from common.cli import UserError


def main(argv: list[str] | None = None) -> None:
    """The command: ``python -m common.medical phantoms TARGET`` or ``… volumes SOURCE TARGET.npz``.

    Raises
    ------
    UserError
        Naming the flag or file; nothing is written then.
    """
    flags = cli.parser(__doc__)
    commands = flags.add_subparsers(dest="command", required=True, metavar="phantoms|volumes")
    phantoms = commands.add_parser("phantoms", help="drawn heads as DICOM files, a folder per class")
    phantoms.add_argument("target", type=Path, metavar="TARGET", help="new folder")
    phantoms.add_argument("--sites", type=cli.whole_number(1, 3), default=2, metavar="N", help="(default: %(default)s)")
    help_patients = "every second one has a lesion (default: %(default)s)"
    phantoms.add_argument("--patients", type=cli.whole_number(2, 1000), default=150, metavar="N", help=help_patients)
    phantoms.add_argument("--size", type=cli.whole_number(16, 512), default=128, metavar="N", help="pixels per side")
    phantoms.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="root seed (default: 0)")
    volumes = commands.add_parser("volumes", help="volumes of NIfTI files as arrays, for a network of one's own")
    volumes.add_argument("source", metavar="SOURCE", help="folder of NIfTI files, as --data takes it")
    volumes.add_argument("target", type=Path, metavar="TARGET.npz", help="written whole or not at all")
    help_shape = "depth, height and width, in voxels"
    size = cli.whole_number(1, 1024)
    volumes.add_argument("--shape", type=size, nargs=3, required=True, metavar=("D", "H", "W"), help=help_shape)
    args = flags.parse_args(argv)
    target = Path(os.path.expanduser(args.target))
    if args.command == "volumes":
        if target.suffix != ".npz" or target.is_dir():
            raise UserError(f"{target}: expected the name of an .npz file")
        from common.medical.volumes import save_volumes

        print(save_volumes(args.source, target, args.shape))
        return
    if os.path.lexists(target):
        raise UserError(f"{target}: exists already; expected the name of a new folder")
    from common.medical.dicom_writing import write_phantoms

    try:
        write_phantoms(target, args.sites, args.patients, size=args.size, seed=args.seed)
    except OSError as error:
        raise UserError(f"{error.filename or target}: cannot be written ({error.strerror or error})") from error
    print(f"{target}: {args.patients} patients of {args.sites} sites, 4 slices each")


if __name__ == "__main__":
    cli.run(main)
