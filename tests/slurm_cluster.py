"""A real SLURM on this machine: a controller, two nodes with stand-in GPUs, no systemd, all of it in one folder."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}

KEEPER = """
import ctypes, os, signal, subprocess, sys, threading
from pathlib import Path

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: who loses its parent becomes a child of this process

def below(pid):
    found = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *below(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found

def end():
    sys.stdin.read()
    while True:
        for pid in below(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

print(subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2).pid, flush=True)
threading.Thread(target=end, daemon=True).start()
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""
"""Starts a program; when its stdin ends, kills all that came of it, also what has left its parents."""

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
MailProg=/bin/true
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
GresTypes=gpu
JobRequeue=1
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=3
BatchStartTimeout=2
KillWait=3
CompleteWait=0
MinJobAge=600
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why SLURM cannot run here."""
    if os.geteuid() != 0:
        return "SLURM's daemons are started by root only"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        needed = "apt-get install --no-install-recommends slurm-wlm munge"
        return f"no {', '.join(missing)} on this machine: {needed}"
    return None


class Slurm:
    """SLURM with the nodes n1 and n2, of 4 CPUs, 8 GB and 2 GPUs each, while it is open; its folder's path is short.

    `env` is the environment in which SLURM's commands, and what calls them, find this SLURM and no other.

    Of a job that ends it kills what the job's processes have started, as far as their parents still live. (Clusters
    that use cgroups kill the rest as well: what leaves nothing behind here leaves nothing behind there.)
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        self.env |= {"SLURM_CONF": str(folder / "slurm.conf")}
        self._kept: dict[str, list[subprocess.Popen]] = {}
        self._pids: dict[str, int] = {}
        self._dead: dict[str, bool] = {}

    def __enter__(self):
        with ExitStack() as stack:
            stack.callback(self.close)
            self._write()
            self._start_munge()
            self._start("slurmctld", "slurmctld", "-D")
            for name in NODES:
                self.start_node(name)
            stack.pop_all()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End all that was started, jobs first."""
        for name in reversed(list(self._kept)):
            self._end(name)

    def start_node(self, name: str):
        """Start a node's slurmd, and wait until jobs may run there.

        After `kill_node` this first waits until the controller has noticed, about 10 s: when a node comes back sooner,
        it may believe for a minute that jobs go on which are gone.
        """
        if self._dead.pop(name, False):
            wait_until(lambda: self.nodes()[name].startswith("down"), f"node {name} is found dead")
        before = time.strftime("%Y-%m-%dT%H:%M:%S")
        self._start(name, "slurmd", "-D", "-N", name)
        wait_until(lambda: self._slurmd_started(name) >= before, f"node {name} is known to the controller")

    def kill_node(self, name: str, jobs: bool = True):
        """SIGKILL a node's slurmd, and with it the jobs' processes there, as when the power fails."""
        self._dead[name] = jobs
        if jobs:
            self._end(name)
        else:
            os.kill(self._pids[name], signal.SIGKILL)

    def mend(self):
        """End all jobs and start the nodes that were killed, so that what comes next finds it as new."""
        for job, state in self.jobs().items():
            if state not in ENDED:
                self.cancel(job)
        for name in list(self._dead):
            self.start_node(name)
        wait_until(lambda: set(self.jobs().values()) <= ENDED, "all jobs have ended")
        wait_until(lambda: set(self.nodes().values()) == {"idle"}, "both nodes are idle")

    def nodes(self) -> dict[str, str]:
        """The state of each node as the controller sees it: idle, mixed, allocated, down …; a * means no answer."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False).splitlines()
        return {name: state for name, state in map(str.split, lines)}

    def jobs(self) -> dict[int, str]:
        """The state of each job, also of those that ended in the last ten minutes: PENDING, RUNNING, COMPLETED …"""
        lines = self.run("squeue", "--noheader", "--states=all", "--format=%A %T").splitlines()
        return {int(number): state for number, state in map(str.split, lines)}

    def submit(self, script: str, *options: str) -> int:
        """Give sbatch a script; returns the job's number."""
        return int(self.run("sbatch", "--parsable", f"--chdir={self.folder}", *options, input=f"#!/bin/bash\n{script}"))

    def cancel(self, job: int):
        self.run("scancel", str(job))

    def end_time(self, job: int):
        """Move the time limit of a running job to now; the controller, which looks every 30 s, then ends it: TIMEOUT.

        A job's own limit is counted in minutes, and the shortest takes 60 to 90 s.
        """
        self.run("scontrol", "update", f"JobId={job}", "EndTime=now")

    def run(self, *command: str, check: bool = True, timeout: float = 60, **options) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=timeout, **options
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout

    def _slurmd_started(self, name):
        found = re.search(r"SlurmdStartTime=(\d\S+)", self.run("scontrol", "show", "node", name, check=False))
        return found[1] if found else ""

    def _write(self):
        ports, host = free_ports(1 + len(NODES)), socket.gethostname().split(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000 Gres=gpu:2"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        text = CONFIG.format(host=host, ports=ports, folder=self.folder, nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(text)
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir()
        for name in ("gpu0", "gpu1"):
            os.mknod(self.folder / name, stat.S_IFCHR, os.makedev(1, 3))  # no GPU; SLURM asks for a device
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")

    def _start_munge(self):
        key, at = self.folder / "munge.key", self.folder / "munge"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{kind}-file={at}.{kind}" for kind in ("pid", "log", "seed")]
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={at}.socket", *files)
        wait_until(Path(f"{at}.socket").exists, "munged listens")

    def _start(self, name, *command):
        with (self.folder / f"{name}.out").open("a") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", KEEPER, *command],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                start_new_session=True,
            )
        self._kept.setdefault(name, []).append(process)
        self._pids[name] = int(process.stdout.readline())

    def _end(self, name):
        for process in self._kept.pop(name):
            process.stdin.close()
            process.wait()
            process.stdout.close()


def wait_until(condition, what, seconds=60):
    """Wait for something; fails when it has not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.1)


def free_ports(number):
    """Ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(number)]
