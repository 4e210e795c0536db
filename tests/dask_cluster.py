"""A Dask scheduler with workers, each a process that may be killed; and what must be the same wherever fits run."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slurm_cluster import free_ports


class Dask:
    """A scheduler on 127.0.0.1 and workers of one thread each, in a folder and with an environment."""

    def __init__(self, folder: Path, env: dict[str, str]):
        self.folder, self.env = folder, env
        self._started: list[subprocess.Popen] = []
        self.start()

    def start(self):
        """Start a scheduler, at a new address, and two workers."""
        (port,) = free_ports(1)
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(port))
        self.workers = [self.add(), self.add()]

    def add(self, folder: Path | None = None) -> subprocess.Popen:
        """Start a worker; with the modules of another folder, if told so."""
        words = ["worker", self.address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
        return self._start(*words, **({"cwd": folder, "env": self.env | {"PYTHONPATH": str(folder)}} if folder else {}))

    def close(self):
        for process in self._started:
            process.kill()
            process.wait()

    def _start(self, what, *words, **options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        options = {"cwd": self.folder, "env": self.env, "start_new_session": True} | options
        self._started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options))
        return self._started[-1]


def processes_of(session: int) -> dict[int, bool]:
    """Numbers of the processes of a session, and whether each is one for fits or another."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, of = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                server = Path(f"/proc/{parent}/cmdline").read_bytes()
                found[int(process.name)] = b"forkserver" in server
    return found


def seconds_of(process: int) -> float:
    """Processor time that a process has used; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def same(found: dict, expected: dict):
    """Assert that two runs have left the same in MLflow, studies and files."""
    for name in expected:
        assert found[name] == expected[name], name
