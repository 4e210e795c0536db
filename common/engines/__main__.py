"""Runs a script with workers on a cluster, which it starts and ends: ``python -m common.engines slurm … -- python …``.

The script gets ``--engine`` with their address. With ``--as-job`` it is a job itself: then nothing runs here.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys

from common import cli
from common.cli import UserError
from common.engines import slurm


def main(argv: list[str] | None = None) -> None:
    """Run the script, and end with its exit code."""
    words = sys.argv[1:] if argv is None else argv
    flags = _flags()
    here = words.index("--") if "--" in words else len(words)
    args, command = flags.parse_args(words[:here]), words[here + 1 :]
    if not command:
        raise UserError("expected -- and the script after the flags, such as -- python step_5/train.py")
    request = slurm.request_of(args)
    if args.as_job:
        own = [word for word in words[1:here] if word != "--as-job"]
        number = slurm.submit(own, args.script_time, request.options, command)
        print(f"job {number}: its output is in {slurm.work_folder('slurm') / f'script-{number}.out'}")
        return
    signal.signal(signal.SIGUSR1, slurm.run_again)
    try:
        code = slurm.run_with_workers(request, command)
    except slurm.RunAgain:
        slurm.requeue_this_job()
        raise
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def _flags() -> argparse.ArgumentParser:
    flags = cli.parser(__doc__)
    whole = cli.whole_number
    flags.add_argument("scheduler", choices=["slurm"], help="the cluster's scheduler")
    flags.add_argument("--workers", type=whole(1), default=1, metavar="N", help="fits at once (default: %(default)s)")
    flags.add_argument("--gpus", type=whole(0), default=0, metavar="N", help="GPUs of each worker (default: none)")
    flags.add_argument("--cpus", type=whole(1), default=1, metavar="N", help="cores of each worker (default: 1)")
    flags.add_argument("--memory", type=_memory, default="4GB", help="of each worker (default: %(default)s)")
    flags.add_argument("--time", type=_time, default="1:00:00", help="limit of each worker (default: %(default)s)")
    for name in ("partition", "account", "constraint"):
        flags.add_argument(f"--{name}", metavar="NAME", help="as sbatch has it")
    flags.add_argument("--host", metavar="ADDRESS", help="of this machine, at which workers reach it")
    flags.add_argument("--as-job", action="store_true", help="the script is a job, too, for sites that want it so")
    flags.add_argument("--script-time", type=_time, metavar="TIME", help="limit of that job (default: the site's)")
    return flags


def _time(text: str) -> str:
    if not re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", text):
        raise argparse.ArgumentTypeError(f"expected a time such as 4:00:00 or 2-12:00:00, found {text!r:.80}")
    return text


def _memory(text: str) -> str:
    if not re.fullmatch(r"\d+ ?[KMGT]i?B", text):
        raise argparse.ArgumentTypeError(f"expected a size such as 8GB, found {text!r:.80}")
    return text


if __name__ == "__main__":
    cli.run(main)
