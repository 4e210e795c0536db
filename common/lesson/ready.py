"""Check a machine before a course: a line for each thing that is needed, with what to do where it is not there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from common import cli
from common.cli import UserError, escaped, reason_of
from common.lesson.check import CONTRACT, sign_of
from common.state import state_folder

GB = 1e9
LEAST_DISK, LEAST_MEMORY = 3.0, 3.5
"""Gigabytes that the lessons need: free where state is kept, and of memory in all."""
PORT = 5000


class NotReadyError(Exception):
    """What was found, and what to do."""


def _python() -> str:
    found = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 15):
        raise NotReadyError(f"{found}; install 3.11 to 3.14, then: bash run_script.bash makes the environment")
    return found


def _packages() -> str:
    """Versions against the lock; hashes are pip's business."""
    from packaging.requirements import Requirement

    lock = cli.PROJECT / "requirements.txt"
    lines = [line.rstrip(" \\\n") for line in lock.read_text().splitlines() if line[:1].isalpha()]
    wrong, n = [], 0
    for wanted in map(Requirement, lines):
        if wanted.marker and not wanted.marker.evaluate():
            continue
        n += 1
        try:
            found = importlib.metadata.version(wanted.name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found not in wanted.specifier:
            wrong.append(f"{wanted.name} {found} ({str(wanted.specifier).partition('+')[0]})")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        advice = "run this check with: bash run_script.bash python -m common.lesson.ready"
        raise NotReadyError(f"not as in {lock.name}: {', '.join(wrong[:3])}{more}; {advice}")
    return f"{n}, as in {lock.name}"


def _disk() -> str:
    folder = state_folder()
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free / GB
    if free < LEAST_DISK:
        raise NotReadyError(f"{free:.1f} GB free in {folder}; free {LEAST_DISK:g} GB, or name another in REPROAI_STATE")
    return f"{free:.0f} GB free"


def _memory() -> str:
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    if found < LEAST_MEMORY:
        raise NotReadyError(f"{found:.1f} GB; with less than {LEAST_MEMORY:g} GB use Colab (run_on_colab.ipynb)")
    return f"{found:.0f} GB"


def _cores() -> str:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{found}" if found > 1 else "1: all works, but each lesson takes twice its time"


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "Apple's (mps)" if torch.backends.mps.is_available() else "none, and none is needed"


def _writing() -> str:
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        advice = "give yourself the right to write there, or name another in REPROAI_STATE"
        raise NotReadyError(f"{folder}: {error.strerror}; {advice}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        yield


def _fit() -> str:
    """Draw a few pictures, and train one small network on them for an epoch."""
    import time

    from common import data, training
    from common.config import TrainingConfig
    from common.data.made.drawn import make_drawn_pets
    from common.seeds import Stream

    started, stream = time.perf_counter(), Stream(0)
    with tempfile.TemporaryDirectory() as name, _quiet():
        folder = Path(name) / "few"
        make_drawn_pets(folder, n_images=60, size=32)
        table = data.load_images(str(folder), 32, cached=False)
        config, fold = TrainingConfig(image_size=32), data.random_fold(table, stream)
        network = training.new_model(config, table, training.set_up("cpu", "fp32"), stream)
        optimizer = training.make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
        training.train_and_validate_model(network, table, fold, optimizer, 1, config, stream, lambda *said: None)
    return f"60 pictures drawn, one network trained for an epoch, in {time.perf_counter() - started:.1f} s"


def _ui() -> str:
    if importlib.util.find_spec("mlflow") is None:
        raise NotReadyError("mlflow is not installed; see packages")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError as error:
            advice = f"end what listens there, or open it on another: bash run_mlflow_ui.bash {PORT + 1}"
            raise NotReadyError(f"port {PORT}: {error.strerror}; {advice}") from error
    return f"port {PORT} is free: bash run_mlflow_ui.bash opens it once there are results"


def _git() -> str:
    if not (found := shutil.which("git")):
        raise NotReadyError("not found; install it (git-scm.com): runs record the commit of their code")
    return found


def _kernel() -> str:
    from jupyter_client.kernelspec import KernelSpecManager

    if "python3" not in KernelSpecManager().find_kernel_specs() or importlib.util.find_spec("jupyterlab") is None:
        raise NotReadyError("no kernel `python3`, or no JupyterLab; python -m ipykernel install --sys-prefix makes one")
    return "python3, for: bash run_script.bash jupyter lab"


def _tests() -> str:
    if not (cli.PROJECT / CONTRACT).is_file():
        raise NotReadyError(f"{CONTRACT} is not there; clone the whole repository: it judges the steps you build")
    return "there, to judge the steps you build"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": _python,
    "packages": _packages,
    "disk": _disk,
    "memory": _memory,
    "cores": _cores,
    "GPU": _gpu,
    "state folder": _writing,
    "data and training": _fit,
    "MLflow's UI": _ui,
    "git": _git,
    "kernel": _kernel,
    "tests": _tests,
}


def looked_at() -> Iterator[tuple[str, bool, str]]:
    """For each of :data:`CHECKS`, as it ends: its name, whether it holds, and what was found or is to be done."""
    for name, check in CHECKS.items():
        try:
            yield name, True, check()
        except NotReadyError as error:
            yield name, False, str(error)
        except (UserError, OSError, ImportError, ValueError, RuntimeError) as error:
            yield name, False, f"{type(error).__name__}: {reason_of(error)}; see packages above, or ask your instructor"


def main(argv: list[str] | None = None) -> int:
    """Print a line for each check. The exit code is 0 when all hold, else 1; returns how many do."""
    cli.parser(__doc__).parse_args(argv)
    held = []
    for name, holds, found in looked_at():
        held.append(holds)
        print(escaped(f"{sign_of(holds, sys.stdout)} {name}: {found}"), flush=True)
    n_lacking = held.count(False)
    print("ready" if not n_lacking else f"not ready: {n_lacking} of {len(held)} need something")
    if n_lacking:
        raise SystemExit(1)
    return len(held)


if __name__ == "__main__":
    cli.run(main)
