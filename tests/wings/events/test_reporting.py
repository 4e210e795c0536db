"""What a run of step 5 sends to a broker, whatever happens to the broker; what is answered from a topic."""

import json
import shutil
from contextlib import closing
from types import SimpleNamespace

import brokers
import numpy as np
import pandas as pd
import pytest
from registering import register_pets

from common.data.decoding import as_png, read_image
from common.events import sending as events, spool
from common.events.broker import Message
from common.events.display import Display
from common.events.reporting import report, reporting
from common.production import load_production, predict

FLAGS = ("step_5/train.py", "--fast", "--fresh", "--root-splits", "1", "--inner-splits", "1", "--n-trials", "1")
FLAGS += ("--n-jobs", "1", "--data")


@pytest.fixture
def kafka():
    with closing(brokers.start("kafka")) as broker:
        yield broker


@pytest.fixture
def pubsub():
    with closing(brokers.start("pubsub")) as broker:
        yield broker


@pytest.fixture(params=["kafka", "pubsub"])
def broker(request):
    return request.getfixturevalue(request.param)


def events_of(broker):
    """The events of each run, in their order, each once."""
    found = {}
    for _, value, _ in broker.messages("training"):
        event = json.loads(value)
        found.setdefault(event["run_id"], {}).setdefault(event["id"], event)
    runs = [sorted(events.values(), key=lambda event: event["sequence"]) for events in found.values()]
    return sorted(runs, key=lambda events: events[0]["time"])


def check(events, folds=1):
    """A finished run's events: nothing missing."""
    assert [event["sequence"] for event in events] == list(range(len(events)))
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "run_started" and kinds[-1] == "run_ended" and events[-1]["payload"] == {"status": "FINISHED"}
    assert events[0]["payload"]["fits"] == folds and events[0]["payload"]["resumed"] is False
    epochs = [event["payload"] for event in events if event["kind"] == "epoch"]
    places = {(epoch["inner_split"], epoch["phase"], epoch["epoch"]) for epoch in epochs}
    assert places == {(str(i), phase, e) for i in range(folds) for phase in ("warm-up", "fine-tuning") for e in (0, 1)}
    assert all(0 <= epoch["dev_roc_auc"] <= 1 and epoch["dev_loss"] > 0 for epoch in epochs)
    saved = [event["payload"] for event in events if event["kind"] == "model_saved"]
    assert {model["inner_split"] for model in saved} == {str(i) for i in range(folds)}


def test_a_run_of_step_5_tells_both_brokers_all_of_it(kafka, pubsub, run_script, project, few_pets, monkeypatch):
    done = run_script(*FLAGS, few_pets, **kafka.environ, **pubsub.environ)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("REPROAI_STATE", str(project))
    while any(spool.Spool(name).waiting() for name in ("kafka", "pubsub")):  # a busy machine: brokers were too slow
        events.open({**kafka.environ, **pubsub.environ}).close()
    (told,) = events_of(kafka)
    check(told)
    assert events_of(pubsub) == [told]


@pytest.mark.slow
def test_a_run_of_step_5_tells_brokers_that_are_away_until_the_next_run_all_of_it(
    kafka, pubsub, run_script, project, few_pets, monkeypatch
):
    environ = {**kafka.environ, **pubsub.environ}
    for broker in (kafka, pubsub):
        broker.cut()
    done = run_script(*FLAGS, few_pets, **environ)
    assert done.returncode == 0 and done.stderr.count("some events have not arrived; they wait in") == 2, done.stderr
    for broker in (kafka, pubsub):
        broker.restore()
    done = run_script(*FLAGS, few_pets, **environ)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("REPROAI_STATE", str(project))
    while any(spool.Spool(name).waiting() for name in ("kafka", "pubsub")):  # a busy machine: brokers were too slow
        events.open(environ).close()
    for broker in (kafka, pubsub):
        first, second = events_of(broker)
        check(first)
        check(second)
    assert events_of(kafka) == events_of(pubsub)


def test_a_topic_that_does_not_exist_is_an_error_before_anything_is_trained(kafka, few_pets, run_script):
    done = run_script(*FLAGS, few_pets, **kafka.environ | {"KAFKA_TOPIC": "nowhere"})
    assert done.returncode == 2 and "fits" not in done.stderr, done.stderr
    expected = f"error: kafka at {kafka.address}: there is no topic nowhere; make it, or name another"
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (KeyboardInterrupt(), {"status": "KILLED"}),
        (ValueError("bad"), {"status": "FAILED", "error": "ValueError: bad"}),
    ],
)
def test_a_run_that_ends_otherwise_says_so_and_a_repeated_event_has_the_same_id(
    error, end, broker, tmp_path, monkeypatch
):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    for name, value in broker.environ.items():
        monkeypatch.setenv(name, value)
    run = SimpleNamespace(run_id="child", resumed=True, brokers=(), place={"root_run_id": "root", "phase": "warm-up"})
    root = SimpleNamespace(**{**vars(run), "run_id": "root"})
    with pytest.raises(type(error)), reporting(fits=3) as begin:
        begin(root)
        run.brokers = root.brokers
        for epoch in (1, 1, 2):
            report(run, "epoch", str(epoch), epoch=epoch)
        raise error
    found = [json.loads(value) for _, value, _ in broker.messages("training")]
    assert [event["run_id"] for event in found] == ["root"] * 5
    assert found[0]["payload"] == {"resumed": True, "fits": 3} and found[-1]["payload"] == end
    assert found[1]["id"] == found[2]["id"] != found[3]["id"]
    assert found[1]["payload"] == {"run": "child", "phase": "warm-up", "epoch": 1}


def test_events_are_shown_as_progress(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    display = Display()
    place = [{"root_split": "0", "inner_split": str(i // 2), "epoch": i % 2, "dev_loss": 0.5} for i in range(4)]
    kinds = [("run_started", {"fits": 2}), *(("epoch", p) for p in place), ("run_ended", {"status": "FINISHED"})]
    for number, (kind, payload) in enumerate(kinds):
        event = {"version": 1, "run_id": "0123456789", "kind": kind, "time": "2026-01-01T00:00:00", "payload": payload}
        display.show(Message("k", str(number), json.dumps(event).encode()))
    display.close()
    shown = capsys.readouterr()
    assert "1/2" in shown.err and "2/2" in shown.err and "FINISHED" in shown.err
    assert "01234567  epoch  root_split 0  inner_split 0  epoch 1  dev_loss 0.5" in shown.out


@pytest.fixture(scope="module")
def registered(tiny_pets, empty_stores, tmp_path_factory):
    """A project with the model `pets` in production, and a photo."""
    folder, photo = tmp_path_factory.mktemp("registered"), (tiny_pets / "images" / "Bengal_1.jpg").read_bytes()
    shutil.copy(empty_stores / "mlflow.db", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_pets(tiny_pets)
    (folder / "photo.jpg").write_bytes(photo)
    return folder, photo


def images_of(pixels):
    return pd.DataFrame({"image": [as_png(pixels)]})


def as_answer(table):
    row = table.to_dict("records")[0]
    return {
        "prediction": row["prediction"],
        "probabilities": {name: row[f"probability_{name}"] for name in ("cat", "dog")},
        **{name: row[name] for name in ("threshold", "positive_class", "model_version")},
    }


@pytest.mark.parametrize("broker", ["kafka", pytest.param("pubsub", marks=pytest.mark.slow)], indirect=True)
def test_requests_with_images_are_answered_with_probabilities_by_class(broker, registered, monkeypatch, capsys):
    folder, photo = registered
    for name, value in {"REPROAI_STATE": str(folder), "TIMEOUT": "2", **broker.environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (example,) = brokers.documented("image")
    pixels = read_image(folder / "photo.jpg", 200)
    values = [photo, b"no image", {**example, "image": pixels.transpose(1, 2, 0).tolist()}, example]
    values += [{**example, "image": wrong} for wrong in ([[0.5]], [[256]], [[[1]]], [[1], [1, 2]])] + [{"data": "a"}]
    asked = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    broker.ask("training-requests", *(("lab", value, f"r{number}") for number, value in enumerate(asked, 1)))
    predict.main(["--model", "pets", "--from", broker.name])
    assert "9 requests answered, none for 2 s" in capsys.readouterr().err
    answers = [json.loads(value) for _, value, _ in broker.messages("training-predictions")]
    first, second, again, documented, *refused = answers
    good, bad = brokers.documented("request_id")
    for answer, like in [(first, good), (documented, good), (second, bad)]:
        brokers.check_shape(answer, like)
    assert again["answer"] == load_production("pets").predict(images_of(pixels)).pipe(as_answer)
    for answer in refused:
        assert '{"image": [[0, 255, ...], ...]} with rows of whole numbers' in answer["error"]
        assert "\n" not in answer["error"]
    probabilities = first["answer"]["probabilities"]
    assert first["request_id"] == "r1" and first["answer"]["prediction"] in ("cat", "dog")
    assert set(probabilities) == {"cat", "dog"} and np.isclose(sum(probabilities.values()), 1)
    decided = {name: first["answer"][name] for name in ("threshold", "positive_class", "model_version")}
    assert decided == {"threshold": 0.25, "positive_class": "dog", "model_version": 1}
    assert second["request_id"] == "r2" and second["error"].startswith("the request: not a readable image")
