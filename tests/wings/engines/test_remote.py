"""Fits on the workers of a Dask scheduler: the digits of one process, whoever dies on the way."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from dask_cluster import Dask, processes_of, same, seconds_of
from killing import children
from slurm_cluster import wait_until

from common import cli
from common.cli import UserError
from common.engines.remote import PREPARATION, Remote

distributed = pytest.importorskip("distributed")
CONFIG = """
from common.config import TrainingConfig
config = TrainingConfig(epochs=2, warmup_epochs=0, learning_rate=1e30)
"""


@pytest.fixture(scope="module")
def dask(killer):
    dask = Dask(killer.folder, killer.environment)
    yield dask
    dask.close()


@pytest.fixture(scope="module")
def whole(dask, undisturbed):  # the workers start meanwhile
    """What the same command leaves with one process of this machine."""
    return undisturbed(3)


def meanwhile(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def lines_of(ended):
    """What a run printed after its bar of fits; no word of Dask's."""
    assert "Traceback" not in ended.output and "distributed" not in ended.output, ended.output
    return re.split(r"(?:fit/s|s/fit)\]", ended.output)[-1].strip().splitlines()


def test_a_worker_is_lost_and_another_joins_and_the_results_are_those_of_one_process(dask, killer, whole):
    killer.clean()

    def lose_a_worker():
        killer.wait_for(3)
        lost = next(worker for worker in dask.workers if any(processes_of(worker.pid).values()))
        lost.kill()
        lost.wait()
        wait_until(lambda: not any(processes_of(lost.pid).values()), "no fit of the worker goes on", 5)
        dask.workers.remove(lost)
        dask.workers.append(dask.add())
        done.append(lost)

    done: list = []
    losing = meanwhile(lose_a_worker)
    ended = killer.run("--engine", dask.address, step=3)
    losing.join(10)
    assert ended.code == 0 and done, ended.output
    lines_of(ended)
    same(killer.state(), whole)


@pytest.mark.slow
def test_after_ctrl_c_no_fit_goes_on_and_no_run_is_open(dask, killer, whole):
    killer.clean()
    ended = killer.run("--engine", dask.address, "--image-size", 512, step=3, phases=2, number=signal.SIGINT)
    fits = [pid for worker in dask.workers for pid, is_fit in processes_of(worker.pid).items() if is_fit]
    wait_until(lambda: not are_busy(fits), "the fits of some seconds are ended", 2)
    assert (ended.code, lines_of(ended)[-1]) == (130, "interrupted"), ended.output
    assert set(killer.state()["statuses"]) == {"FINISHED", "KILLED"}
    assert all(worker.poll() is None for worker in dask.workers)


def are_busy(processes):
    before = {pid: seconds_of(pid) for pid in processes}
    time.sleep(0.4)
    return any(seconds_of(pid) > before[pid] + 0.05 for pid in processes)


@pytest.mark.slow
def test_an_error_of_a_fit_ends_the_run_at_once_with_its_line(dask, killer, whole):
    killer.clean()
    config = killer.folder / "diverges.py"
    config.write_text(CONFIG)
    ended = killer.run(config, "--engine", dask.address, "--root-splits", 1, "--inner-splits", 1)
    last = lines_of(ended)[-1]
    assert ended.code == 2 and last.startswith("error: ") and "the loss is nan in seed 0 / root " in last, last
    assert ended.seconds < 60
    assert "RUNNING" not in killer.state()["statuses"]


@pytest.mark.slow
def test_a_run_whose_scheduler_was_killed_goes_on_with_another(dask, killer):
    whole = killer.undisturbed(step=4)
    killer.clean()

    def kill():
        killer.wait_for(3)
        dask.scheduler.kill()

    meanwhile(kill)
    ended = killer.run("--engine", dask.address, step=4)
    expected = f"error: --engine {dask.address}: the fit is lost; the same command goes on from here"
    assert (ended.code, lines_of(ended)) == (137, [expected]), ended.output
    assert set(killer.state()["statuses"]) <= {"FINISHED", "KILLED"}
    wait_until(lambda: not any(processes_of(worker.pid) for worker in dask.workers), "workers end", 40)
    dask.start()
    again = killer.run("--engine", dask.address, step=4)
    assert again.code == 0 and "resuming run" in again.output, again.output
    same(killer.state(), whole)


def test_workers_import_what_fits_need_before_the_first_comes(dask):
    with Remote(dask.address, None):
        with_ours = dask.add()
        wait_until(lambda: prepares(with_ours), "it has begun")
    after_us = dask.add()
    with distributed.Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(4)
        left = client.run(lambda dask_worker: PREPARATION in dask_worker.plugins)
        assert list(left.values()) == [False] * 4
    assert not prepares(after_us)
    end(with_ours, after_us)


def test_others_workers_without_this_package_can_join_a_scheduler_that_fits_use(dask, tmp_path):
    (tmp_path / "common.py").write_text("NAME = 'of another project'")
    with Remote(dask.address, None), distributed.Client(dask.address, set_as_default=False) as client:
        other = dask.add(tmp_path)
        joined = lambda: other.pid in client.run(os.getpid, on_error="ignore").values()  # noqa: E731
        wait_until(joined, "it has joined")
    end(other)


def prepares(worker):
    return any(is_server(pid) for pid in children(worker.pid))


def end(*workers):
    for worker in workers:
        worker.kill()
        worker.wait()


def is_server(pid):
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_an_address_of_nobody_is_one_line(killer):
    killer.clean()
    ended = killer.run("--engine", "tcp://127.0.0.1:1", step=3)
    assert (ended.code, len(ended.output.strip().splitlines())) == (2, 1), ended.output
    assert ended.output.startswith("error: --engine tcp://127.0.0.1:1: no Dask scheduler answers (")
    assert ended.seconds < 10
    assert killer.roots() == []


def test_other_words_and_no_dask_are_one_line(capsys, monkeypatch):
    with pytest.raises(SystemExit, match="2"):
        cli.train_parser("", step=3).parse_args(["--engine", "nonsense"])
    line = "error: argument --engine: expected local, tcp://HOST:PORT or tls://HOST:PORT, found 'nonsense'"
    assert capsys.readouterr().err.startswith(line)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"^--engine tcp://here:1: Dask is not installed; pip install"):
        Remote("tcp://here:1", None)
