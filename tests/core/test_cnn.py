"""Networks that a search builds: every one of them can be built, trains, and is built again as it was."""

import random
from dataclasses import replace
from functools import partial

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from common.cli import UserError
from common.config import AdamW, Categorical, Float, TrainingConfig, first_values, load_config, resolve, to_source
from common.data.folding import Fold
from common.data.images import ImageTable
from common.model.cnn import CNN
from common.model.modules import as_record, build_module, from_record
from common.search import CNNSpace, cnn_objective, create_cnn_from_trial, optuna_cnn, retrain_and_eval
from common.seeds import Stream
from common.training import fit_on, make_optimizer, new_model, set_up, test_model, train_and_validate_model

SIZES = (16, 28, 100)
CONFIG = TrainingConfig(
    model=CNNSpace(max_width=16),
    image_size=16,
    score="mcc",
    warmup_epochs=0,
    epochs=4,
    batch_size=Categorical([8, 16]),
    learning_rate=Float(1e-3, 1e-2, log=True),
    schedulers=Categorical([(), (partial(ExponentialLR, gamma=0.5),)]),
    augmentation=None,
)


@pytest.fixture
def table(tmp_path):
    """Grey squares of which some have a bright corner, and a third class with a dark one."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = rng.integers(80, 120, (60, 1, 16, 16)).astype(np.uint8)
    pixels[labels == 1, :, :6, :6] += 60
    pixels[labels == 2, :, :6, :6] -= 60
    names = tuple(f"{i:02d}.png" for i in range(60))
    return ImageTable("squares", tmp_path, names, labels, ("a", "b", "c"), None, names, pixels=pixels, cached=False)


FOLD = Fold(0, 0, np.arange(30), np.arange(30, 45), np.arange(45, 60))


@pytest.mark.parametrize("image_size", SIZES)
def test_random_architectures_are_built_run_forward_and_backward_and_are_built_again_identically(image_size):
    torch.set_num_threads(1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=image_size))
    space, seen = CNNSpace(max_blocks=6, max_width=24), set()
    draw = random.Random(image_size)
    for _ in range(20):
        trial = study.ask()
        channels, n_classes = draw.choice([1, 3]), draw.choice([2, 5])
        network = optuna_cnn(trial, channels, image_size, n_classes, space)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        logits = network(torch.rand(2, channels, image_size, image_size))
        assert logits.shape == (2, 1 if n_classes == 2 else 5)
        logits.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())
        study.tell(trial, 0.0)
        stored = study.trials[-1]
        for again in (trial, stored):
            rebuilt = create_cnn_from_trial(again, channels, image_size, n_classes, space)
            assert str(rebuilt) == str(network)
            assert all(torch.equal(value, before[name]) for name, value in rebuilt.state_dict().items())
        seen.add(str(network))
    assert len(seen) > 16
    assert {trial.params["model.n_blocks"] for trial in study.trials} == set(
        range(1, min(6, image_size.bit_length() - 2) + 1)
    )


def test_a_trial_of_something_else_is_no_network():
    study = optuna.create_study()
    study.tell(study.ask(), 0.0)
    with pytest.raises(UserError, match="trial 0: no CNN of 32 pixels in its parameters"):
        create_cnn_from_trial(study.trials[0], 1, 32, 2)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"min_blocks": 5}, "min_blocks <= max_blocks"),
        ({"kernels": (3, 4)}, "odd sizes as kernels"),
        ({"norms": ("batch", "layer")}, "norms of batch, instance, none"),
        ({"max_blocks": 2.5}, "whole numbers"),
    ],
)
def test_a_space_whose_bounds_make_no_sense_is_refused(bounds, expected):
    assert expected in CNNSpace(**bounds).problem()


def test_a_space_suggests_only_what_it_is_narrowed_to():
    bounds = {"min_blocks": 3, "max_blocks": 3, "min_width": 12, "max_width": 14, "max_dense": 0}
    space = CNNSpace(**bounds, kernels=(3,), norms=("batch",)).for_image_size(64)
    for seed in range(5):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
        suggested = space.suggest(trial, "model").keywords
        assert (suggested["kernels"], suggested["norm"], suggested["dense"]) == ((3, 3, 3), "batch", ())
        assert all(12 <= width <= 14 for width in suggested["widths"])


def test_the_space_follows_the_image_size_of_its_config_and_the_winning_config_is_read_back(tmp_path):
    small, large = replace(CONFIG, image_size=16), replace(CONFIG, image_size=64)
    assert (small.model.image_size, large.model.image_size) == (16, 64)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = resolve(small, study.ask())
    assert found.model.func is CNN
    (tmp_path / "best_config.py").write_text(to_source(found))
    again = load_config(tmp_path / "best_config.py", TrainingConfig)
    assert to_source(again) == to_source(found)
    assert (again.model.keywords, again.batch_size) == (found.model.keywords, found.batch_size)
    assert first_values(small).model.keywords["widths"] == (8,)


def test_a_search_of_networks_by_dev_mcc_prunes_and_the_winner_is_retrained_on_all_but_the_test_set(table):
    fit = fit_on(table, FOLD, set_up("cpu", "fp32"), Stream(0))
    pruner = optuna.pruners.PercentilePruner(25, n_startup_trials=1)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1), pruner=pruner)
    study.optimize(lambda trial: cnn_objective(trial, CONFIG, fit), n_trials=8)
    assert study.best_value > 0.8
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}

    rest = Fold(0, 0, np.concatenate([FOLD.train, FOLD.dev]), np.array([], int), FOLD.test)

    def accuracy(network):
        return {"accuracy": float((test_model(network, table, FOLD.test).argmax(1) == table.labels[FOLD.test]).mean())}

    again = fit_on(table, rest, set_up("cpu", "fp32"), Stream(0))
    network, scores = retrain_and_eval(study.best_trial, CONFIG, again, accuracy)
    assert scores["accuracy"] > 0.8
    assert type(network.backbone) is CNN


class Linear(torch.nn.Module):
    """A network of one's own, as a participant writes it."""

    def __init__(self, input_shape, n_classes, width=16):
        super().__init__()
        self.width = width
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(int(np.prod(input_shape)), width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, n_classes),
        )

    def forward(self, images):
        return self.layers(images)


class WithItsOwnSteps(Linear):
    """Trains itself, in Lightning's terms."""

    calls = ()

    def training_step(self, batch):
        images, labels = batch
        type(self).calls += ("training",)
        return torch.nn.functional.cross_entropy(self(images), labels)

    def validation_step(self, batch):
        type(self).calls += ("validation",)
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.Adagrad(self.parameters(), lr=0.05)
        return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, 0.5)}


@pytest.mark.parametrize("model", [Linear, partial(Linear, width=20), Linear((1, 16, 16), 3, width=24)])
def test_any_module_may_be_named_by_class_partial_or_instance_and_its_weights_are_seeded(model, table):
    config, compute = replace(CONFIG, model=model, schedulers=()), set_up("cpu", "fp32")
    first, again, other = (new_model(config, table, compute, Stream(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("layer", [nn.Linear(4, 2), nn.Linear(4, 2, bias=False), nn.Conv2d(1, 4, 3, stride=2)])
def test_a_layer_of_pytorch_is_built_again_and_written_from_what_it_keeps(layer):
    again = build_module(layer, (4,), 2)
    assert repr(again) == repr(layer) == repr(build_module(from_record(as_record(layer)), (4,), 2))
    assert f"bias={layer.bias is not None}" in to_source(TrainingConfig(model=layer))


def test_a_module_with_lightnings_steps_trains_with_its_own(table):
    config = replace(CONFIG, model=WithItsOwnSteps, schedulers=(), batch_size=8, learning_rate=1e-2, epochs=3)
    rates = []
    network = new_model(config, table, set_up("cpu", "fp32"), Stream(0))
    optimizer = make_optimizer(network, AdamW(), 1e-2, 0.0)
    assert type(optimizer) is torch.optim.Adagrad
    train_and_validate_model(
        network, table, FOLD, optimizer, 3, config, Stream(0), lambda m, _: rates.append(m.get("learning_rate"))
    )
    assert {"training", "validation"} == set(WithItsOwnSteps.calls)
    assert [rate for rate in rates if rate] == [0.05, 0.05, 0.025, 0.0125]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (partial(Linear, widht=3), "model Linear: cannot be built for inputs of shape .* unexpected keyword"),
        (partial(torch.nn.Conv2d, 3, 4, 3), "model Conv2d: does not take inputs of shape"),
        (partial(torch.nn.Flatten), "model Flatten: expected logits .* for 3 classes, found"),
        (dict, "model dict: expected a class of nn.Module, a partial of one, or an instance"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_one_line(model, message, table):
    with pytest.raises(UserError, match=message):
        new_model(replace(CONFIG, model=model, schedulers=()), table, set_up("cpu", "fp32"), Stream(0))
