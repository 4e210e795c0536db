"""Config files with `params`: what they become, what is searched in them, and what each mistake is told as."""

import json
import os
from argparse import Namespace
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import FixedTrial
from torch import nn
from torchvision.transforms import v2

from common.cli import UserError
from common.config import (
    Categorical,
    Float,
    Int,
    TrainingConfig,
    find_spaces,
    first_values,
    load_config,
    load_experiment,
    resolve,
    to_source,
)
from common.data import sources
from common.data.folding import random_fold
from common.data.images import decode
from common.model.classifier import load_classifier, make_classifier, save_classifier
from common.params import from_params, idx
from common.params.configurable import Preparation
from common.seeds import Stream
from common.state import PROJECT
from common.tracking.identity import identity
from common.training import fit_on, test_model
from common.training.compute import Compute
from common.training.optimizers import Schedules, make_optimizer

OWN = PROJECT / "step_5" / "configs" / "fashion_mnist.py"


@pytest.fixture
def variant(tmp_path):
    """Writes the project's own config with one text in place of another."""

    def write(old, new):
        text = OWN.read_text()
        assert text.count(old) == 1, old
        path = tmp_path / "mine.py"
        path.write_text(text.replace(old, new))
        return path

    return write


def small(**changes):
    """`params` of a small network."""
    layers = [{"class": nn.Conv2d, "kwargs": {"in_channels": 1, "out_channels": 4, "kernel_size": 3}}]
    sizes = {"image_height": 16, "image_width": 16, "is_image_color": False, "n_classes": 10}
    training = {"batch_size": 8, "num_epochs": 2, "optim_class": torch.optim.SGD, "learning_rate": 0.1}
    return {"net_arch": layers, **sizes, **training, **changes}


def classifier(config, shape=(1, 16, 16)):
    return make_classifier(Stream(0), 10, shape, model=config.model)


def test_the_projects_own_config_is_what_its_params_say():
    (config,), defaults = load_experiment(OWN)
    assert (defaults["data"], defaults["seed"], defaults["device"]) == ("digits", 0, "auto")
    assert (config.image_size, config.batch_size, config.epochs, config.warmup_epochs) == (28, 32, 8, 0)
    network = make_classifier(Stream(0), 10, (1, 28, 28), model=config.model, transforms=config.transforms)
    optimizer = make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
    assert type(optimizer) is torch.optim.SGD
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.1, 1e-2)
    schedules = Schedules(network, optimizer, config)
    optimizer.step()
    for _ in range(5):
        schedules.step(1.0)  # no better than before: the rate falls tenfold once
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.99**5 * 0.1)


FIRST = '"manual_seed": 0'
EXTRA = '"additional_transforms": [__import__("torchvision").transforms.v2.Pad(1)]'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"batch_size": 32', '"btach_size": 32', ("params.btach_size: ", "a known key", "did you mean `batch_size`?")),
        ('"batch_size": 32,\n', "", "params: expected the key batch_size, found none"),
        ('"batch_size": 32', '"batch_size": "32"', "params.batch_size: expected int of at least 1, found '32'"),
        ('"batch_size": 32', '"batch_size": Int(0, 9)', "expected int of at least 1, found 0 as low of Int(0, 9)"),
        ('"normalise_mean": [0.5]', '"normalise_mean": [0.5] * 3', "normalise_mean: expected 1, one per channel, f"),
        ('"normalise_std": [0.5]', '"normalise_std": [0]', "params.normalise_std: expected numbers above 0, found 0"),
        ('"normalise_mean": [0.5],', "", "params.normalise_mean: expected a list of numbers, since normalise_images"),
        ('{"patience": 3}', '{"verbose": True}', "verbose: expected it to be left out: PyTorch"),
        ('{"patience": 3}', '{"patient": 3}', "learning_rate_schedule: ReduceLROnPlateau cannot be made (Reduce"),
        ('{"class": ExponentialLR', '{"class": "ExponentalLR"', "'ExponentalLR'; did you mean `ExponentialLR`?"),
        ('{"weight_decay": 1e-2}', '{"weight_dcay": 1}', "params.optim_kwargs: SGD cannot be made (SGD.__init__() got"),
        ('{"weight_decay": 1e-2}', '{"lr": 1}', "params.optim_kwargs.lr: expected it as learning_rate"),
        ('"mode": "train"', '"mode": "test"', "params.mode: expected 'train', found 'test'"),
        ('"device": "auto"', '"device": "gpu"', "device: expected 'auto' or 'cpu' or 'cuda' or 'mps', found 'gpu'"),
        (FIRST, '"manual_seed": 2**63', "params.manual_seed: expected int of at least 0 and below 9223372036854775808"),
        (FIRST, '"manual_seed": Int(0, 9)', "params.manual_seed: expected a value, which is the same in all"),
        (FIRST, '"additional_transforms": ["Pad"]', "expected modules, classes or partials of them, found 'Pad'"),
        (FIRST, EXTRA, "params.additional_transforms: expected images of 1 x 28 x 28 after them, found 1 x 30 x 30"),
        ("*block(32, 64, 4), ", "*block(32, 64, 4), " * 2, "net_arch, layer 9 (Conv2d): found 64 channels of 7 x 7"),
        ("params = {", "config = 1\nparams = {", "expected either `config` or `params`, found both"),
        ("params = {", "params = 1\nothers = {", "params: expected a dict, found 1"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(old, new, told, variant):
    path = variant(old, new.replace("Int(", "__import__('common.search').search.Int("))
    with pytest.raises(UserError) as error:
        load_experiment(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert all(part in message for part in ([told] if isinstance(told, str) else told)), message


def test_a_mistake_is_told_with_the_line_of_its_key(variant):
    for old, new in [('"flip_images": False', '"flip_images": 1'), ('{"patience": 3}', '{"verbose": 1}')]:
        path = variant(old, new)
        with pytest.raises(UserError) as error:
            load_experiment(path)
        line = int(str(error.value).removeprefix(f"{path}:").split(":")[0])
        assert new in path.read_text().splitlines()[line - 1]


def test_any_value_of_training_may_be_searched():
    wide = [{"class": nn.LazyConv2d, "kwargs": {"out_channels": Int(2, 6), "kernel_size": 3}}]
    falling = [{"class": "ExponentialLR", "kwargs": {"gamma": Float(0.5, 0.9, name="gamma")}}]
    searched = {
        "net_arch": Categorical([small()["net_arch"], wide]),
        "batch_size": Int(4, 8),
        "num_epochs": Int(1, 3),
        "image_height": Int(16, 24),
        "flip_images": Categorical([False, True]),
        "normalise_images": Categorical([True, False]),
        "normalise_mean": [Float(0.1, 0.9)],
        "normalise_std": [0.5],
        "optim_class": Categorical([torch.optim.SGD, torch.optim.AdamW]),
        "optim_kwargs": {"weight_decay": Float(1e-4, 1e-2, log=True)},
        "learning_rate": Float(1e-3, 1e-1, log=True),
        "learning_rate_schedule": Categorical([[], falling]),
    }
    config = from_params(small(**searched))
    assert (config.image_size, config.patience) == (24, 3)
    values = {name: space.extremes()[-1][1] for name, space in find_spaces(config).items()}
    labels = {name: space.labels[-1] for name, space in find_spaces(config).items() if isinstance(space, Categorical)}
    chosen = resolve(config, FixedTrial({**values, **labels}))
    network = classifier(chosen, (3, 24, 24))
    optimizer = make_optimizer(network, chosen.optimizer, chosen.learning_rate, chosen.weight_decay)
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["weight_decay"] == 1e-2
    (schedule,) = Schedules(network, optimizer, chosen).schedulers
    assert schedule.gamma == 0.9 and (chosen.batch_size, chosen.epochs) == (8, 3)
    assert network.backbone.classifier.layers[0].out_channels == 6
    assert network.backbone.preparation.size == (24, 16) and network.backbone.preparation.flip_probability == 0.5


def test_a_network_and_its_config_read_back_as_they_were_written(tmp_path):
    transforms = [v2.Pad(1), partial(v2.CenterCrop, size=[16, 18])]
    config = from_params(small(additional_transforms=transforms, image_width=18))
    network = classifier(config, (3, 18, 18)).eval()
    save_classifier(network, tmp_path / "model.safetensors")
    images = torch.randint(0, 256, (4, 3, 18, 18), dtype=torch.uint8)
    assert torch.equal(load_classifier(tmp_path / "model.safetensors")(images), network(images))
    (tmp_path / "best_config.py").write_text(to_source(first_values(config)))
    again = load_config(tmp_path / "best_config.py", TrainingConfig)
    assert torch.equal(classifier(again, (3, 18, 18)).eval()(images), network(images))
    assert to_source(again) == to_source(config)


def test_a_config_is_told_by_words_that_are_the_same_in_each_process(digits):
    (config,), _ = load_experiment(OWN)
    parts = identity(5, Namespace(seed=0), digits, [], config, Compute("cpu", "fp32", 1))
    assert " at 0x" not in json.dumps(parts) and "SGD" in parts["settings.optimizer.optim_class"]
    assert "ExponentialLR'>, gamma=0.99" in parts["settings.schedulers"]


def test_images_are_prepared_as_params_say():
    images = torch.rand(40, 3, 20, 10)
    grey = Preparation(12, 10, False, normalise_images=True, normalise_mean=[0.5], normalise_std=[0.25])(images)
    expected = (v2.functional.rgb_to_grayscale(images[:, :, 4:16]) - 0.5) / 0.25
    assert torch.allclose(grey, expected)
    assert torch.equal(Preparation(20, 10, True)(images[:, :1]), images[:, :1].expand(-1, 3, -1, -1))
    flips = Preparation(20, 10, True, flip_images=True, flip_probability=0.5)
    flipped = flips(images)
    ways = {dims: (flipped == images.flip(dims)).all((1, 2, 3)).sum().item() for dims in ((), (3,), (2,), (2, 3))}
    assert sum(ways.values()) == 40 and min(ways.values()) > 2, ways  # each of the two for itself
    assert torch.equal(flips.eval()(images), images)


@pytest.mark.parametrize("mode", ["notebook", "script"])
def test_what_the_older_systems_files_hold_is_taken(mode, variant):
    (labelled,), _ = load_experiment(variant('{"class": ExponentialLR', '{"name": "Falling", "class": ExponentialLR'))
    (config,), _ = load_experiment(OWN)
    assert to_source(labelled) == to_source(config)
    path = variant('"mode": "train"', f'"mode": "{mode}", "additional_transforms": None')
    (again,), _ = load_experiment(path)
    assert len(classifier(again, (1, 28, 28)).backbone.preparation.transforms) == 0


@pytest.mark.parametrize("random", [v2.RandomRotation(90), v2.ColorJitter(0.9)])
def test_random_transforms_change_each_training_image_for_itself_and_no_others(random):
    same = torch.rand(1, 3, 16, 16).expand(20, -1, -1, -1)
    preparation = Preparation(16, 16, True, additional_transforms=[random])
    assert len(torch.unique(preparation(same), dim=0)) > 1
    assert torch.equal(preparation.eval()(same), same)


def test_two_classes_give_one_logit_with_the_probabilities_of_the_network():
    model = from_params(small(n_classes=2)).model
    network = make_classifier(Stream(0), 2, (1, 16, 16), model=model).eval()
    images = torch.rand(5, 1, 16, 16)
    assert network(images).shape == (5,)
    assert torch.allclose(torch.sigmoid(network(images)), network.backbone.classifier(images)[:, 1])
    with pytest.raises(UserError, match=r"params\.n_classes: expected 3, as the images have, found 2"):
        make_classifier(Stream(0), 3, (1, 16, 16), model=model)


def test_messaging_keys_go_to_the_environment_unless_they_are_there(variant, monkeypatch):
    monkeypatch.setenv("KAFKA_TOPIC", "mine")
    monkeypatch.setenv("KAFKA_HOST", "")
    monkeypatch.delenv("KAFKA_HOST")
    load_experiment(variant('"mode": "train"', '"KAFKA_HOST": "localhost:9092", "KAFKA_TOPIC": "training"'))
    assert (os.environ["KAFKA_HOST"], os.environ["KAFKA_TOPIC"]) == ("localhost:9092", "mine")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    idx.make_digits(folder)
    return sources._scan("digits", folder / "train")


def test_evaluations_come_as_often_as_params_say(digits):
    table = decode(digits, 16)
    fold = random_fold(table, Stream(0))
    seen = []
    fit = fit_on(table, replace(fold, train=fold.train[:40]), Compute("cpu", "fp32", 1), Stream(0))
    fit(from_params(small(num_epochs=5, eval_freq=2)), lambda score, epoch: seen.append(epoch))
    assert seen == [0, 2, 4, 5]


def test_the_projects_own_config_learns_the_digits(digits):
    (config,), _ = load_experiment(OWN)
    table = decode(digits, 28)
    fold = random_fold(table, Stream(0))
    fit = fit_on(table, fold, Compute("cpu", "fp32", 1), Stream(0))
    network, _ = fit(replace(config, epochs=2), lambda *_: None)
    found = test_model(network, table, fold.test).argmax(1)
    assert (found == table.labels[fold.test]).mean() > 0.9


@pytest.mark.slow
def test_the_projects_own_config_trains_with_nothing_prepared_to_an_accuracy_of_at_least_095(run_script, project):
    done = run_script("step_5/train.py", project / "step_5/configs/fashion_mnist.py", "--json")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    table = pd.read_csv(client.download_artifacts(run_id, "predictions.csv"))
    test = table[table["part"] == "test"]
    assert (test["label"] == test["prediction"]).mean() >= 0.95
