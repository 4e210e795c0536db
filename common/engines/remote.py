"""The engine of a Dask scheduler: each of its workers computes fits in processes of its own.

A fit is interrupted there by ending its process, which Dask could not do with its own threads. Where a worker is lost,
Dask gives its fits to others: they go on from their checkpoints where these lie on a shared disk, else they begin anew.
"""

from __future__ import annotations

import atexit
import logging
import math
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import cloudpickle

from common import progress
from common.cli import KilledError, UserError, reason_of
from common.training.workers import Hear, Workers, pickled

if TYPE_CHECKING:
    from common.training.compute import Compute
    from common.training.local import Running

GRACE = 40.0
"""Seconds after which a worker whose process for fits was killed counts as one that goes on: SLURM ends both."""
FAILURES = 1_000_000
"""Of workers that a fit outlives; Dask's own number is 3."""
LOOK = 0.5
"""Seconds between two looks at how many workers there are; on a worker, at what it is to do."""

PREPARATION = "common.engines.remote: preparation"
"""Name of the plugin of workers, while a client is there."""


class Remote:
    """See :class:`common.training.local.Engine`.

    Parameters
    ----------
    address : str
        Of the scheduler: ``tcp://host:port``, or ``tls://host:port`` with the certificates that Dask's configuration
        names.
    compute : Compute, optional
        Applied in the workers' processes.

    Raises
    ------
    UserError
        When Dask is not installed, or the scheduler does not answer.
    """

    def __init__(self, address: str, compute: Compute | None):
        self.address = address
        self.most = 1_000
        self._compute = compute
        self._hearing: dict[str, Hear] = {}
        self._topic = f"fits {uuid4().hex}"
        self._client = _connect(address)
        self._hearing_in_order = ThreadPoolExecutor(1)  # Dask's own thread must wait for nobody
        self._client.subscribe_topic(self._topic, lambda event: self._hearing_in_order.submit(self._hear, event[1]))
        self._fetching = ThreadPoolExecutor(8)  # Dask's own thread for callbacks would wait for one after the other
        self._seen = (-math.inf, 1)
        self._since = time.monotonic()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):  # the scheduler is gone
            self._client.unregister_worker_plugin(PREPARATION)
        self._client.close()

    @property
    def slots(self) -> int:
        """Threads of the workers that are there now; one at least, so that a cluster that grows sees work."""
        now = time.monotonic()
        if now - self._seen[0] > LOOK:
            try:
                found = sum(self._client.nthreads().values())
            except Exception:  # the fits that it had say so
                found = 0
            self._seen = (now, max(1, found))
            if found:
                self._since = now
            elif now - self._since > 15:
                progress.say(f"no workers at {self.address}: waiting for them")
                self._since = math.inf
        return self._seen[1]

    def submit(self, call: Callable[[], Any], hear: Hear) -> Running:
        """As :meth:`common.training.local.Engine.submit`."""
        from common.training.local import Running

        key, result = f"fit-{uuid4().hex}", _Result()
        if self._client.status != "running":
            raise self._lost()
        self._hearing[key] = hear
        about = (pickled(call), key, self._compute and pickled(self._compute), self._topic)
        future = self._client.submit(compute_fit, *about, key=key, pure=False)
        future.add_done_callback(lambda future: self._fetching.submit(self._take, result, hear, future))
        result.computed_by = future
        return Running(result, partial(self._interrupt, result, future))

    def _take(self, result: _Result, hear: Hear, future) -> None:
        try:
            if result.is_interrupted:
                raise KeyboardInterrupt
            if future.status != "finished":
                reason = future.exception() if future.status == "error" else None
                raise self._lost(reason)
            kind, content, said = future.result()
            self._hearing_in_order.submit(int).result()  # what came before it has been heard
            if said:
                hear(said)
            if kind == "error":
                error, text = cloudpickle.loads(content)
                raise error from RuntimeError(text)
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(content)
        finally:
            result.computed_by = None
            self._hearing.pop(future.key, None)

    def _interrupt(self, result: _Result, future) -> None:
        result.is_interrupted = True
        with suppress(Exception):  # the scheduler is gone, and its workers end
            future.cancel()  # the worker sees it, see `_watch`

    def _lost(self, error: BaseException | None = None) -> KilledError:
        reason = f" ({reason_of(error)})" if error else ""
        return KilledError(f"--engine {self.address}: the fit is lost{reason}; the same command goes on from here")

    def _hear(self, message: bytes) -> None:
        key, said = cloudpickle.loads(message)
        if hear := self._hearing.get(key):
            hear(said)


class _Result(Future):
    computed_by: Any = None  # Dask forgets what nobody refers to
    is_interrupted = False


def on_worker(address: str, call: Callable[[], Any]) -> Any:
    """What a function returns in a process of a worker."""
    with Remote(address, None) as engine:
        result = engine.submit(call, lambda said: None).result
        while not wait([result], timeout=LOOK).done:
            _ = engine.slots  # says so when there are no workers
        return cloudpickle.loads(result.result())


def dask_with(settings: Mapping[str, object], asked_by: str):
    """Dask's configuration, with settings where the user has set nothing; what it would print is said here in one line.

    Raises
    ------
    UserError
        When Dask is not installed.
    """
    try:
        import dask
        import distributed  # noqa: F401  so that its settings are there
    except ImportError:
        raise UserError(f"{asked_by}: Dask is not installed; pip install dask[distributed], extra `cluster`") from None
    get, own = dask.config.get, dask.config.merge(*dask.config.defaults)
    dask.config.set({name: value for name, value in settings.items() if get(name) == get(name, config=own)})
    for name in ("asyncio", *logging.root.manager.loggerDict):
        if name.split(".")[0] in ("asyncio", "distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return dask.config


def _check_certificate(address: str) -> None:
    from distributed.security import Security

    expected = "expected DASK_DISTRIBUTED__COMM__TLS__CA_FILE, __CLIENT__CERT and __CLIENT__KEY, see docs/cluster.md"
    try:
        if Security().get_connection_args("client").get("ssl_context") is None:
            raise ValueError("not there")
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"--engine {address}: certificate: {reason_of(error)}; {expected}") from None


def _connect(address: str):
    settings = {"distributed.comm.timeouts.connect": "10s", "distributed.admin.large-graph-warning-threshold": "1GB"}
    dask_with(settings, f"--engine {address}")
    import distributed

    if address.startswith("tls:"):
        _check_certificate(address)
    try:
        client = distributed.Client(address, set_as_default=False, timeout=5)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--engine {address}: no Dask scheduler answers ({reason_of(error)})") from None
    with suppress(Exception):  # a scheduler may forbid this
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", FAILURES))

    class Preparation(distributed.WorkerPlugin):
        """Each worker, also one that comes later, imports what fits need before the first one comes."""

        name = PREPARATION

        def setup(self, worker) -> None:
            with suppress(ImportError):  # others' workers of this scheduler may not have it
                from common.training import servers

                servers.prepare()

    client.register_plugin(Preparation())
    return client


_lock = threading.Lock()
_workers: dict[bytes | None, Workers] = {}


def compute_fit(fit: bytes, key: str, compute: bytes | None, topic: str) -> tuple[str, bytes, list]:
    """Compute a fit in a process of this worker; called by Dask in one of its threads.

    Returns
    -------
    kind : {"result", "error"}
    content : bytes
        Pickled: the result, or the error with its traceback.
    said : list
        The records from the first artifact on, which are too large for messages.
    """
    import distributed

    worker = distributed.get_worker()
    said: list = []

    def hear(records: list) -> None:
        if said or any(what == "text" for _, _, what, _ in records):
            said.extend(records)
        else:
            worker.log_event(topic, pickled((key, records)))

    with _lock:
        if compute not in _workers:
            _workers[compute] = Workers(compute, [{}] * worker.state.nthreads)
            atexit.register(_workers[compute].kill)  # else the end of this program waits for those that are idle
            threading.Thread(target=_watch, args=(worker, _workers[compute]), daemon=True).start()
        workers = _workers[compute]
    try:
        return "result", workers.run(key, fit, hear), said
    except BaseException as error:
        if isinstance(error, KilledError):
            end = time.monotonic() + GRACE  # mostly this worker is being ended too, and Dask gives the fit to another
            while time.monotonic() < end and _goes_on(worker):
                time.sleep(LOOK)
            error = KilledError(f"{socket.gethostname()}: {error}")
        return "error", pickled((error, traceback.format_exc())), said


def _watch(worker, workers: Workers) -> None:
    """End fits that nobody waits for any more, and all of them with the worker, which would wait for them."""
    while _goes_on(worker):
        for key in workers.busy:
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                workers.interrupt(key)
        time.sleep(LOOK)
    workers.kill()


def _goes_on(worker) -> bool:
    return worker.status.name not in ("closing", "closed", "closing_gracefully", "failed")
