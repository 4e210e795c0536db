"""`train(...)`: the documented sample as written, what TensorBoard and MLflow show, and what is refused."""

import json
import random
import re
import shutil
from contextlib import closing
from pathlib import Path

import brokers
import numpy as np
import pytest
import torch
from own_training import a_home, client, fit, model_of, scalars, small, test_step, train_step  # noqa: F401
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from common.cli import UserError
from common.config import Float
from common.events.sending import KINDS
from common.params import build_classifier, set_seeds, train
from common.params.idx import CLASSES, make_folders, read_split, write_standin
from common.params.image_parts import image_parts
from common.seeds import Stream
from conftest import PROJECT

METRICS = ("Accuracy", "Precision", "Recall", "F1Score")


def test_the_documented_sample_runs_as_written(home, monkeypatch):
    (sample,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "params.md").read_text(), re.DOTALL)
    monkeypatch.chdir(home)
    names = {}
    exec(compile(sample, "docs/params.md", "exec"), names)
    assert names["ok"] is True
    reader, found = scalars(home / "logs" / "digits")
    by_part = {part: {f"{part}/{name}" for name in ("loss", *METRICS)} for part in ("train", "val", "test")}
    at_the_end = {*by_part["test"], "test/mcc", "best_epoch"}
    assert set(found) == {*by_part["train"], *by_part["val"], *at_the_end, "learning_rate"}
    for name, values in found.items():
        assert [step for step, _ in values] == ([4] if name in at_the_end else [1, 2, 3, 4]), name
    assert found["test/Accuracy"][-1][1] > 0.8
    assert reader.Tags()["images"] == ["images"] and reader.Tags()["graph"]
    assert "_hparams_/session_start_info" in reader.summary_metadata
    saved = home / "logs" / "digits" / "models"
    assert sorted(path.name for path in saved.iterdir()) == ["best.pt", "epoch-00002.pt", "epoch-00004.pt"]
    model = build_classifier(names["params"])
    model.load_state_dict(torch.load(saved / "epoch-00004.pt", weights_only=True)["network"])
    (run,) = client(home).search_runs([client(home).get_experiment_by_name("train").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["params.optim_kwargs.weight_decay"] == "0.01"
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == run.data.params["data_fingerprint"][:16] and run.data.tags["mlflow.source.name"]
    for name, values in found.items():
        history = client(home).get_metric_history(run.info.run_id, name.replace("/", "_"))
        assert [(m.step, pytest.approx(m.value, rel=1e-5)) for m in history] == values


@pytest.mark.parametrize(
    ("freq", "numbers"),
    [(4, [3, 9]), *(pytest.param(*both, marks=pytest.mark.slow) for both in (("epoch", []), ("batch", range(12))))],
)
def test_metrics_come_as_often_as_params_say_and_those_of_torchmetrics_are_of_one_whole_epoch(freq, numbers, home):
    params = small(eval_metric_compute_freq=freq, eval_freq=3, eval_batch_size=4)
    model = fit(home, params, test_torchmetrics=MulticlassAccuracy(10, average="micro"))
    _, found = scalars(home / "log" / "batches")
    assert {name: [step for step, _ in values] for name, values in found.items()} == {"batch/loss": list(range(24))}
    _, found = scalars(home / "log" / "val_batches") if freq != "epoch" else (None, {})
    names = ("batch/val_loss", "batch/val_sure") if freq != "epoch" else ()
    assert {name: [step for step, _ in values] for name, values in found.items()} == {n: [*numbers] for n in names}
    _, found = scalars(home / "log")
    assert [step for step, _ in found["val/loss"]] == [3, 4]
    assert [step for step, _ in found["train/correct"]] == [1, 2, 3, 4]
    rates = [value for _, value in found["learning_rate"]]
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    images, labels = read_split(home / "data", "test", CLASSES["digits"])
    with torch.no_grad():
        answers = model.eval()(torch.from_numpy(images[:, None].copy())).argmax(1).numpy()
    assert found["test/MulticlassAccuracy"][-1] == (4, pytest.approx((answers == labels).mean()))


def test_the_test_images_are_read_once_at_the_end_with_the_weights_of_the_best_epoch_of_validation(home, capsys):
    kept, seen = home / "log" / "models", []

    def worse_after_2_epochs(x, y, model, optim, **kwargs):
        seen.append("train")
        result = train_step(x, y, model, optim)
        if (kept / "epoch-00002.pt").exists():
            with torch.no_grad():
                model.layers[-1].weight.mul_(-3)
        return result

    def step(x, y, model, **kwargs):
        seen.append(x.sum().item())
        return test_step(x, y, model)

    params = small(eval_batch_size=20)
    model = model_of(params)
    assert train(params, model, worse_after_2_epochs, step, home / "data", home / "log")
    images, labels = (torch.from_numpy(a.copy()) for a in read_split(home / "data", "test", CLASSES["digits"]))
    (at,) = [i for i, value in enumerate(seen) if value == (images[:, None] / 255).sum().item()]
    assert at == len(seen) - 1
    _, found = scalars(home / "log")
    best, _ = min(found["val/loss"], key=lambda pair: pair[1])
    assert best <= 2 and found["best_epoch"] == [(4, best)]
    model = build_classifier(params)
    model.load_state_dict(torch.load(kept / "best.pt", weights_only=True)["network"])
    with torch.no_grad():
        loss = nn.NLLLoss()(model.eval().log_probabilities(images[:, None] / 255), labels.long()).item()
    assert found["test/loss"] == [(4, pytest.approx(loss))]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:-1]] == [
        *(f"epoch {e}/4" for e in (1, 2, 3, 4)),
        f"best epoch {best}",
    ]
    assert "val_loss" in lines[1] and "test_loss" in lines[-2]


@pytest.mark.parametrize(
    "given",
    [
        "train",
        "train val test",
        *(pytest.param(given, marks=pytest.mark.slow) for given in ("train test", "train val")),
    ],
)
def test_parts_that_are_missing_are_held_out_of_the_training_images_by_group(given, home, capsys):
    write_standin(home / "more", 240, 100)
    make_folders(home / "more")
    for part in given.split():
        if part == "val":
            shutil.copytree(home / "more" / "test", home / "parts" / "val")
        else:
            shutil.copytree(home / "more" / part, home / "parts" / part)
    rows = (home / "parts" / "train" / "info.csv").read_text().splitlines()[1:]
    groups = {row.split(",")[0]: number // 2 for number, row in enumerate(sorted(rows, key=lambda row: row[-1]))}
    table = "".join(f"{file},{group}\n" for file, group in groups.items())
    (home / "parts" / "train" / "groups.csv").write_text(f"files,group\n{table}")
    capsys.readouterr()
    parts = image_parts(home / "parts", 28, Stream(0))
    copies = [line for line in capsys.readouterr().out.splitlines() if "as the network sees them" in line]
    assert [line.split(",")[0] for line in copies] == ["100 of 100 images of test are"] * (given == "train val test")
    held_out = [part for part in ("val", "test") if part not in given]
    used = [{groups[parts[part].table.files[row]] for row in parts[part].rows} for part in ("train", *held_out)]
    assert sum(len(parts[part].rows) for part in ("train", *held_out)) == 240
    assert len(set.union(*used)) == sum(map(len, used)), "a group in two parts"
    for part in ("val", "test"):
        assert len(parts[part].rows) == 100 if part in given else 36 <= len(parts[part].rows) <= 60


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_its_events_are_sent_and_its_saved_models_named(home, monkeypatch):
    broker = brokers.Kafka("training")
    keys = {"KAFKA_HOST": broker.address, "KAFKA_TOPIC": "training"}
    for name in keys:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with closing(broker):
        fit(home, small(num_epochs=2, **keys))
        events = [json.loads(value) for _, value, _ in broker.messages("training")]
    examples = brokers.documented("kind")
    assert tuple(example["kind"] for example in examples) == KINDS
    for example in examples:
        brokers.check_shape(next(event for event in events if event["kind"] == example["kind"]), example)
    kinds = ["run_started", *["epoch", "model_saved"] * 2, "model_saved", "run_ended"]
    assert [event["kind"] for event in events] == kinds
    assert events[0]["payload"]["epochs"] == 2 and events[1]["payload"]["train_correct"] >= 0
    assert Path(events[-3]["payload"]["file"]).name == "epoch-00002.pt"
    assert events[-2]["payload"]["artifact"] == "model.safetensors"
