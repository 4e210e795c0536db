"""Google Cloud Pub/Sub as a broker of events, by way of google-cloud-pubsub."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.cli import UserError
from common.events.broker import GoOn, Message, settings

CHECK = 3.0
"""Seconds to wait for an answer at the start."""
ANSWER = 5.0
"""Seconds to wait for an answer later."""
PAUSE = 0.5
"""Seconds between two tries."""


class PubSub:
    """The topic ``PUB_SUB_TOPIC`` of ``PUB_SUB_PROJECT``; see :class:`common.events.broker.Broker`.

    The order is kept per key (Pub/Sub's ordering key), where the subscription keeps it. Events are read from the
    subscription ``PUB_SUB_SUBSCRIPTION``, requests from the subscription ``PUB_SUB_REQUESTS`` (default
    ``<PUB_SUB_TOPIC>-requests``); answers go to the topic ``<PUB_SUB_TOPIC>-predictions``.

    Parameters
    ----------
    project, topic : str
    subscription, requests : str, optional
    emulator : str, optional
        ``host:port`` of an emulator, which asks for no credentials.

    Raises
    ------
    UserError
        When google-cloud-pubsub is not installed.
    """

    name = "pubsub"

    def __init__(
        self,
        project: str,
        topic: str,
        subscription: str | None = None,
        requests: str | None = None,
        emulator: str | None = None,
    ):
        try:
            from google import pubsub_v1
            from google.api_core import exceptions
        except ImportError as error:
            raise UserError("PUB_SUB_TOPIC: events to Pub/Sub need pip install 'reproai[pubsub]'") from error
        self._library, self._exceptions = pubsub_v1, exceptions
        self._emulator = emulator
        self._publisher = self._subscriber = None
        self._project = project
        self.topic, self.events = topic, subscription
        self.where = f"{emulator or 'Google Cloud'}, project {project}, topic {topic}"
        self.requests, self.answers = requests or f"{topic}-requests", f"{topic}-predictions"
        self.problem = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> PubSub | None:
        """The broker that the environment names; None when it names none.

        ``GOOGLE_APPLICATION_CREDENTIALS`` is needed too, unless ``PUBSUB_EMULATOR_HOST`` is set. It is Google's own
        library that reads it, from this process's environment.

        Raises
        ------
        UserError
            When a variable is missing, or there are no credentials.
        """
        names = ("PUB_SUB_PROJECT", "PUB_SUB_TOPIC")
        found = settings(environ, names, ("PUB_SUB_SUBSCRIPTION", "PUB_SUB_REQUESTS"))
        if found is None:
            return None
        emulator = environ.get("PUBSUB_EMULATOR_HOST", "").strip() or None
        key = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "").strip()
        if emulator is None and not Path(key).is_file():
            problem = f"no such file as {key}" if key else "not set, while PUB_SUB_TOPIC is"
            raise UserError(f"GOOGLE_APPLICATION_CREDENTIALS: {problem}; expected the file of a Google Cloud key")
        options = [found.get(name) for name in ("PUB_SUB_SUBSCRIPTION", "PUB_SUB_REQUESTS")]
        return cls(*(found[name] for name in names), *options, emulator)

    def check(self, *topics: str) -> None:
        """See :meth:`common.events.broker.Broker.check`."""
        for topic in topics:
            try:
                self._open("publisher").get_topic(topic=self._topic_path(topic), retry=None, timeout=CHECK)
            except (self._exceptions.NotFound, self._exceptions.InvalidArgument) as error:
                raise UserError(
                    f"{self.name} at {self.where}: there is no topic {topic}; make it, or name another"
                ) from error
            except self._exceptions.PermissionDenied:  # who may only publish may not ask
                pass
            except self._exceptions.GoogleAPIError as error:
                self._failed("publisher", error)

    def publish(self, topic: str, messages: Sequence[Message], go_on: GoOn) -> int:
        """See :meth:`common.events.broker.Broker.publish`."""
        path = self._topic_path(topic)
        batch = [{"data": m.value, "ordering_key": m.key, "attributes": {"id": m.id}} for m in messages]
        while True:  # one request at a time, so nothing overtakes what is tried again
            try:
                self._open("publisher").publish(topic=path, messages=batch, retry=None, timeout=ANSWER)
                return len(messages)
            except self._exceptions.GoogleAPIError as error:
                self._failed("publisher", error)
            if not go_on():
                return 0
            time.sleep(PAUSE)

    def read(self, source: str, group: str | None = None, from_start: bool = False) -> Iterator[Message | None]:
        """See :meth:`common.events.broker.Broker.read`; subscriptions are groups, and begin where they stand."""
        path = f"projects/{self._project}/subscriptions/{source}"
        while True:
            try:
                request = {"subscription": path, "max_messages": 10}
                found = self._open("subscriber").pull(request=request, retry=None, timeout=ANSWER).received_messages
            except self._exceptions.NotFound as error:
                raise UserError(f"{self.name} at {self.where}: there is no subscription {source}") from error
            except self._exceptions.DeadlineExceeded:  # nothing came
                found = []
            except self._exceptions.GoogleAPIError as error:
                self._failed("subscriber", error)
                found = []
                time.sleep(PAUSE)
            for got in found:
                name = got.message.attributes.get("id", got.message.message_id)
                yield Message(got.message.ordering_key, name, got.message.data, (path, got.ack_id))
            if not found:
                yield None

    def done(self, message: Message) -> None:
        """See :meth:`common.events.broker.Broker.done`."""
        path, ack_id = message.handle
        try:
            request = {"subscription": path, "ack_ids": [ack_id]}
            self._open("subscriber").acknowledge(request=request, retry=None, timeout=ANSWER)
        except self._exceptions.GoogleAPIError as error:  # it will come again
            self._failed("subscriber", error)

    def _topic_path(self, topic: str) -> str:
        return f"projects/{self._project}/topics/{topic}"

    def _open(self, kind: str):
        client = getattr(self, f"_{kind}")
        if client is None:
            of = {"publisher": self._library.PublisherClient, "subscriber": self._library.SubscriberClient}[kind]
            client = of(transport=self._transport(of)) if self._emulator else of(credentials=self._credentials())
            setattr(self, f"_{kind}", client)
        return client

    def _transport(self, client):
        import grpc

        channel = grpc.insecure_channel(self._emulator, [("grpc.use_local_subchannel_pool", 1)])
        return client.get_transport_class("grpc")(channel=channel)

    def _credentials(self):
        from google import auth

        try:
            return auth.default()[0]
        except (auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
            raise UserError(f"GOOGLE_APPLICATION_CREDENTIALS: not a usable key ({error})".splitlines()[0]) from error

    def _failed(self, kind: str, error: Exception) -> None:
        """The next try begins with a new connection: an old one would wait, in the end for minutes."""
        self.problem = (str(error) or type(error).__name__).splitlines()[0]
        client = getattr(self, f"_{kind}")
        if client is not None:
            client.transport.close()
            setattr(self, f"_{kind}", None)
