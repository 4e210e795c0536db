"""Workers on a SLURM cluster: started, kept at their number, and ended with the script that they work for."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.cli import UserError
from common.engines.remote import FAILURES, dask_with
from common.state import work_folder

SETTINGS = {
    "distributed.worker.daemon": False,  # its processes have processes
    "distributed.scheduler.allowed-failures": FAILURES,  # a fit has not failed when its node has
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.deploy.lost-worker-timeout": "1s",
}
"""Of Dask: how lost workers are noticed and replaced."""
BEFORE_END = 120
"""Seconds before its time limit at which a job that runs the script is told, and asks to be run again."""


@dataclass(frozen=True)
class Request:
    """What is asked of SLURM for each worker.

    Attributes
    ----------
    workers, gpus, cpus : int
        How many workers, and for each how many GPUs and processor cores.
    memory : str
        Of each, such as ``8GB``.
    time : str
        Their time limit, as SLURM writes it; then others take their place.
    options : dict
        Further options of ``sbatch``, such as ``{"partition": "gpu"}``.
    host : str, optional
        Address of this machine at which workers reach the scheduler; by default Dask finds one.
    """

    workers: int
    gpus: int = 0
    cpus: int = 1
    memory: str = "4GB"
    time: str = "1:00:00"
    options: dict[str, str] = field(default_factory=dict)
    host: str | None = None


def run_with_workers(request: Request, command: list[str]) -> int:
    """Run a script with workers; returns its exit code.

    Raises
    ------
    UserError
        When Dask is not installed, or SLURM is not here or refuses the request.
    """
    words = _script(command)
    with started(request) as (address, dashboard):
        print(f"scheduler {address}, {request.workers} workers asked for; dashboard {dashboard}", flush=True)
        script = subprocess.Popen([*words, "--engine", address], process_group=0)  # Ctrl-C reaches it once: from here
        try:
            return script.wait()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                script.send_signal(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            script.wait()
            raise


@contextlib.contextmanager
def started(request: Request) -> Iterator[tuple[str, str]]:
    """The addresses of a scheduler and of its dashboard, for the time of the block; see :func:`run_with_workers`."""
    config = dask_with(SETTINGS, "slurm")
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import SLURMCluster  # which takes Ctrl-C for itself
    except ImportError:
        raise UserError("slurm: dask-jobqueue is not installed; it comes with the extra `cluster`") from None
    signal.signal(signal.SIGINT, on_ctrl_c)
    _check_slurm()
    asked = [f"--{name}={value}" for name, value in request.options.items() if name not in ("partition", "account")]
    logs = work_folder("slurm")
    logs.mkdir(parents=True, exist_ok=True)
    name = f"fits-{secrets.token_hex(4)}"
    on_host = ["--host", request.host] if request.host == "127.0.0.1" else []
    cluster = SLURMCluster(
        queue=request.options.get("partition"),
        account=request.options.get("account"),
        cores=1,
        job_cpu=request.cpus,
        processes=1,
        job_name=name,
        memory=request.memory,
        walltime=request.time,
        job_extra_directives=[*asked, *([f"--gres=gpu:{request.gpus}"] if request.gpus else []), "--no-requeue"],
        nanny=False,  # a worker's processes may have processes, and SLURM's jobs are replaced
        python=f"exec {sys.executable}",  # so that a job's signals reach the worker
        worker_extra_args=[*on_host, "--memory-limit", "0"],  # SLURM sees to it
        scheduler_options={
            "dashboard_address": "127.0.0.1:0",
            **({"host": request.host} if request.host else {}),
        },
        log_directory=str(logs),
        local_directory=os.environ.get("TMPDIR", "/tmp"),
        protocol="tls://" if config.get("distributed.comm.tls.ca-file", None) else "tcp://",
    )
    try:
        _check_request(cluster.job_script())
        cluster.adapt(minimum_jobs=request.workers, maximum_jobs=request.workers, interval="500ms")
        yield cluster.scheduler_address, cluster.dashboard_link
    finally:
        _close(cluster, name)


def _close(cluster, name: str) -> None:
    with contextlib.suppress(Exception):  # in the middle of whatever it does
        cluster.close(timeout=10)
    subprocess.run(["scancel", f"--name={name}"], capture_output=True)


def _check_request(script: str) -> None:
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"sbatch ended with {done.returncode}"
        raise UserError(f"SLURM refuses the workers: {reason}")


def submit(request_words: list[str], time: str | None, options: dict[str, str], command: list[str]) -> str:
    """Have SLURM run the script itself as a job, again after its node or its time is lost; returns the job's number.

    Raises
    ------
    UserError
        When SLURM is not here or refuses the request.
    """
    _check_slurm()
    logs = work_folder("slurm")
    logs.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "common.engines", "slurm", *request_words, "--", *command]
    job = [
        "sbatch",
        "--parsable",
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{BEFORE_END}",
        f"--output={logs / 'script-%j.out'}",
        f"--job-name={Path(_script(command)[1]).parent.name or 'script'}",
        *([f"--time={time}"] if time else []),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    text = f"#!/bin/bash\ncd {shlex.quote(os.getcwd())}\nexec {shlex.join(words)}\n"
    done = subprocess.run(job, input=text, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"SLURM refuses the job: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().split(";")[0]


def run_again(signal_number: int, frame: object) -> None:
    """Of a job whose time ends: end it, and have it run again; the script goes on from where it was."""
    signal.signal(signal_number, signal.SIG_IGN)
    raise RunAgain(0)


class RunAgain(SystemExit):
    """The time limit of the job that runs the script is near."""


def requeue_this_job() -> None:
    """Have SLURM run this job again."""
    subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)


def _script(command: list[str]) -> list[str]:
    words = command if re.fullmatch(r"(.*/)?python[\d.]*", command[0]) else ["python", *command]
    if len(words) < 2 or not Path(words[1]).is_file():
        raise UserError(f"-- {shlex.join(command)}: expected a script, such as python step_5/train.py")
    return [sys.executable, *words[1:]]


def _check_slurm() -> None:
    if shutil.which("sbatch") is None:
        raise UserError("sbatch: not on this machine; expected SLURM, or --engine with the address of a Dask scheduler")


def request_of(args: argparse.Namespace) -> Request:
    """From the flags of ``python -m common.engines slurm``."""
    options = {name: getattr(args, name) for name in ("partition", "account", "constraint") if getattr(args, name)}
    return Request(args.workers, args.gpus, args.cpus, args.memory, args.time, options, args.host)
