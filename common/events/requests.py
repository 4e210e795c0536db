"""Requests that come by way of a broker, such as images to be classified, and their answers."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

from common.cli import UserError, masked
from common.events.broker import VERSION, Broker, Message, now, plain, until_idle


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
