"""``python -m common.engines slurm``: workers as jobs of a SLURM, and the digits of one process, whoever dies."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from dask_cluster import same
from killing import children
from slurm_cluster import ENDED, wait_until

# not importorskip: dask_jobqueue takes Ctrl-C for itself when it is imported
pytestmark = pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="Dask is not installed: extra `cluster`")
WORKERS = ("--workers", "2", "--gpus", "1", "--memory", "400MB", "--time", "10", "--host", "127.0.0.1")
KILLS = ["worker", "node", "launcher", "script", "worker", "node", "launcher", "script", "worker", "script"]


@pytest.fixture(scope="module")
def whole(killer):
    """What the same command leaves with one process of this machine."""
    return killer.undisturbed(step=4)


@pytest.fixture
def launch(killer, slurm):
    """Starts ``python -m common.engines slurm … step_4/train.py``; what it prints is in the folder's ``log``."""
    started = []

    def start(*flags, script=(), **environment):
        train = ["--", "python", "step_4/train.py", "--fast", "--data", killer.data, *map(str, script)]
        with (killer.folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "common.engines", "slurm", *WORKERS, *flags, *train],
                cwd=killer.folder,
                env=killer.environment | slurm.env | {"PYTHONPATH": str(killer.folder)} | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
            )
        started.append(process)
        return process

    killer.clean()
    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def said(killer):
    """All that was printed; no word of Dask's."""
    output = (killer.folder / "log").read_text()
    assert "Traceback" not in output and "distributed" not in output and "tornado" not in output, output
    return output


def going_on(slurm):
    return [job for job, state in slurm.jobs().items() if state not in ENDED]


def no_job_is_left(slurm, seconds=40):
    wait_until(lambda: not going_on(slurm), f"no job is left of {slurm.jobs()}", seconds)


def script_of(launcher):
    for pid in children(launcher.pid):
        with suppress(OSError):
            if b"step_4/train.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise LookupError


def worker_of(job):
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_worker = b"distributed.cli.dask_worker" in (process / "cmdline").read_bytes()
            if is_worker and f"SLURM_JOB_ID={job}\0".encode() in (process / "environ").read_bytes():
                return int(process.name)
    raise LookupError


def is_gone(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(KILLS)))
@pytest.mark.hostile("workers, nodes, the launcher or the script are killed: the same results")
def test_something_is_killed_at_any_moment(number, launch, killer, slurm, whole):
    draw = random.Random(number)
    launcher = launch()
    killer.wait_for(draw.randrange(1, 12))
    time.sleep(draw.random())
    script = script_of(launcher)
    if KILLS[number] == "worker":
        os.kill(worker_of(draw.choice(going_on(slurm))), signal.SIGKILL)
    elif KILLS[number] == "node":
        slurm.kill_node(draw.choice(["n1", "n2"]))
    else:
        os.kill(script if KILLS[number] == "script" else launcher.pid, signal.SIGKILL)
        assert launcher.wait(60) == (137 if KILLS[number] == "script" else -9), said(killer)
        wait_until(lambda: is_gone(script), "the script has ended", 30)
        said(killer)
        no_job_is_left(slurm)
        if "FINISHED" in dict(killer.roots()).values():  # it was quicker
            return same(killer.state(), whole)
        launcher = launch()
    assert launcher.wait(200) == 0, said(killer)
    said(killer)
    same(killer.state(), whole)
    if KILLS[number] == "node":
        slurm.mend()
    no_job_is_left(slurm)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["scancel", "time limit"])
def test_a_worker_whose_job_ends_is_replaced(how, launch, killer, slurm, whole):
    launcher = launch(script=["--image-size", 320] if how == "time limit" else [])
    killer.wait_for(1)
    first = going_on(slurm)
    slurm.cancel(first[0]) if how == "scancel" else slurm.end_time(first[0])
    wait_until(lambda: slurm.jobs()[first[0]] in ENDED, "its job has ended", 40)
    wait_until(lambda: set(slurm.jobs()) - set(first), "another takes its place", 10)
    assert launcher.wait(200) == 0, said(killer)
    said(killer)
    found = killer.state()
    if how == "scancel":
        same(found, whole)
    else:
        killer.clean()
        killer.run("--image-size", 320, step=4)
        same(found, killer.state())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_launcher_leaves_no_job_and_no_open_run(number, code, launch, killer, slurm, whole):
    launcher = launch()
    killer.wait_for(3)
    started = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(launcher.pid, number)  # as a terminal does
    else:
        launcher.send_signal(number)
    assert launcher.wait(30) == code, said(killer)
    assert time.monotonic() - started < 20
    assert "the same command goes on from here" in said(killer)
    no_job_is_left(slurm, 15)
    assert set(killer.state()["statuses"]) <= {"FINISHED", "KILLED"}
    assert launch().wait(200) == 0, said(killer)
    same(killer.state(), whole)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["its node dies", "its time is nearly over"])
def test_the_script_as_a_job_is_run_again_and_goes_on(how, launch, killer, slurm, whole):
    assert launch("--as-job", "--script-time", "20").wait(60) == 0, said(killer)
    (line,) = said(killer).splitlines()
    job, log = re.fullmatch(r"job (\d+): its output is in (.+)", line).groups()
    killer.wait_for(3)
    if how == "its node dies":
        node = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
        slurm.kill_node(node)
        slurm.start_node(node)
    else:
        slurm.run("scancel", "--batch", "--signal=USR1", job)  # as SLURM itself does two minutes before
    wait_until(lambda: slurm.jobs()[int(job)] == "COMPLETED", f"the script has ended: {slurm.jobs()}", 200)
    output = Path(log).read_text()
    assert "resuming run" in output and "Traceback" not in output and "distributed" not in output, output
    same(killer.state(), whole)
    no_job_is_left(slurm)


@pytest.mark.slow
def test_what_cannot_be_is_one_line_and_no_job(launch, killer, slurm):
    before = slurm.jobs()
    for flags, environment, line in (
        (["--partition", "nowhere"], {}, r"error: SLURM refuses the workers: .*Invalid partition.*"),
        (["--partition", "nowhere", "--as-job"], {}, r"error: SLURM refuses the job: .*Invalid partition.*"),
        ([], {"PATH": str(Path(sys.executable).parent)}, r"error: sbatch: not on this machine; expected SLURM, or .*"),
    ):
        assert launch(*flags, **environment).wait(60) == 2
        assert re.fullmatch(line, said(killer).strip()), said(killer)
    assert slurm.jobs() == before
    assert killer.roots() == []
