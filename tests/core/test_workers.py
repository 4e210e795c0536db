"""The processes that compute fits: which GPU each has, and on which kind of machine it may be."""

import os
import signal
import socket
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.process import BaseProcess as Process

import cloudpickle
import pytest
import torch

from common.cli import UserError
from common.tracking.identity import surroundings
from common.training import local, set_up
from common.training.compute import Compute
from common.training.jobs import run_jobs
from common.training.local import engine_for
from common.training.workers import Workers, pickled

GPUS = ["2", "5", "GPU-7f4c"]
ON_GPUS = Compute("cuda", "fp32", 1)
OTHER = {"ATEN_CPU_CAPABILITY": "default"}
"""Makes PyTorch compute as on an old processor: a machine of another kind."""


def see_gpu(seconds):
    """A fit that says which GPUs it sees, and from when to when it was busy."""

    def fit():
        begin = time.monotonic()
        time.sleep(seconds)
        return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid(), begin, time.monotonic()

    return pickled(fit)


def machine():
    def fit():
        from common.training.compute import describe_machine

        return describe_machine("cpu")

    return pickled(fit)


@pytest.fixture
def gpus(monkeypatch):
    """Three GPUs of five, of which a scheduler gave this process 2, 5 and one by its name."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5, GPU-7f4c")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.parametrize("n_jobs, fits_per_gpu, on_each", [(None, 1, [1, 1, 1]), (2, 1, [1, 1]), (5, 2, [2, 2, 1])])
def test_each_process_has_one_gpu_and_no_gpu_more_fits_than_allowed(n_jobs, fits_per_gpu, on_each, gpus):
    devices = local._devices(n_jobs, fits_per_gpu, ON_GPUS)
    workers = Workers(None, devices)
    with ThreadPoolExecutor(12) as threads:
        fits = [threads.submit(workers.run, str(i), see_gpu(0.2), lambda said: None) for i in range(12)]
        seen = [cloudpickle.loads(fit.result()) for fit in fits]
    workers.close()
    assert len({process for _, process, _, _ in seen}) == len(devices) == sum(on_each)
    for gpu, most in zip(GPUS[: len(on_each)], on_each, strict=True):
        spans = [(begin, end) for name, _, begin, end in seen if name == gpu]
        at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
        assert max(at_once) == most
    assert {name for name, *_ in seen} == set(GPUS[: len(on_each)])


def test_a_fit_that_is_interrupted_while_its_process_starts_never_begins(monkeypatch):
    workers = Workers(None, [{}])
    start = Process.start

    def interrupted_start(process):
        workers.interrupt("first")
        start(process)

    monkeypatch.setattr(Process, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        workers.run("first", see_gpu(30), lambda said: None)
    assert cloudpickle.loads(workers.run("second", machine(), lambda said: None))
    workers.close()


def test_ctrl_c_while_the_thread_of_an_outer_fold_starts_is_no_other_error(monkeypatch):
    class Late(threading.Thread):
        def start(self):
            if self._target.__name__ == "call":
                signal.raise_signal(signal.SIGINT)
            super().start()

    monkeypatch.setattr(threading, "Thread", Late)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(lambda fold: fold, [1], Compute("cpu", "fp32", 1), Namespace(engine="local", n_jobs=2), 1)


def test_more_processes_than_gpus_have_room_for_are_refused(gpus, monkeypatch):
    flags = Namespace(engine="local", n_jobs=4, fits_per_gpu=1)
    expected = "--n-jobs 4: expected at most 3: 1 on each of 3 GPUs; --fits-per-gpu allows more"
    with pytest.raises(UserError) as error, engine_for(flags, ON_GPUS):
        pass
    assert (str(error.value), error.value.exit_code) == (expected, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,-1,5")  # CUDA takes those before the first that is none
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local._devices(None, 2, ON_GPUS) == [{"CUDA_VISIBLE_DEVICES": "2"}] * 2


def test_a_worker_of_another_kind_is_refused_unless_machines_may_be_mixed():
    compute = set_up("cpu", "fp32", 2)
    workers = Workers(pickled(compute), [{}])
    assert cloudpickle.loads(workers.run("a", machine(), print)) == compute.machine
    workers.close()
    workers = Workers(pickled(compute), [OTHER])
    with pytest.raises(UserError) as error:
        workers.run("a", machine(), print)
    workers.close()
    workers = Workers(pickled(replace(compute, mixed=True)), [OTHER])
    found = cloudpickle.loads(workers.run("a", machine(), print))
    workers.close()
    assert found != compute.machine
    line = f"{socket.gethostname()}: {found}; expected {compute.machine}, as fits began on; --mixed-machines allows it"
    assert str(error.value) == line


def test_where_machines_may_be_mixed_their_kind_is_no_part_of_a_runs_identity():
    one, other = Compute("cpu", "fp32", 1, machine="one"), Compute("cpu", "fp32", 1, machine="other")
    assert surroundings(one)["machine"] == "one, fp32" != surroundings(other)["machine"]
    mixed = {surroundings(replace(compute, mixed=True))["machine"] for compute in (one, other)}
    assert mixed == {"mixed machines, fp32"}
