"""`train(...)`: the documented sample as written, what TensorBoard and MLflow show, and going on after an end."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import brokers
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from common.cli import UserError
from common.config import Float
from common.params import build_classifier, set_seeds, train
from common.params.idx import CLASSES, read_split, write_standin
from common.tracking.upkeep import look_after
from conftest import PROJECT

METRICS = ("Accuracy", "Precision", "Recall", "F1Score")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A new database, which takes seconds to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    look_after(path)
    return path


@pytest.fixture(autouse=True)
def home(empty, tmp_path, monkeypatch):
    """A project with no runs, and a few digits in ``data``."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty, tmp_path)
    write_standin(tmp_path / "data", 60, 20)
    return tmp_path


def small(**changes):
    layers = [{"class": "Conv2d", "kwargs": {"in_channels": 1, "out_channels": 4, "kernel_size": 5, "stride": 4}}]
    layers += [{"class": "BatchNorm2d", "kwargs": {"num_features": 4}}, {"class": "Dropout", "kwargs": {"p": 0.2}}]
    sizes = {"image_height": 28, "image_width": 28, "is_image_color": False, "n_classes": 10}
    training = {"batch_size": 16, "num_epochs": 4, "optim_class": torch.optim.SGD, "learning_rate": 0.1}
    schedule = [{"class": "ExponentialLR", "kwargs": {"gamma": 0.5}}, {"class": "ReduceLROnPlateau"}]
    return {"net_arch": layers, **sizes, **training, "learning_rate_schedule": schedule, **changes}


def train_step(x, y, model, optim, **kwargs):
    optim.zero_grad()
    loss = nn.NLLLoss()(model.log_probabilities(x), y)
    loss.backward()
    optim.step()
    return loss.item(), {"correct": (model(x).argmax(1) == y).float().mean()}


def test_step(x, y, model, **kwargs):
    assert not model.training and not torch.is_grad_enabled()
    if "test_torchmetrics" in kwargs:
        kwargs["test_torchmetrics"].update(model(x), y)
    return nn.NLLLoss()(model.log_probabilities(x), y).item(), {"sure": model(x).amax(1).mean()}


test_step.__test__ = False


def fit(home, params, step=train_step, model=None, **kwargs):
    model = model or model_of(params)
    assert train(params, model, step, test_step, home / "data", home / "log", **kwargs)
    return model


def model_of(params):
    torch.manual_seed(0)
    return build_classifier(params)


def scalars(folder):
    """TensorBoard's own reading of what was written, by name: (step, value)."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader, {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_the_documented_sample_runs_as_written(home, monkeypatch):
    (sample,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "params.md").read_text(), re.DOTALL)
    monkeypatch.chdir(home)
    names = {}
    exec(compile(sample, "docs/params.md", "exec"), names)
    assert names["ok"] is True
    reader, found = scalars(home / "logs" / "digits")
    expected = {f"{part}/{name}" for part in ("train", "test") for name in ("loss", *METRICS)}
    assert set(found) == {*expected, "learning_rate"}
    assert all([step for step, _ in values] == [1, 2, 3, 4] for values in found.values())
    assert found["test/Accuracy"][-1][1] > 0.8
    assert reader.Tags()["images"] == ["images"] and reader.Tags()["graph"]
    assert "_hparams_/session_start_info" in reader.summary_metadata
    saved = home / "logs" / "digits" / "models"
    assert sorted(path.name for path in saved.iterdir()) == ["epoch-00002.pt", "epoch-00004.pt"]
    model = build_classifier(names["params"])
    model.load_state_dict(torch.load(saved / "epoch-00004.pt", weights_only=True)["network"])
    (run,) = client(home).search_runs([client(home).get_experiment_by_name("train").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["params.optim_kwargs.weight_decay"] == "0.01"
    for name, values in found.items():
        history = client(home).get_metric_history(run.info.run_id, name.replace("/", "_"))
        assert [(m.step, pytest.approx(m.value, rel=1e-5)) for m in history] == values


def client(home):
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


@pytest.mark.parametrize(("freq", "numbers"), [("epoch", []), ("batch", range(10)), (2, [1, 3, 6, 8])])
def test_metrics_come_as_often_as_params_say_and_those_of_torchmetrics_are_of_one_whole_epoch(freq, numbers, home):
    params = small(eval_metric_compute_freq=freq, eval_freq=3, eval_batch_size=4)
    model = fit(home, params, test_torchmetrics=MulticlassAccuracy(10, average="micro"))
    _, found = scalars(home / "log" / "batches")
    assert {name: [step for step, _ in values] for name, values in found.items()} == {"batch/loss": list(range(16))}
    _, found = scalars(home / "log" / "test_batches") if freq != "epoch" else (None, {})
    names = ("batch/test_loss", "batch/test_sure") if freq != "epoch" else ()
    assert {name: [step for step, _ in values] for name, values in found.items()} == {n: [*numbers] for n in names}
    _, found = scalars(home / "log")
    assert [step for step, _ in found["test/loss"]] == [3, 4]
    assert [step for step, _ in found["train/correct"]] == [1, 2, 3, 4]
    rates = [value for _, value in found["learning_rate"]]
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    images, labels = read_split(home / "data", "test", CLASSES["digits"])
    with torch.no_grad():
        answers = model.eval()(torch.from_numpy(images[:, None].copy())).argmax(1).numpy()
    assert found["test/MulticlassAccuracy"][-1] == (4, pytest.approx((answers == labels).mean()))


SCRIPT = """
import sys
from pathlib import Path
import test_own_steps as t
t.fit(Path(sys.argv[1]), t.small(num_epochs=10, save_freq=2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_training_that_is_ended_goes_on_to_the_weights_that_it_would_have_had(how, home):
    params = small(num_epochs=10, save_freq=2)
    whole = fit(home, params).state_dict()
    (home / "log").rename(home / "whole")
    command = [sys.executable, "-c", SCRIPT, str(home)]
    path = os.pathsep.join(map(str, [PROJECT, Path(__file__).parent, PROJECT / "tests"]))
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list((home / "log" / "models").glob("epoch-*.pt"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(how)
    process.communicate()
    assert len(list((home / "log" / "models").glob("epoch-*.pt"))) < 5, "it had come to its end"
    again = fit(home, params).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    for folder in ("", "batches"):
        assert scalars(home / "log" / folder)[1] == scalars(home / "whole" / folder)[1]
    (run,) = client(home).search_runs(["1"], "attributes.status = 'FINISHED'", max_results=1)
    for name in run.data.metrics:
        steps = [m.step for m in client(home).get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    assert not list((home / "log" / "models").glob("*.part"))


def test_a_finished_training_is_left_as_it_is_may_be_tested_and_may_go_on_for_more_epochs(home, capsys):
    newest = home / "log" / "models" / "epoch-00002.pt"
    fit(home, small(num_epochs=2))
    before = newest.read_bytes()
    model = fit(home, small(num_epochs=2))
    assert "trained for 2 epochs already" in capsys.readouterr().out and newest.read_bytes() == before
    fit(home, small(mode="test"), model=model_of(small()))
    assert capsys.readouterr().out.startswith("epoch 2  test_loss ")
    state = torch.load(newest, weights_only=True)["network"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"epoch-00002\.pt: of another model"):
        fit(home, small(num_epochs=3), model=nn.Linear(2, 2))
    fit(home, small(num_epochs=3))
    assert [step for step, _ in scalars(home / "log")[1]["train/loss"]] == [1, 2, 3]


@pytest.mark.hostile("a damaged checkpoint or kept network counts as absent, and says so")
def test_a_training_whose_newest_saved_model_is_damaged_comes_to_the_same_weights(home, capsys):
    whole = fit(home, small()).state_dict()
    newest = home / "log" / "models" / "epoch-00004.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    again = fit(home, small()).state_dict()
    assert "epoch-00004.pt: damaged, so it counts as absent" in capsys.readouterr().err
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_loss_that_is_not_finite_ends_it_with_false_and_the_saved_model_stays(home, capsys):
    def step(x, y, model, optim, **kwargs):
        loss, values = train_step(x, y, model, optim)
        return float("nan") if (home / "log/models/epoch-00002.pt").exists() else loss, values

    params = small()
    assert train(params, model_of(params), step, test_step, home / "data", home / "log") is False
    assert "the loss is nan" in capsys.readouterr().err
    assert (home / "log" / "models" / "epoch-00002.pt").exists()


@pytest.mark.parametrize(
    ("changes", "step", "told"),
    [
        ({"num_epochs": None}, train_step, "params.num_epochs: expected int of at least 1, found None"),
        ({"learning_rate": Float(0.1, 1)}, train_step, "params: learning_rate: expected a value, found a search space"),
        ({"n_classes": 7}, train_step, "params.n_classes: expected 10, as the images have, found 7"),
        ({"mode": "test"}, train_step, "models: no saved model; expected one from params with mode 'train'"),
        ({}, lambda x, y, model, optim: (0.5, {"a": y}), "train_step: expected the loss and a dict of numbers or None"),
    ],
)
def test_what_is_wrong_is_one_line(changes, step, told, home):
    params = small(**changes)
    with pytest.raises(UserError) as error:
        train(params, model_of(small()), step, test_step, home / "data", home / "log")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_step_of_evaluation_is_tried_before_training_and_leaves_everything_as_it_was(home):
    accuracy, seen = MulticlassAccuracy(10), []

    def first_train_step(x, y, model, optim, **kwargs):
        seen.append((random.random(), np.random.random(), torch.rand(1).item(), accuracy.update_called))
        return train_step(x, y, model, optim)[0], None

    def drawing_test_step(x, y, model, **kwargs):
        accuracy.update(model(x), y)
        return random.random() + np.random.random() + torch.rand(1).item(), None

    def wrong_test_step(x, y, model, **kwargs):
        return drawing_test_step(x, y, model)[0]

    for step in (drawing_test_step, test_step):
        set_seeds(3)
        params = small(num_epochs=1)
        where = home / "data", home / step.__name__
        assert train(params, model_of(params), first_train_step, step, *where, test_torchmetrics=accuracy)
    half = len(seen) // 2
    assert seen[:half] == seen[half:] and not seen[0][3]
    with pytest.raises(UserError, match=r"test_step: expected the loss and a dict of numbers or None, .*, found"):
        train(small(), model_of(small()), first_train_step, wrong_test_step, home / "data", home / "wrong")
    assert len(seen) == 2 * half and not list((home / "wrong").glob("models/*"))


def test_a_folder_without_images_is_refused(home):
    with pytest.raises(UserError, match="expected a folder train/ in it, or the four idx files"):
        train(small(), model_of(small()), train_step, test_step, home, home / "other")


def test_its_events_are_sent_and_its_saved_models_named(home, monkeypatch):
    broker = brokers.Kafka("training")
    keys = {"KAFKA_HOST": broker.address, "KAFKA_TOPIC": "training"}
    for name in keys:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with closing(broker):
        fit(home, small(num_epochs=2, **keys))
        events = [json.loads(value) for _, value, _ in broker.messages("training")]
    assert [event["kind"] for event in events] == ["run_started", *["epoch", "model_saved"] * 2, "run_ended"]
    assert events[0]["payload"]["epochs"] == 2 and events[1]["payload"]["train_correct"] >= 0
    assert Path(events[-2]["payload"]["file"]).name == "epoch-00002.pt"
