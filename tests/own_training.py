"""Trainings by `common.params.train` with steps of one's own, on a few digits."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from common.params import build_classifier, train
from common.params.idx import write_standin
from conftest import PROJECT


@pytest.fixture(name="home", autouse=True)
def a_home(empty_stores, tmp_path, monkeypatch):
    """A project with no runs, and a few digits in ``data``."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_stores / "mlflow.db", tmp_path)
    write_standin(tmp_path / "data", 120, 20)
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


def client(home):
    return MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


SCRIPT = """
import sys
from pathlib import Path
import own_training as t
t.fit(Path(sys.argv[1]), t.small(num_epochs=10, save_freq=int(sys.argv[2])))
"""


def begun(home, save_freq):
    """A process that trains."""
    command = [sys.executable, "-c", SCRIPT, str(home), str(save_freq)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=home, env=environment(), **pipes)


def fork(forks, home, save_freq):
    """The number of such a process, forked from one that has imported the libraries."""
    (script := home / "own.py").write_text(SCRIPT)
    return forks.begin(script, [home, save_freq], home, environment())


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [PROJECT / "tests", PROJECT]))}
