"""The SLURM that other tests run on: two nodes, GPUs that are shared out, jobs that go on after a node has died."""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest
from slurm_cluster import wait_until

from conftest import PROJECT


def wait_for(slurm, job, state, seconds=60):
    wait_until(lambda: slurm.jobs()[job] == state, f"job {job} is {state}", seconds)


def is_running(pid):
    return Path(f"/proc/{pid}").exists()


def test_one_command_runs_on_both_nodes_at_once(slurm):
    assert slurm.nodes() == {"n1": "idle", "n2": "idle"}
    meet = "touch $0.$SLURMD_NODENAME; until [ -e $0.n1 -a -e $0.n2 ]; do sleep 0.1; done; echo $SLURMD_NODENAME"
    answers = slurm.run("srun", "--nodes=2", "--time=1", "sh", "-c", meet, str(slurm.folder / "met"))
    assert sorted(answers.split()) == ["n1", "n2"]


def test_jobs_on_a_node_get_different_gpus_and_a_third_waits_for_one(slurm):
    script = f"echo $CUDA_VISIBLE_DEVICES > {slurm.folder}/gpu.$SLURM_JOB_ID; sleep 100"
    jobs = [slurm.submit(script, "--gres=gpu:1", "--nodelist=n1") for _ in range(3)]
    gpus = [slurm.folder / f"gpu.{job}" for job in jobs]
    wait_until(lambda: all(path.exists() and path.read_text() for path in gpus[:2]), "two jobs have begun")
    assert sorted(path.read_text().strip() for path in gpus[:2]) == ["0", "1"]
    assert slurm.jobs()[jobs[2]] == "PENDING"
    slurm.cancel(jobs[0])
    wait_for(slurm, jobs[2], "RUNNING")
    wait_until(lambda: gpus[2].exists() and gpus[2].read_text(), "the third has begun")
    assert gpus[2].read_text() == gpus[0].read_text()


@pytest.mark.slow
def test_a_job_begins_again_by_itself_after_its_node_died_with_all_its_processes(slurm):
    script = """setsid sleep 1000 & echo $! $SLURM_RESTART_COUNT >> pids
    if [ -z "$SLURM_RESTART_COUNT" ]; then wait; fi; kill $!"""
    job = slurm.submit(script, "--requeue", "--nodelist=n1")
    pids = slurm.folder / "pids"
    wait_until(lambda: pids.exists() and pids.read_text(), "the job has begun")
    pid = int(pids.read_text())
    assert is_running(pid)

    slurm.kill_node("n1")
    assert not is_running(pid)
    slurm.start_node("n1")
    wait_for(slurm, job, "COMPLETED")
    assert [line.split()[1:] for line in pids.read_text().splitlines()] == [[], ["1"]]
    assert slurm.nodes() == {"n1": "idle", "n2": "idle"}


@pytest.mark.slow
def test_mending_ends_jobs_and_starts_dead_nodes(slurm):
    jobs = [slurm.submit("sleep 1000", f"--nodelist={name}") for name in ("n1", "n2")]
    for job in jobs:
        wait_for(slurm, job, "RUNNING")
    slurm.kill_node("n1", jobs=False)
    slurm.kill_node("n2")
    slurm.mend()
    assert [slurm.jobs()[job] for job in jobs] == ["CANCELLED", "CANCELLED"]
    assert slurm.nodes() == {"n1": "idle", "n2": "idle"}


def test_a_job_goes_on_while_its_nodes_daemon_is_dead(slurm):
    go = slurm.folder / "go"
    job = slurm.submit(f"until [ -e {go} ]; do sleep 0.1; done", "--nodelist=n2")
    wait_for(slurm, job, "RUNNING")
    slurm.kill_node("n2", jobs=False)
    assert slurm.jobs()[job] == "RUNNING"
    slurm.start_node("n2")
    assert slurm.jobs()[job] == "RUNNING"
    go.touch()
    wait_for(slurm, job, "COMPLETED")


@pytest.mark.slow
def test_a_job_is_told_before_its_time_limit(slurm):
    script = "trap 'echo told > told; exit' TERM; sleep 1000 & wait"
    job = slurm.submit(script, "--time=1", "--signal=B:TERM@20")
    wait_until((slurm.folder / "told").exists, "SIGTERM", 60)  # 30 s: the controller looks every 30 s
    wait_for(slurm, job, "COMPLETED")


@pytest.mark.slow
def test_a_job_whose_time_is_over_is_ended(slurm):
    job = slurm.submit("trap '' TERM; sleep 1000", "--time=10")
    wait_for(slurm, job, "RUNNING")
    slurm.end_time(job)
    wait_for(slurm, job, "TIMEOUT")


OWNER = """
import sys
from pathlib import Path
from slurm_cluster import Slurm, wait_until
with Slurm(Path(sys.argv[1])) as slurm:
    job = slurm.submit("setsid sleep 1000 & wait")
    wait_until(lambda: slurm.jobs()[job] == "RUNNING", "the job has begun")
    print("ready", flush=True)
    sys.stdin.read()
    raise RuntimeError
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_no_process_is_left_when_what_uses_it_fails_or_is_killed(is_killed, slurm):
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, folder],
            env=os.environ | {"PYTHONPATH": str(PROJECT / "tests")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert owner.stdout.readline() == b"ready\n"
        wait_until(lambda: b"sleep" in commands_with(folder), "the job's command runs")
        assert commands_with(folder).keys() >= {b"munged", b"slurmctld", b"slurmd", b"slurmstepd"}
        if is_killed:
            owner.kill()
        owner.communicate()
        wait_until(lambda: not commands_with(folder), "no process is left", 10)


def commands_with(folder):
    """Programs that run with a folder's SLURM: name to process ids."""
    found = defaultdict(list)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.encode() in (process / "environ").read_bytes():
                found[(process / "comm").read_bytes().strip()].append(int(process.name))
    return found
