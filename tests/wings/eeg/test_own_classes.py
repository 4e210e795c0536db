"""Classes that bring loss, metric, optimizer and steps of their own are trained as they are."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import Accuracy

from common.cli import UserError
from common.config import TrainingConfig
from common.data.arrays import load_arrays
from common.data.folding import Fold
from common.model import load_classifier, save_classifier
from common.seeds import Stream
from common.training import make_optimizer, new_model, set_up, test_model, train_and_validate_model

FOLD = Fold(0, 0, np.arange(40), np.arange(40, 60), np.arange(60, 80))


class PerChannel(nn.Module):
    """Two logits for each channel, of which the last channel's count; steps and optimizer are its own."""

    def __init__(self, input_size, num_classes, learning_rate):
        super().__init__()
        self.learning_rate = learning_rate
        self.hidden = nn.Linear(input_size, 8)
        self.out = nn.Linear(8, num_classes)
        self.criterion = nn.CrossEntropyLoss()
        self.hits = Accuracy(task="multiclass", num_classes=num_classes)
        self.configure_optimizers()

    def configure_optimizers(self):
        self.optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def forward(self, signals):
        return self.out(torch.relu(self.hidden(signals)))

    def measure(self, batch):
        signals, labels = batch
        logits = self(signals)[:, -1, :]
        return self.criterion(logits, labels), self.hits(logits, labels)

    def training_step(self, batch):
        loss, hits = self.measure(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, hits

    def validation_step(self, batch):
        loss, hits = self.measure(batch)
        return loss.item(), hits


class LeavesTheStep(PerChannel):
    def training_step(self, batch):
        loss, hits = self.measure(batch)
        return {"loss": loss, "accuracy": hits, "labels": batch[1]}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng, y = np.random.default_rng(0), np.arange(80) % 2
    x = rng.normal(size=(80, 3, 12))
    x[:, -1] += y[:, None]
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    np.savez(path, X=x, y=y)
    return load_arrays(path, cached=False)


def config_of(kind, **settings):
    model = partial(kind, input_size=12, num_classes=2, learning_rate=1e-2)
    return TrainingConfig(model=model, augmentation=None, epochs=4, batch_size=16, **settings)


def train(table, kind, checkpoint=None, until=None):
    """The trained network, and what was logged of each epoch."""
    config, epochs = config_of(kind, patience=9, save_every=1), {}
    network = new_model(config, table, set_up("cpu", "fp32"), Stream(0))
    optimizer = make_optimizer(network, config.optimizer, 1.0, 0.0)

    def log(metrics, step):
        if "batch_loss" not in metrics:
            epochs[step] = metrics
        if step == until:
            raise KeyboardInterrupt

    parts = (network, table, FOLD, optimizer, 4, config, Stream(0), log)
    train_and_validate_model(*parts, checkpoint=checkpoint)
    return network, epochs


def test_a_class_that_steps_itself_is_not_stepped_again_and_its_metrics_are_there_by_epoch(table, monkeypatch):
    steps = []
    monkeypatch.setattr(torch.optim.Adam, "step", counted(torch.optim.Adam.step, steps))
    network, epochs = train(table, PerChannel)
    assert len(steps) == 1 + 4 * 3  # one to see whether it runs; 40 samples are three batches
    again, same = train(table, LeavesTheStep)
    assert epochs == same and all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    assert set(epochs[4]) == {"train_loss", "train_accuracy", "dev_loss", "dev_accuracy", "dev_roc_auc"}
    predicted = test_model(network, table, FOLD.dev) > 0.5
    best = max(range(5), key=lambda epoch: epochs[epoch]["dev_roc_auc"])
    assert epochs[best]["dev_accuracy"] == pytest.approx((predicted == table.labels[FOLD.dev]).mean())
    assert epochs[4]["train_loss"] < epochs[1]["train_loss"] - 0.05


def counted(function, calls):
    def step(*arguments, **keywords):
        calls.append(1)
        return function(*arguments, **keywords)

    return step


def test_it_goes_on_after_an_interruption_to_the_same_weights(table, tmp_path):
    whole, epochs = train(table, PerChannel)
    with pytest.raises(KeyboardInterrupt):
        train(table, PerChannel, tmp_path / "phase.pt", until=3)
    resumed, rest = train(table, PerChannel, tmp_path / "phase.pt")
    assert rest == {epoch: epochs[epoch] for epoch in rest} and 4 in rest and 1 not in rest
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))


def test_two_logits_are_the_probabilities_of_their_softmax_also_when_stored(table, tmp_path):
    network, _ = train(table, PerChannel)
    with torch.no_grad():
        logits = network.backbone.eval()(torch.from_numpy(table.pixels[FOLD.test]))[:, -1, :]
    expected = torch.softmax(logits.double(), 1)[:, 1].numpy()
    np.testing.assert_allclose(test_model(network, table, FOLD.test), expected, atol=1e-6)
    save_classifier(network, tmp_path / "model.safetensors")
    again = load_classifier(tmp_path / "model.safetensors")
    assert np.array_equal(test_model(again, table, FOLD.test), test_model(network, table, FOLD.test))


def variant(**methods):
    return type("Mine", (PerChannel,), methods)


def backward_only(self, batch):
    loss, _ = self.measure(batch)
    loss.backward()
    return loss


def other_optimizer(self, batch):
    loss, _ = self.measure(batch)
    loss.backward()
    torch.optim.SGD(self.parameters(), 0.1).step()
    return loss


LOSS = "expected the loss of the batch, a dict with 'loss', or (loss, accuracy), found "

ONE = "configure_optimizers: expected one optimizer, returned or set as self.optimizer, found "


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"training_step": lambda self, batch: None}, f"training_step: {LOSS}None"),
        ({"training_step": lambda self, batch: self(batch[0])}, f"training_step: {LOSS}tensor([[["),
        ({"training_step": lambda self, batch: {"acc": 1.0}}, f"training_step: {LOSS}{{'acc': 1.0}}"),
        ({"validation_step": lambda self, batch: (*self.measure(batch), 3)}, f"validation_step: {LOSS}(tensor("),
        ({"training_step": lambda self, batch: 0.5}, "expected a loss with a gradient, or a step of self.optimizer"),
        ({"training_step": backward_only}, "it calls backward() and no optimizer.step(); expected both, or neither"),
        ({"training_step": other_optimizer}, "it steps another optimizer than configure_optimizers() sets"),
        (
            {"training_step": lambda self, batch: self.acc(batch)},
            "cannot run on a batch of 2 inputs (AttributeError: 'Mine' object has no attribute 'acc'",
        ),
        ({"configure_optimizers": lambda self: None}, ONE),
        ({"configure_optimizers": lambda self: (1, 2)}, ONE),
    ],
)
def test_a_step_that_returns_something_else_is_told_in_one_line_before_a_run_begins(table, methods, told):
    config = config_of(variant(**methods))
    for begin in (
        lambda: config.summary(table.pixels.shape[1:], 2),
        lambda: new_model(config, table, set_up("cpu", "fp32"), Stream(0)),
    ):
        with pytest.raises(UserError) as error:
            begin()
        assert str(error.value).startswith("model Mine.") and told in str(error.value)
        assert "\n" not in str(error.value)
