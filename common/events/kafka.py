"""Apache Kafka as a broker of events, by way of confluent-kafka."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

from common.cli import UserError
from common.events.broker import GoOn, Message, settings

CHECK = 3.0
"""Seconds to wait for an answer at the start."""
PAUSE = 0.5
"""Seconds between two looks."""
JOIN = 10.0
"""Seconds that joining a group may take, before having no messages counts."""
COMMON = {"log_level": 0, "socket.timeout.ms": 10_000, "reconnect.backoff.max.ms": 1000}


class Kafka:
    """The cluster and topic that ``KAFKA_HOST`` and ``KAFKA_TOPIC`` name; see :class:`common.events.broker.Broker`.

    Requests come from the topic ``KAFKA_REQUESTS`` (default ``<KAFKA_TOPIC>-requests``), answers go to
    ``<KAFKA_TOPIC>-predictions``.

    Parameters
    ----------
    host : str
        ``host:port``, or several with commas between.
    topic : str
    requests : str, optional

    Raises
    ------
    UserError
        When confluent-kafka is not installed.
    """

    name = "kafka"

    def __init__(self, host: str, topic: str, requests: str | None = None):
        try:
            import confluent_kafka
        except ImportError as error:
            raise UserError("KAFKA_HOST: events to Kafka need pip install 'reproai[kafka]'") from error
        self._library = confluent_kafka
        self._config = {"bootstrap.servers": host, **COMMON}
        self._producer = self._consumer = None
        self._is_in_group = False
        self.host = host
        self.topic = self.events = topic
        self.where = f"{host}, topic {topic}"
        self.requests, self.answers = requests or f"{topic}-requests", f"{topic}-predictions"
        self.problem = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Kafka | None:
        """The broker that the environment names; None when it names none.

        Raises
        ------
        UserError
            When a variable is missing or is no address.
        """
        found = settings(environ, ("KAFKA_HOST", "KAFKA_TOPIC"), ("KAFKA_REQUESTS",))
        if found is None:
            return None
        if not re.fullmatch(r"[^\s,]+:\d{1,5}(,[^\s,]+:\d{1,5})*", found["KAFKA_HOST"]):
            raise UserError(f"KAFKA_HOST: expected host:port, found {found['KAFKA_HOST']!r}")
        return cls(found["KAFKA_HOST"], found["KAFKA_TOPIC"], found.get("KAFKA_REQUESTS"))

    def check(self, *topics: str) -> None:
        """See :meth:`common.events.broker.Broker.check`."""
        if not any(_answers(address) for address in self.host.split(",")):  # librdkafka would go on trying
            return
        try:
            there = self._open_producer().list_topics(timeout=CHECK).topics
        except self._library.KafkaException:
            return
        for topic in topics:
            if topic not in there:
                raise self._no_topic(topic)

    def _no_topic(self, topic: str) -> UserError:
        return UserError(f"{self.name} at {self.host}: there is no topic {topic}; make it, or name another")

    def publish(self, topic: str, messages: Sequence[Message], go_on: GoOn) -> int:
        """See :meth:`common.events.broker.Broker.publish`."""
        arrived, failed = set(), []

        def note(number: int):
            return lambda error, _: failed.append(error) if error else arrived.add(number)

        producer = self._open_producer()
        try:
            for number, message in enumerate(messages):
                headers = {"id": message.id}
                producer.produce(topic, message.value, message.key, headers=headers, on_delivery=note(number))
            while producer.flush(PAUSE) and not failed and go_on():
                pass
        except self._library.KafkaException as error:
            failed.append(error.args[0])
        if len(arrived) < len(messages):  # what is still on its way would overtake what is sent again
            self._producer = None
            producer.purge()
            producer.flush(PAUSE)
        if failed:
            self.problem = _text(failed[0])
        return next((number for number in range(len(messages)) if number not in arrived), len(messages))

    def _open_producer(self):
        if self._producer is None:
            # One request at a time, tried again for ever: so nothing overtakes what is tried again.
            keeps_order = {"acks": "all", "max.in.flight": 1, "message.timeout.ms": 0}
            self._producer = self._library.Producer({**self._config, **keeps_order, "error_cb": self._note_problem})
        return self._producer

    def read(self, source: str, group: str | None = None, from_start: bool = False) -> Iterator[Message | None]:
        """See :meth:`common.events.broker.Broker.read`."""
        kafka = self._library
        offsets = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 10_000}
        consumer = kafka.Consumer(
            {**self._config, **offsets, "group.id": group or "none", "error_cb": self._note_problem}
        )
        self._consumer, self._is_in_group = consumer, group is not None
        joined: list[bool] = []
        try:
            try:
                partitions = consumer.list_topics(source, timeout=CHECK).topics[source].partitions
                if not partitions:
                    raise self._no_topic(source)
            except kafka.KafkaException as error:
                if group is None:
                    raise UserError(f"{self.name} at {self.where}: {_text(error.args[0])}") from error
            if group is None:
                start = kafka.OFFSET_BEGINNING if from_start else kafka.OFFSET_END
                consumer.assign([kafka.TopicPartition(source, number, start) for number in partitions])
            else:
                consumer.subscribe([source], on_assign=lambda *_: joined.append(True))
            patience = time.monotonic() + JOIN
            while True:
                got = consumer.poll(PAUSE)
                if got is None and group and not joined and time.monotonic() < patience:
                    continue
                if got is None or got.error():
                    self.problem = _text(got.error()) if got else self.problem
                    yield None
                    continue
                key = (got.key() or b"").decode(errors="replace")
                headers = {name: value for name, value in got.headers() or [] if value is not None}
                place = f"{got.topic()}/{got.partition()}/{got.offset()}"
                yield Message(key, headers.get("id", place.encode()).decode(errors="replace"), got.value() or b"", got)
        finally:
            self._consumer = None
            consumer.close()

    def done(self, message: Message) -> None:
        """See :meth:`common.events.broker.Broker.done`."""
        if not self._is_in_group:
            return
        try:
            self._consumer.commit(message.handle, asynchronous=False)
        except self._library.KafkaException as error:  # it will come again
            self.problem = _text(error.args[0])

    def _note_problem(self, error) -> None:
        self.problem = _text(error)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CHECK).close()
    except (OSError, OverflowError):
        return False
    return True


def _text(error) -> str:
    return str(error.str()).splitlines()[0]
