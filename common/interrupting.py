"""Ctrl-C and SIGTERM: exceptions that are not lost, and that do not tear apart what must stay whole."""

from __future__ import annotations

import _thread
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

PAUSE = 0.02
"""Seconds from one try to the next."""
PATIENCE = 3.0
"""Seconds for which what is being imported may take to its end."""

_begins = False
"""Whether a script has not come to :func:`common.cli.run` yet."""
_since: dict[int, float] = {}
"""When those came that come again, in seconds."""


class Terminated(SystemExit):
    """SIGTERM has come; the exit code is 143."""


def raise_signals() -> None:
    """Have SIGTERM raise :class:`Terminated` and Ctrl-C KeyboardInterrupt, unless it is ignored, until they are heard.

    Python drops what is raised where nothing can catch it, such as in a ``__del__``: then it is raised again.
    """
    global _begins
    _begins = False
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = _raise_again
    for number in tuple(_since):  # those that came before
        signal.raise_signal(number)


def raise_signals_of_command() -> None:
    """The same, but put off, while a script of a step, or ``python -m common...``, comes to :func:`common.cli.run`."""
    global _begins
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    is_module = sys.argv[:1] == ["-m"] and any(word.startswith("common.") for word in sys.orig_argv)
    if is_module or (script and _project_of(script) == _project_of(__file__)):
        raise_signals()
        _begins = True


def let_signals_end() -> None:
    """Have both end this process at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) in (interrupt, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that raises, once :func:`put_off` lets it."""
    if not put_off(number, frame):
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(143)


def put_off(number: int, frame: FrameType | None) -> bool:
    """Whether a signal comes again, as this thread imports or begins: until that has ended, or for :data:`PATIENCE`.

    An exception there may be taken for a lack of what is imported; or it leaves Python's lock of all imports to this
    thread for good, so that whatever another thread imports waits for ever.
    """
    if (_begins or _is_importing(frame)) and time.monotonic() < _since.get(number, math.inf) + PATIENCE:
        _send_again(number)
        return True
    _since.pop(number, None)
    return False


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    if held:
        signal.raise_signal(held[0])


def _project_of(file: str) -> str:
    return os.path.dirname(os.path.dirname(os.path.realpath(file)))


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _send_again(number: int) -> None:
    def send() -> None:
        time.sleep(PAUSE)
        while number in _since and callable(signal.getsignal(number)):  # else it was raised, or the work is done
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            time.sleep(PAUSE)

    if number not in _since:
        _since[number] = time.monotonic()
        _thread.start_new_thread(send, ())  # threading's own waits for locks that the interrupted code may hold


def _raise_again(lost: Any) -> None:
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        if lost.exc_type is kind:
            _send_again(number)
            return
    sys.__unraisablehook__(lost)
