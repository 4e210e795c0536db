"""Messages about training, sent to Kafka and Google Pub/Sub as it goes on.

An event is a JSON object: ``version`` (1), ``id`` (the same when it comes twice), ``kind``, ``run_id``, ``sequence``
(from 0, per run), ``time`` (ISO 8601, UTC) and ``payload``; ``docs/messages.md`` shows one of each kind.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping, Sequence

from common.cli import UserError
from common.events.broker import VERSION, Broker, now, plain
from common.events.delivery import Delivery
from common.events.kafka import Kafka
from common.events.pubsub import PubSub
from common.events.spool import Spool, append

KINDS = ("run_started", "epoch", "model_saved", "run_ended")


class Events:
    """Sends events of training to some brokers; a context manager. Without brokers it does nothing.

    Sending never waits for a broker: an event is on disk, under ``cache/events/``, when :meth:`send` returns, and a
    thread brings it to the brokers. While one is away, events wait there; the next process sends what is left.
    Each arrives at least once, and those of a run in order.

    Parameters
    ----------
    brokers : sequence of Broker
    deliver : bool
        False in a worker, whose parent has Events of its own that bring these to the brokers too; there the brokers'
        names are enough.
    """

    def __init__(self, brokers: Sequence[Broker | str], deliver: bool = True):
        self.names = tuple(broker if isinstance(broker, str) else broker.name for broker in brokers)
        self._spools = [Spool(name) for name in self.names]
        pairs = zip(brokers, self._spools, strict=True) if deliver else []
        self._deliveries = [Delivery(broker, spool) for broker, spool in pairs]
        self._has_failed = False
        for delivery in self._deliveries:
            delivery.start()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, kind: str, run_id: str, about: str | None = None, /, **payload: object) -> None:
        """Send an event, soon; it survives this process from now on.

        Parameters
        ----------
        kind : str
            ``run_started``, ``epoch``, ``model_saved`` or ``run_ended``; after ``run_ended`` with ``status="FINISHED"``
            the run has no further events.
        run_id : str
        about : str, optional
            Two events about the same thing have the same id; without it each has its own.
        payload : numbers, texts, lists and dicts
            Numbers that are not finite become null, other objects their text.
        """
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
        if not self._spools:
            return
        event = {
            "version": VERSION,
            "id": str(uuid.uuid4() if about is None else uuid.uuid5(uuid.NAMESPACE_OID, about)),
            "kind": kind,
            "run_id": run_id,
            "payload": plain(payload),
        }
        is_last = kind == "run_ended" and payload.get("status") == "FINISHED"
        try:
            append(self._spools, run_id, lambda number: {**event, "sequence": number, "time": now()}, is_last)
        except (OSError, ValueError) as error:  # a full disk ends training elsewhere, not here
            if not self._has_failed:
                print(f"events are left out: {error}", file=sys.stderr)
            self._has_failed = True
        for delivery in self._deliveries:
            delivery.wake()

    def close(self) -> None:
        """Wait while events arrive, and seconds at most for a broker that is away; the rest stays on disk."""
        have_arrived = [delivery.close() for delivery in self._deliveries]
        for spool, all_have in zip(self._spools, have_arrived, strict=False):
            if not all_have and spool.waiting():
                print(f"some events have not arrived; they wait in {spool.folder} for the next run", file=sys.stderr)


def open(environ: Mapping[str, str] | None = None, deliver: bool = True) -> Events:
    """Events to the brokers that the environment names: ``with events.open() as log: log.send("epoch", run_id, ...)``.

    ``KAFKA_HOST`` (host:port) and ``KAFKA_TOPIC`` name Kafka; ``PUB_SUB_PROJECT`` and ``PUB_SUB_TOPIC``, with
    ``GOOGLE_APPLICATION_CREDENTIALS`` or ``PUBSUB_EMULATOR_HOST``, name Google Pub/Sub. Without them nothing is sent.

    Raises
    ------
    UserError
        When only some variables of a broker are set, its library is not installed, or it answers that there is no such
        topic. One that does not answer is no error.
    """
    found = brokers(environ)
    for broker in found if deliver else []:
        broker.check(broker.topic)
    return Events(found, deliver)


def brokers(environ: Mapping[str, str] | None = None) -> list[Broker]:
    """The brokers that the environment names; raises as :func:`open` does."""
    environ = os.environ if environ is None else environ
    return [broker for broker in (Kafka.of(environ), PubSub.of(environ)) if broker is not None]


def only_broker(name: str | None = None, environ: Mapping[str, str] | None = None) -> Broker:
    """The broker that the environment names, or the one of this name.

    Raises
    ------
    UserError
        When there is none, or more than one; and as :func:`open` does.
    """
    found = [broker for broker in brokers(environ) if name in (None, broker.name)]
    if len(found) != 1:
        expected = {"kafka": "KAFKA_HOST and KAFKA_TOPIC", "pubsub": "PUB_SUB_PROJECT and PUB_SUB_TOPIC"}
        wanted = expected.get(name or "", " or ".join(expected.values()))
        raise UserError("--broker: expected kafka or pubsub, both are set" if found else f"no broker: set {wanted}")
    return found[0]
