"""Requests that come by way of a broker, such as images to be classified, and their answers."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

import numpy as np

from common.cli import UserError, masked
from common.events.broker import VERSION, Broker, Message, now, plain, until_idle

SHAPE = '{"image": [[0, 255, ...], ...]} with rows of whole numbers from 0 to 255, or of three such, red, green, blue'
"""Of a request in JSON; other keys are not looked at."""


def image_in(request: bytes) -> bytes:
    """The image file that a request is, or a PNG file of the pixels that it has under ``image``, where it is JSON.

    Raises
    ------
    UserError
        When it is JSON of another shape; the message shows what is expected.
    """
    if request.lstrip()[:1] not in (b"{", b"["):
        return request
    from common.data.decoding import as_png

    try:
        found = json.loads(request)
        pixels = np.array(found["image"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"request: expected an image file or {SHAPE}, found {request[:60]!r}") from error
    is_shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not is_shaped or not pixels.size or pixels.dtype.kind != "i" or pixels.min() < 0 or pixels.max() > 255:
        what = f"{' x '.join(map(str, pixels.shape)) or 'one'} values of type {pixels.dtype}"
        within = f", from {pixels.min()} to {pixels.max()}" if pixels.dtype.kind in "if" and pixels.size else ""
        raise UserError(f"request: image: expected {SHAPE}, found {what}{within}")
    return as_png(np.atleast_3d(pixels).astype(np.uint8).transpose(2, 0, 1))


def serve_requests(broker: Broker, handler: Callable[[bytes], dict], idle: float | None = None) -> int:
    """Answer requests, such as images to be classified, until none has come for `idle` seconds.

    Requests come from the topic ``KAFKA_REQUESTS`` or the subscription ``PUB_SUB_REQUESTS`` (default
    ``<topic>-requests``), answers go to the topic ``<topic>-predictions``, with the request's key. An answer is a JSON
    object: ``version`` (1), ``request_id``, ``time`` and ``answer`` or ``error``. The id is the header or attribute
    ``id`` of the request, or else what the broker calls it. A request is done when its answer has arrived: each is
    answered at least once, a second time with the same id.

    Parameters
    ----------
    broker : Broker
        From :func:`only_broker`.
    handler : callable
        Gets the request's bytes and returns what JSON can hold; its errors are answers too.
    idle : float, optional
        Without it, it goes on until it is interrupted.

    Returns
    -------
    int
        Requests answered.

    Raises
    ------
    UserError
        When a topic or subscription does not exist.
    """
    broker.check(broker.answers)
    n_answered = 0
    with contextlib.closing(broker.read(broker.requests, "reproai-predictions")) as messages:
        for request in until_idle(messages, idle):
            try:
                result = {"answer": plain(handler(request.value))}
            except Exception as error:  # a request that cannot be answered must not come again for ever
                name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                result = {"error": masked(f"{name}{error}")}
            value = {"version": VERSION, "request_id": request.id, "time": now(), **result}
            answer = Message(request.key, request.id, json.dumps(value).encode())
            while not broker.publish(broker.answers, [answer], lambda: True):
                time.sleep(1)
            broker.done(request)
            n_answered += 1
    return n_answered
