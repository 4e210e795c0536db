"""Fits that only sleep, on many workers that are not there: what the script's own process adds to them.

The queue, the threads that wait, the pickling and, with ``dask``, the engine, its client, the scheduler and the network
are the real ones. A fit is a stand-in: it takes and gives as many bytes as a real one, and sleeps in a thread.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from unittest import mock

import cloudpickle

from common import cli
from common.training import jobs, local
from common.training.compute import Compute
from common.training.workers import pickled

PER_ITEM = 4
"""Fits that an item waits for, as a trial does for its inner folds."""
MESSAGES = 4
"""What a fit says on the way."""


def sleep(payload: bytes, seconds: float, number: int) -> tuple[float, float, bytes]:
    """A stand-in for a fit: when it began and ended, and a result of some size."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time(), payload[::-1]


class Threads:
    """An engine whose fits run in threads of this process."""

    def __init__(self, n_workers: int):
        self.slots, self.most = n_workers, 1_000
        self._pool = ThreadPoolExecutor(n_workers)

    def submit(self, call: Callable, hear: Callable) -> local.Running:
        fit = pickled(call)
        return local.Running(self._pool.submit(lambda: pickled(cloudpickle.loads(fit)())), lambda: None)


@contextmanager
def engine_of(kind: str, n_workers: int) -> Iterator[object]:
    """The engine, and for ``dask`` a cluster in a process of its own."""
    if kind == "threads":
        yield Threads(n_workers)
        return
    from common.engines.remote import Remote

    command = [sys.executable, "-m", "benchmarks.sleeping", "cluster", str(n_workers)]
    cluster = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with Remote(cluster.stdout.readline().strip(), Compute("cpu", "fp32", 1)) as engine:
            yield engine
    finally:
        cluster.communicate()


def serve(n_workers: int) -> None:
    """A Dask cluster whose workers have threads alone, until stdin ends."""
    import dask
    import distributed

    from common.engines import remote

    dask.config.set({"distributed.worker.profile.enabled": False})  # it looks at all threads of a process, here 256

    def compute_fit(fit: bytes, key: str, compute: bytes | None, topic: str) -> tuple[str, bytes, list]:
        said = pickled([("no run", (), "metrics", ([("dev_loss", 0.5, 0, step) for step in range(20)],))])
        for _ in range(MESSAGES):
            distributed.get_worker().log_event(topic, said)
        return "result", pickled(cloudpickle.loads(fit)()), []

    remote.compute_fit = compute_fit
    threads = min(16, n_workers)
    options = {"n_workers": n_workers // threads, "threads_per_worker": threads, "memory_limit": 0}
    with distributed.LocalCluster(
        processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None, **options
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


def measure(kind: str, n_workers: int, n_fits: int, seconds: float, size: int) -> dict[str, float]:
    """How busy the workers were, and what this process took of processor and memory, by the fit."""
    times: list[tuple[float, float]] = []
    peak: dict[int, float] = {}
    payload = b"x" * size

    def wait_for(item: int) -> None:
        for began, ended, _ in jobs.run_fits(partial(sleep, payload, seconds), range(PER_ITEM)):
            times.append((began, ended))
            if len(times) in (n_fits // 4, n_fits):
                peak[len(times)] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    @contextmanager
    def engine_for(*_: object) -> Iterator[object]:
        yield engine

    with engine_of(kind, n_workers) as engine, mock.patch.object(jobs, "engine_for", engine_for):
        own = time.process_time()
        jobs.run_jobs(wait_for, range(n_fits // PER_ITEM), Compute("cpu", "fp32", 1), Namespace(), n_fits)
        own = time.process_time() - own
    whole = max(end for _, end in times) - min(began for began, _ in times)
    return {
        "busy": sum(end - began for began, end in times) / whole / n_workers,
        "seconds": whole,
        "cpu_ms_a_fit": 1000 * own / n_fits,
        "mib_after_a_quarter": peak[n_fits // 4],
        "mib_at_the_end": peak[n_fits],
    }


def main() -> None:
    kind, n_workers = sys.argv[1], int(sys.argv[2])
    if kind == "cluster":
        serve(n_workers)
    else:
        print(json.dumps(measure(kind, n_workers, int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))))


if __name__ == "__main__":
    cli.run(main)
