"""A process that computes fits, one at a time; it can be interrupted in the middle of one, and says how far it is."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import cloudpickle

from common import cli
from common.cli import KilledError, UserError
from common.interrupting import put_off
from common.training import servers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


Hear = Callable[[list], object]

_busy = _interrupted = False


class Worker:
    """A process for fits, started with the first; after an interruption the next fit gets a new one.

    Parameters
    ----------
    compute : bytes, optional
        A pickled :class:`common.training.Compute`, applied in the process.
    environment : dict
        Variables that differ from those of this process.
    """

    def __init__(self, compute: bytes | None, environment: dict[str, str]):
        self.compute = compute
        self.environment = environment
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, fit: bytes, hear: Hear) -> bytes:
        """What a pickled function returns, pickled; `hear` gets the records that it says on the way.

        The process has been started.

        Raises
        ------
        KilledError
            When the process is ended from outside.
        Exception
            What the function raised.
        """
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(fit)
            while True:
                kind, content = cloudpickle.loads(self._pipe.recv_bytes())
                if kind == "records":
                    hear(content)
                    continue
                break
        except (EOFError, ConnectionError):
            raise KilledError(
                f"a process of this run ended in the middle of its work ({self._how_it_ended()}), perhaps killed "
                "because memory ran out; the same command goes on from here"
            ) from None
        except BaseException:
            self.interrupt()
            self.close()
            raise
        if kind == "error":
            error, text = cloudpickle.loads(content)
            raise error from _InWorker(text)
        return content

    def start(self) -> None:
        """Start the process, unless there is one."""
        if self._process is not None:
            return
        context = servers.context()
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.compute, {**os.environ, **self.environment})
        process = context.Process(target=_serve, args=arguments, name="fits")
        process.start()
        self._process = process
        theirs.close()

    def _how_it_ended(self) -> str:
        process, self._process = self._process, None
        process.join()
        code = process.exitcode
        if code == 255:  # the server from which it was forked was killed, too
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return "with its server" if code == 255 else f"signal {-code}" if code < 0 else f"exit code {code}"

    def interrupt(self) -> None:
        """End the process in the middle of its work, with what is open closed in peace."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process after its work."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join()
            self._process = None


class _InWorker(Exception):
    """The traceback of a worker, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class _Pickler(cloudpickle.Pickler):
    """Tensors of a GPU are sent as those of the CPU: whoever gets them may have no GPU, or another one."""

    def reducer_override(self, value: Any):
        tensor = getattr(sys.modules.get("torch"), "Tensor", None)  # none where another thread is importing it
        if tensor and type(value) is tensor and value.device.type != "cpu":
            return value.detach().cpu().__reduce_ex__(self.proto)
        return super().reducer_override(value)


class Workers:
    """Workers side by side, each for one fit at a time; a fit is known by its key.

    Parameters
    ----------
    compute : bytes, optional
        A pickled :class:`common.training.Compute`.
    environments : list of dict
        For each worker the variables that are its own.
    """

    def __init__(self, compute: bytes | None, environments: list[dict[str, str]]):
        self._all = [Worker(compute, {"TQDM_DISABLE": "1", **own}) for own in environments]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # who has worked is warm
        for worker in reversed(self._all):
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._busy: dict[str, Worker] = {}
        self._interrupted: set[str] = set()

    def run(self, key: str, fit: bytes, hear: Hear) -> bytes:
        """As :meth:`Worker.run`, by a worker that is idle; KeyboardInterrupt when it was interrupted."""
        worker = self._idle.get()
        try:
            worker.start()
            with self._lock:
                if key in self._interrupted:
                    raise KeyboardInterrupt
                self._busy[key] = worker
            return worker.run(fit, hear)
        finally:
            with self._lock:
                self._busy.pop(key, None)
            if key in self._interrupted:
                worker.close()
            self._idle.put(worker)

    def interrupt(self, key: str) -> None:
        """End a fit, also one that has not begun."""
        with self._lock:
            self._interrupted.add(key)
            if key in self._busy:
                self._busy[key].interrupt()

    @property
    def busy(self) -> list[str]:
        """The keys of the fits that are computed now."""
        return list(self._busy)

    def close(self) -> None:
        """End the workers, which are idle."""
        for worker in self._all:
            worker.close()

    def kill(self) -> None:
        """End the workers in the middle of their work."""
        for worker in self._all:
            worker.kill()


def pickled(value: object) -> bytes:
    """As bytes, for another process or machine: what a script defines by value, what it imports by name."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _serve(pipe: Connection, compute: bytes | None, environment: dict[str, str]) -> None:
    """Compute what comes until nothing more can come."""
    gc.freeze()  # what the server has imported stays, in pages that its processes share
    gc.enable()
    os.environ.clear()
    os.environ.update(environment)
    cli.keep_going_without_reader()
    signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the server has it blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from common.tracking import records

    problem = compute and cloudpickle.loads(compute).apply_elsewhere()
    records.hear(lambda said: pipe.send_bytes(cloudpickle.dumps(("records", said))))
    with suppress(EOFError, OSError):
        while True:
            fit = pipe.recv_bytes()
            try:
                answer = ("error", pickled((UserError(problem), ""))) if problem else _answer(fit)
            except KeyboardInterrupt as error:  # while an error was being put into words
                answer = "error", pickled((error, ""))
            pipe.send_bytes(cloudpickle.dumps(answer))


def _answer(fit: bytes) -> tuple[str, bytes]:
    global _busy
    _busy = True
    try:
        if _interrupted:
            raise KeyboardInterrupt
        return "result", pickled(cloudpickle.loads(fit)())
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        try:
            return "error", pickled((error, text))
        except Exception:  # of foreign code
            return "error", pickled((RuntimeError(f"{type(error).__name__}: {error}"), text))
    finally:
        _busy = False


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Interrupt this process's work, once, so that what is open is closed in peace; nothing more is started."""
    global _interrupted
    _interrupted = True
    if _busy and put_off(signal_number, frame):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _busy:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
