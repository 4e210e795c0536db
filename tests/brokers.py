"""Brokers for tests, on this machine: a Kafka cluster and a Pub/Sub server that can be taken away and come back."""

import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from google import pubsub_v1
from google.protobuf import empty_pb2

from conftest import PROJECT

MOCK = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
for topic in sys.argv[1:]:
    producer.list_topics(topic, timeout=10)  # makes it
(broker,) = producer.list_topics(timeout=10).brokers.values()
print(broker.port, flush=True)
sys.stdin.read()
"""


def documented(key):
    """The examples in docs/messages.md that have a key."""
    text = (PROJECT / "docs" / "messages.md").read_text()
    examples = [json.loads(example) for example in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    return [example for example in examples if key in example]


def check_shape(found, example):
    """The keys of a documented message are in a real one, with values of the same types; outside they are all."""
    assert found.keys() == example.keys()
    for name, value in example.items():
        assert type(found[name]) is type(value), name
        for key in value if isinstance(value, dict) else ():
            assert type(found[name][key]) is type(value[key]), key


class Kafka:
    """librdkafka's mock cluster in a process of its own, behind a proxy that can be cut.

    The cluster tells clients its own address; the proxy puts its port in there instead, so nothing goes past it. The
    cluster keeps its messages while the proxy is cut, as a broker does that comes back with its disk.
    """

    def __init__(self, *topics):
        self._process = subprocess.Popen(
            [sys.executable, "-c", MOCK, *topics], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.inner = int(self._process.stdout.readline())
        self._listener, self._sockets = None, set()
        self.port = 0
        self.restore()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def restore(self):
        """Listen, on the same port as before."""
        self.swallows_answers, self.n_swallowed = False, 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self):
        """End all connections, and refuse new ones."""
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def close(self):
        self.cut()
        self._process.communicate()

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.inner))
                self._sockets |= {client, server}
                publishing = set()
                for pump, pair in [(self._ask, (client, server)), (self._answer, (server, client))]:
                    threading.Thread(target=pump, args=(*pair, publishing), daemon=True).start()

    def _ask(self, client, server, publishing):
        for frame in _frames(client):
            if frame[4:6] == b"\0\0":  # the kind of request: Produce
                publishing.add(frame[8:12])  # its number, which the answer begins with
            with suppress(OSError):
                server.sendall(frame)
        self._end(client, server)

    def _answer(self, server, client, publishing):
        own, shown = (b"127.0.0.1" + struct.pack(">i", port) for port in (self.inner, self.port))
        for frame in _frames(server):
            if self.swallows_answers:
                self.n_swallowed += frame[4:8] in publishing
                continue
            with suppress(OSError):
                client.sendall(frame.replace(own, shown))
        self._end(client, server)

    def _end(self, *pair):
        for each in pair:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def messages(self, topic):
        """(key, value, headers) of all messages, in the order of each partition."""
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.inner}", "group.id": "test", "log_level": 0})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        found = []
        for number in partitions:
            place = TopicPartition(topic, number, OFFSET_BEGINNING)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            for _ in range(end):
                got = consumer.poll(10)
                assert got is not None and not got.error(), got and got.error()
                found.append(((got.key() or b"").decode(), got.value(), dict(got.headers() or [])))
        consumer.close()
        return found

    def ask(self, topic, *requests):
        """Publish (key, value, id) messages."""
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{self.inner}", "log_level": 0})
        for key, value, name in requests:
            producer.produce(topic, value, key, headers={"id": name})
        assert producer.flush(10) == 0


def _frames(connection):
    """Kafka's requests or answers: four bytes with the length, and what follows."""
    with suppress(OSError), connection.makefile("rb") as file:
        while len(size := file.read(4)) == 4:
            yield size + file.read(*struct.unpack(">i", size))


class PubSub:
    """The part of Pub/Sub that the project uses, served by gRPC to Google's own client."""

    def __init__(self, *topics, subscriptions=()):
        self.topics = {f"projects/p/topics/{name}": [] for name in topics}
        self._subscriptions = {
            f"projects/p/subscriptions/{name}": f"projects/p/topics/{t}" for name, t in subscriptions
        }
        self._taken = {}
        self._lock = threading.Lock()
        self.port = 0
        self.restore()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def restore(self):
        """Serve, on the same port as before, with the messages that were there."""
        self.swallows_answers, self.n_swallowed = False, 0
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        methods = {
            "Publisher": {
                "Publish": (self._publish, pubsub_v1.PublishRequest, pubsub_v1.PublishResponse.serialize),
                "GetTopic": (self._get_topic, pubsub_v1.GetTopicRequest, pubsub_v1.Topic.serialize),
            },
            "Subscriber": {
                "Pull": (self._pull, pubsub_v1.PullRequest, pubsub_v1.PullResponse.serialize),
                "Acknowledge": (self._acknowledge, pubsub_v1.AcknowledgeRequest, empty_pb2.Empty.SerializeToString),
            },
        }
        for service, of in methods.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(call, request.deserialize, serialize)
                for name, (call, request, serialize) in of.items()
            }
            handler = grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers)
            self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def cut(self):
        """Stop the server, in the middle of what it does."""
        self._server.stop(0).wait()

    close = cut

    def messages(self, topic):
        """(key, value, attributes) of all messages, in their order."""
        found = self.topics[f"projects/p/topics/{topic}"]
        return [(m.ordering_key, m.data, dict(m.attributes)) for m in list(found)]

    def ask(self, topic, *requests):
        """Publish (key, value, id) messages."""
        messages = [pubsub_v1.PubsubMessage(data=v, ordering_key=key, attributes={"id": i}) for key, v, i in requests]
        self._store(f"projects/p/topics/{topic}", messages)

    def _store(self, topic, messages):
        with self._lock:
            for message in messages:
                message.message_id = str(len(self.topics[topic]))
                self.topics[topic].append(message)

    def _publish(self, request, context):
        if request.topic not in self.topics:
            context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")
        self._store(request.topic, request.messages)
        if self.swallows_answers:
            self.n_swallowed += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return pubsub_v1.PublishResponse(message_ids=[m.message_id for m in request.messages])

    def _get_topic(self, request, context):
        if request.topic not in self.topics:
            context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")
        return pubsub_v1.Topic(name=request.topic)

    def _pull(self, request, context):
        if request.subscription not in self._subscriptions:
            context.abort(grpc.StatusCode.NOT_FOUND, "Subscription not found")
        messages = self.topics[self._subscriptions[request.subscription]]
        now, found = time.monotonic(), []
        with self._lock:
            for number, message in enumerate(messages):
                name = f"{request.subscription}/{number}"
                if self._taken.get(name, 0) < now and len(found) < request.max_messages:
                    self._taken[name] = now + 1
                    found.append(pubsub_v1.ReceivedMessage(ack_id=name, message=message))
        if not found:
            time.sleep(0.2)
        return pubsub_v1.PullResponse(received_messages=found)

    def _acknowledge(self, request, context):
        self._taken |= dict.fromkeys(request.ack_ids, float("inf"))
        return empty_pb2.Empty()


def start(name):
    """A broker, ``kafka`` or ``pubsub``, with its name and the variables that name it."""
    topics = ("training", "training-requests", "training-predictions")
    if name == "kafka":
        broker = Kafka(*topics)
        broker.environ = {"KAFKA_HOST": broker.address, "KAFKA_TOPIC": "training"}
    else:
        subscriptions = [("watch", "training"), ("training-requests", "training-requests")]
        broker = PubSub(*topics, subscriptions=subscriptions)
        broker.environ = {"PUB_SUB_PROJECT": "p", "PUB_SUB_TOPIC": "training", "PUB_SUB_SUBSCRIPTION": "watch"}
        broker.environ["PUBSUB_EMULATOR_HOST"] = broker.address
    broker.name = name
    return broker
