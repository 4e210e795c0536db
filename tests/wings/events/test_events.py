"""Messages to brokers: none lost and their order kept, whatever happens to the broker or to the process."""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import brokers
import pytest

from common.cli import UserError
from common.events import delivery, sending as events, spool
from common.events.__main__ import main
from common.events.broker import idle_time
from common.events.requests import serve_requests
from conftest import PROJECT

GOOGLE = {"PUB_SUB_TOPIC": "x", "PUB_SUB_PROJECT": "p"}
KEY = "GOOGLE_APPLICATION_CREDENTIALS"
KAFKA, PUBSUB = (pytest.param(name, marks=pytest.mark.slow) for name in ("kafka", "pubsub"))
KAFKA_IS_SLOW = pytest.mark.parametrize("broker", [KAFKA, "pubsub"], indirect=True)
PUBSUB_IS_SLOW = pytest.mark.parametrize("broker", ["kafka", PUBSUB], indirect=True)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty spool."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path / "cache" / "events"


@pytest.fixture(params=["kafka", "pubsub"])
def broker(request):
    with closing(brokers.start(request.param)) as broker:
        yield broker


def arrived(broker):
    """The payloads' numbers per run, in their order, after duplicates are left out; all other promises are checked."""
    by_id, runs = {}, {}
    for key, value, headers in broker.messages("training"):
        event = json.loads(value)
        name = headers["id"].decode() if isinstance(headers["id"], bytes) else headers["id"]
        assert (event["version"], event["run_id"], event["id"]) == (1, key, name)
        if event["id"] in by_id:
            assert by_id[event["id"]] == event, "an id that came twice with other content"
            continue
        by_id[event["id"]] = event
        runs.setdefault(key, []).append(event)
    for found in runs.values():
        numbers = [event["sequence"] for event in found]
        assert numbers == sorted(set(numbers)), "the order, or a number that was given twice"
    return {run: [event["payload"]["n"] for event in found] for run, found in runs.items()}


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


@KAFKA_IS_SLOW
def test_a_broker_that_is_killed_and_back_in_mid_run_gets_all_of_500_events_in_order(broker, home, capfd):
    sent = {f"run-{i}": [] for i in range(5)}
    with events.open(broker.environ) as log:
        for n in range(500):
            run_id = f"run-{n * 7 % 5}"
            log.send("epoch", run_id, n=n, dev_loss=1 / (n + 1))
            sent[run_id].append(n)
            if n in (100, 270):
                wait_until(lambda: broker.messages("training"))
                broker.swallows_answers = True  # what arrives now will be sent again
            elif n in (140, 310):
                wait_until(lambda: broker.n_swallowed)
                broker.cut()
            elif n in (220, 450):
                broker.restore()
    assert arrived(broker) == sent
    assert len(broker.messages("training")) > 500, "no answer was lost, so nothing was tried"
    assert "not arrived" not in capfd.readouterr().err
    assert (home / broker.name / "events.jsonl").stat().st_size == 0


def test_what_a_broker_that_stays_away_has_not_got_is_sent_by_the_next_run_with_numbers_that_go_on(broker, capfd):
    broker.cut()
    with events.open(broker.environ) as log:
        for n in range(20):
            log.send("epoch", "run", n=n)
    assert f"{broker.name} at " in (said := capfd.readouterr().err) and "they wait in" in said
    broker.restore()
    with events.open(broker.environ) as log:
        log.send("run_ended", "run", n=20, status="KILLED")
    assert arrived(broker) == {"run": list(range(21))}
    sequences = [json.loads(value)["sequence"] for _, value, _ in broker.messages("training")]
    assert sequences == list(range(21)) and capfd.readouterr().err == ""


SENDER = """
import sys, time
from common.events import delivery, sending as events
start, stop = map(int, sys.argv[2:4])
delivery.PATIENCE = float(sys.argv[4])
with events.open() as log:
    for n in range(start, stop):
        for run_id in sys.argv[1].split(","):
            log.send("epoch", run_id, n=n)
        print(n, flush=True)
        time.sleep(0.002)
    print("closing", flush=True)
"""


def sender(broker, home, runs, start, stop, patience=2):
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, runs, str(start), str(stop), str(patience)],
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "REPROAI_STATE": str(home.parent.parent), **broker.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@PUBSUB_IS_SLOW
def test_events_of_processes_that_are_killed_are_sent_by_the_next_one(broker, home):
    start, random_moment, restarts = 0, random.Random(0), set()
    for is_away in (False, True, False):
        process = sender(broker, home, "a,b", start, 10_000)
        last = start + random_moment.randrange(30, 90)
        for line in process.stdout:
            if int(line) == start + 20 and is_away:
                broker.cut()
            if int(line) == last:
                process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        start = int(line) + 1
        restarts.add(start)  # may have been kept just before the kill, and is sent again, as an event of its own
        if is_away:
            broker.restore()
    with events.open(broker.environ):
        pass
    found = arrived(broker)
    assert found.keys() == {"a", "b"}
    for numbers in found.values():
        assert {*range(start)} <= {*numbers} <= {*range(start + 1)}
        assert {number for number in numbers if numbers.count(number) > 1} <= restarts


@PUBSUB_IS_SLOW
def test_processes_that_send_at_once_send_each_event_once_and_runs_keep_their_order(broker, home):
    processes = [sender(broker, home, f"own-{i},shared", 100 * i, 100 * i + 100, patience=60) for i in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and errors == ["", ""]
    found = arrived(broker)
    assert len(broker.messages("training")) == 400
    shared = found.pop("shared")
    assert found == {"own-0": list(range(100)), "own-1": list(range(100, 200))}
    assert sorted(shared) == list(range(200))
    assert [n for n in shared if n < 100] == found["own-0"]


@PUBSUB_IS_SLOW
def test_a_process_that_closes_waits_while_another_brings_its_events_to_the_broker(broker, home, monkeypatch, capfd):
    monkeypatch.setattr("common.events.delivery.PATIENCE", 1.0)
    other = spool.Spool(broker.name)
    with other.sending, events.open(broker.environ) as log:
        for n in range(4):
            log.send("epoch", "run", n=n)

        def deliver():
            for _, end in other.take():
                time.sleep(0.6)
                other.arrived(end)

        thread = threading.Thread(target=deliver)
        thread.start()
    thread.join()
    assert not other.waiting() and capfd.readouterr().err == ""


@PUBSUB_IS_SLOW
def test_a_process_whose_events_have_arrived_says_nothing_of_those_that_others_send_after_it(
    broker, monkeypatch, capfd
):
    close = delivery.Delivery.close

    def close_and_another_sends(self):
        have_arrived = close(self)
        spool.append([self._spool], "other", lambda number: {"run_id": "other", "id": "a", "sequence": number})
        return have_arrived

    monkeypatch.setattr(delivery.Delivery, "close", close_and_another_sends)
    with events.open(broker.environ) as log:
        log.send("epoch", "run", n=0)
    assert arrived(broker) == {"run": [0]} and spool.Spool(broker.name).waiting()
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_broker_that_is_there_but_does_not_answer_delays_no_event_and_no_end(home):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        variables = {"KAFKA_HOST": address, "KAFKA_TOPIC": "x", "PUBSUB_EMULATOR_HOST": address}
        frozen = type("", (), {"environ": {**variables, "PUB_SUB_PROJECT": "p", "PUB_SUB_TOPIC": "x"}})
        process = sender(frozen, home, "run", 0, 100)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out.endswith("99\nclosing\n"), err
    for name in ("kafka", "pubsub"):
        assert f"{name} at {address}" in err
        lines = (home / name / "events.jsonl").read_text().splitlines()
        assert [json.loads(line)["payload"]["n"] for line in lines] == list(range(100))


def test_a_topic_that_does_not_exist_is_an_error_at_the_start(broker):
    name = "KAFKA_TOPIC" if broker.name == "kafka" else "PUB_SUB_TOPIC"
    with pytest.raises(UserError, match=f"{broker.name} at .*: there is no topic trianing"):
        events.open({**broker.environ, name: "trianing"})


def test_a_worker_writes_down_and_its_parent_sends(broker):
    with events.open(broker.environ) as parent:
        with events.open(broker.environ, deliver=False) as worker:
            worker.send("epoch", "run", n=0)
        wait_until(lambda: broker.messages("training"))
        parent.send("epoch", "run", n=1)
    assert arrived(broker) == {"run": [0, 1]}


def test_an_event_says_what_it_is_and_is_plain_json(broker):
    import numpy as np

    with events.open(broker.environ) as log:
        log.send("run_started", "run", step=4, config={"lr": np.float32(0.5), 3: [None, True]})
        log.send("epoch", "run", n=0, dev_loss=float("nan"), train_loss=np.float64("inf"), path=Path("a/b"))
        log.send("run_ended", "run", status="FINISHED")
    first, second, third = (
        json.loads(value, parse_constant=pytest.fail) for _, value, _ in broker.messages("training")
    )
    assert list(first) == ["version", "id", "kind", "run_id", "payload", "sequence", "time"]
    assert first["kind"] == "run_started" and first["time"].endswith("+00:00")
    assert first["payload"] == {"step": 4, "config": {"lr": 0.5, "3": [None, True]}}
    assert second["payload"] == {"n": 0, "dev_loss": None, "train_loss": None, "path": "a/b"}
    assert [event["sequence"] for event in (first, second, third)] == [0, 1, 2]
    with pytest.raises(ValueError, match="kind 'epcoh': expected one of run_started, epoch"):
        log.send("epcoh", "run")


def test_without_variables_nothing_happens(home):
    with events.open({"GOOGLE_APPLICATION_CREDENTIALS": "key.json", "TIMEOUT": "5"}) as log:
        log.send("epoch", "run", dev_loss=0.5)
    assert not home.exists()


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"KAFKA_HOST": "a:9092"}, "KAFKA_TOPIC: not set, while KAFKA_HOST is"),
        ({"KAFKA_TOPIC": "x", "KAFKA_HOST": " "}, "KAFKA_HOST: not set, while KAFKA_TOPIC is"),
        (
            {"KAFKA_TOPIC": "x", "KAFKA_HOST": "http://a:9092/"},
            "KAFKA_HOST: expected host:port, found 'http://a:9092/'",
        ),
        ({"PUB_SUB_SUBSCRIPTION": "x", "PUB_SUB_PROJECT": "p"}, "PUB_SUB_TOPIC: not set, while PUB_SUB_PROJECT is"),
        (GOOGLE, "GOOGLE_APPLICATION_CREDENTIALS: not set, while PUB_SUB_TOPIC"),
        (GOOGLE | {KEY: "/no/key"}, f"{KEY}: no such file as /no/key; expected the file of a Google Cloud key"),
    ],
)
def test_settings_that_are_incomplete_are_refused_by_the_name_of_what_is_missing(environ, problem):
    with pytest.raises(UserError) as error:
        events.open(environ)
    assert problem in str(error.value)


def test_a_key_that_is_none_is_refused(tmp_path, monkeypatch):
    key = tmp_path / "key.json"
    key.write_text("{}")
    monkeypatch.setenv(KEY, str(key))
    with pytest.raises(UserError, match=f"{KEY}: not a usable key"):
        events.open(GOOGLE | {KEY: str(key)})


@pytest.mark.parametrize("text", ["0", "soon", "nan"])
def test_a_timeout_is_a_number_above_0(text):
    with pytest.raises(UserError, match="TIMEOUT: expected a number of seconds above 0"):
        idle_time({"TIMEOUT": text})
    assert (idle_time({}), idle_time({"TIMEOUT": "2.5"})) == (None, 2.5)


@pytest.mark.parametrize(
    ("extra", "library", "environ"),
    [
        ("kafka", "confluent_kafka", {"KAFKA_HOST": "a:1", "KAFKA_TOPIC": "x"}),
        ("pubsub", "google.pubsub_v1", GOOGLE | {"PUBSUB_EMULATOR_HOST": "a:1"}),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(extra, library, environ, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    if extra == "pubsub":
        monkeypatch.delattr("google.pubsub_v1")
    with pytest.raises(UserError, match=rf"pip install 'reproai\[{extra}\]'"):
        events.open(environ)


# ---- the spool


def test_what_a_crash_leaves_in_the_spool_costs_no_event(home):
    box = spool.Spool("kafka")

    def add(n):
        spool.append([box], "run", lambda number: {"id": str(n), "run_id": "run", "n": n, "sequence": number})

    def waiting():
        return [event and (event["n"], event["sequence"]) for event, _ in box.take()]

    add(0)
    with open(box.lines, "ab") as file:
        file.write(b'{"id": "torn", "run_i')
    assert waiting() == [(0, 0)]
    add(1)
    assert waiting() == [(0, 0), None, (1, 1)]
    ends = [end for _, end in box.take()]
    box.arrived(ends[0])
    assert waiting() == [None, (1, 1)]
    for damage in (b"", b"-5", b"99999999", b"\xff"):
        box.mark.write_bytes(damage)
        assert waiting() == [(0, 0), None, (1, 1)]
    box.arrived(ends[2])
    box.empty()
    add(2)
    assert waiting() == [(2, 2)]
    with pytest.raises(ValueError, match="an event of 1000"):
        spool.append([box], "run", lambda number: {"x": "x" * 1_000_000})
    add(3)
    assert waiting() == [(2, 2), (3, 3)]


@pytest.mark.hostile("what waits to be sent is sent, whatever else is in its file")
@pytest.mark.parametrize("damage", [b'{"id": "\xe9", "run_id": "run"}', b"[" * 100_000, b"null"])
def test_a_damaged_line_in_the_spool_costs_no_event(damage, home):
    box = spool.Spool("kafka")
    for n in (0, 1):
        spool.append([box], "run", lambda number: {"id": str(number), "run_id": "run"})
        if n == 0:
            box.lines.write_bytes(box.lines.read_bytes() + damage + b"\n")
    assert [event and event["id"] for event, _ in box.take()] == ["0", None, "1"]


def test_a_full_disk_is_said_once_and_is_no_error(broker, home, capfd):
    with events.open(broker.environ) as log:
        (home / broker.name / "events.jsonl").symlink_to("/dev/full")
        log.send("epoch", "run", n=0)
        log.send("epoch", "run", n=1)
        (home / broker.name / "events.jsonl").unlink()
        log.send("epoch", "run", n=2)
    assert capfd.readouterr().err.count("events are left out") == 1
    assert arrived(broker) == {"run": [2]}


# ---- reading


def test_tail_shows_each_event_once_in_a_line(broker, monkeypatch, capsys):
    with events.open(broker.environ) as log:
        log.send("run_started", "0123456789abcdef", step=2)
        log.send("epoch", "0123456789abcdef", epoch=1, dev_loss=0.123456, note="two\nlines")
    (last,) = [m for m in broker.messages("training") if b'"epoch"' in m[1]]
    repeated = (last[0], last[1], json.loads(last[1])["id"])
    broker.ask("training", repeated, ("", b"\xff", "odd"), ("", b'{"version": 2}', "new"))
    for name, value in {"TIMEOUT": "2", **broker.environ}.items():
        monkeypatch.setenv(name, value)
    main(["tail", *(["--from-start"] if broker.name == "kafka" else [])])
    shown = sorted(line[21:] if line.startswith("20") else line for line in capsys.readouterr().out.splitlines())
    assert shown == [
        "01234567  epoch  epoch 1  dev_loss 0.1235  note two lines",
        "01234567  run started  step 2",
        "new: an event of version 2; expected 1",
        "odd: not an event",
    ]


def test_tail_without_a_broker_says_what_to_set_and_one_that_is_away_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    expected = "no broker: set KAFKA_HOST and KAFKA_TOPIC or PUB_SUB_PROJECT and PUB_SUB_TOPIC"
    away = {"KAFKA_HOST": address, "KAFKA_TOPIC": "training"}
    for variables, told in ({}, expected), (away, f"kafka at {address}, topic training: "):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError) as error:
            main(["tail"])
        assert str(error.value).startswith(told) and "\n" not in str(error.value)


def answers(broker):
    found = [(key, json.loads(value)) for key, value, _ in broker.messages("training-predictions")]
    assert all(answer.pop("version") == 1 and answer.pop("time") for _, answer in found)
    return found


def serve(broker, handler, until, is_done=True):
    """Answer requests until some have been answered; then be interrupted before or after the last is done."""
    worker, todo = events.only_broker(None, broker.environ), set(until)
    done = worker.done

    def interrupted(request):
        todo.discard(request.id)
        if todo or is_done:
            done(request)
        if not todo:
            raise KeyboardInterrupt

    worker.done = interrupted
    with pytest.raises(KeyboardInterrupt):
        serve_requests(worker, handler)


@KAFKA_IS_SLOW
def test_requests_are_answered_and_what_was_not_done_is_answered_again_with_the_same_id(broker):
    def handler(content):
        if content == b"broken":
            raise UserError("not a readable image")
        return {"probability": 1 / len(content)}

    broker.ask("training-requests", ("lab", b"1234", "r1"), ("lab", b"broken", "r2"), ("lab", b"", "r3"))
    serve(broker, handler, {"r3"}, is_done=False)
    expected = [
        ("lab", {"request_id": "r1", "answer": {"probability": 0.25}}),
        ("lab", {"request_id": "r2", "error": "not a readable image"}),
        ("lab", {"request_id": "r3", "error": "ZeroDivisionError: division by zero"}),
    ]
    assert answers(broker) == expected
    broker.ask("training-requests", ("lab", b"12", "r4"))
    serve(broker, handler, {"r3", "r4"})
    *first, again, new = sorted(answers(broker), key=lambda answer: answer[1]["request_id"])
    assert [*first, again] == [*expected, expected[2]]
    assert new == ("lab", {"request_id": "r4", "answer": {"probability": 0.5}})
    if broker.name == "pubsub":
        assert serve_requests(events.only_broker(None, broker.environ), handler, idle=0.1) == 0


@KAFKA_IS_SLOW
def test_a_worker_whose_broker_goes_and_comes_back_answers_everything(broker):
    asked = []

    def handler(content):
        asked.append(content)
        if len(asked) == 2:
            broker.cut()
            broker.restore()
        return {"n": int(content)}

    broker.ask("training-requests", *(("k", str(n).encode(), str(n)) for n in range(5)))
    serve(broker, handler, {str(n) for n in range(5)})
    found = {answer["request_id"]: answer["answer"]["n"] for _, answer in answers(broker)}
    assert found == {str(n): n for n in range(5)}
