"""Networks from `net_arch`: the sample configuration as users have it, what is refused, and the losses."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from common.cli import UserError
from common.params import build_classifier, set_seeds
from common.seeds import Stream


def block(n_in, n_out, kernel_size, **kwargs):
    sizes = {"in_channels": n_in, "out_channels": n_out, "kernel_size": kernel_size, **kwargs}
    return [
        {"class": nn.Conv2d, "kwargs": sizes},
        {"class": nn.BatchNorm2d, "kwargs": {"num_features": n_out}},
        {"class": nn.ELU, "kwargs": {}},
        {"class": nn.MaxPool2d, "kwargs": {"kernel_size": 2, "stride": 1}},
    ]


FIRST = [*block(1, 32, 5, stride=2), *block(32, 64, 4)]
LAST = [*block(64, 128, 3), *block(128, 256, 3)]


def params(net_arch, **changes):
    sample = {"net_arch": net_arch, "image_height": 28, "image_width": 28, "is_image_color": False, "n_classes": 10}
    return {**sample, **changes}


def refusal(*args, **changes):
    with pytest.raises(UserError) as error:
        build_classifier(params(*args, **changes))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("repeated", "told"),
    [
        (
            block(32, 64, 4),
            "net_arch, layer 9 (Conv2d): found 64 channels of 7 x 7 pixels from layer 8 (MaxPool2d), "
            "expected 32 channels (in_channels)",
        ),
        (
            block(64, 64, 4),
            "net_arch, layer 16 (MaxPool2d): found 128 channels of 1 x 1 pixels from layer 15 (ELU), "
            "expected at least 2 x 2 pixels (kernel_size 2 x 2)",
        ),
    ],
    ids=["its channels", "its size"],
)
def test_the_sample_is_refused_where_its_repeated_block_does_not_fit(repeated, told):
    assert refusal([*FIRST, *repeated, *LAST]) == told


@pytest.fixture
def network():
    return build_classifier(params([*FIRST, *LAST]), Stream(0))


def test_the_sample_without_the_repeated_block_gives_probabilities(network):
    images = torch.randn(5, 1, 28, 28)
    probabilities = network.eval()(images)
    assert probabilities.shape == (5, 10)
    assert (probabilities >= 0).all() and torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.allclose(network.log_probabilities(images).exp(), probabilities)
    assert torch.equal(network(torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)), network(torch.ones(1, 1, 28, 28)))


def test_what_was_run_to_find_the_sizes_leaves_no_trace(network):
    assert network.training and network.layers[1].training
    assert network.layers[1].num_batches_tracked == 0 and (network.layers[1].running_var == 1).all()
    assert all(weight.requires_grad for weight in network.parameters())
    state = torch.random.get_rng_state()
    again = build_classifier(params([*FIRST, *LAST]), Stream(0))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_the_first_weights_are_those_of_the_manual_seed_and_other_draws_stay_as_they_were():
    set_seeds(1)
    drawn = random.random(), np.random.random(), torch.rand(1).item()
    set_seeds(1)
    first, other = (build_classifier(params([*FIRST, *LAST], manual_seed=seed)).state_dict() for seed in (17, 18))
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn
    again = build_classifier(params([*FIRST, *LAST], manual_seed=17)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])
    assert refusal([], manual_seed=-1) == "manual_seed: expected a whole number of at least 0, found -1"


def test_the_cross_entropy_of_the_probabilities_learns_too(network):
    labels = torch.arange(10).repeat(4)
    noise = torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images = labels.view(-1, 1, 1, 1) / 10 + 0.01 * noise
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = nn.CrossEntropyLoss()(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


def test_log_probabilities_stay_finite_and_teach_where_a_probability_is_zero(network):
    with torch.no_grad():
        network.layers[-1].bias[0] += 1000
    images, labels = torch.randn(4, 1, 28, 28), torch.ones(4, dtype=torch.int64)
    assert (network(images)[:, 1] == 0).all()
    loss = nn.NLLLoss()(network.log_probabilities(images), labels)
    loss.backward()
    assert math.isfinite(loss.item()) and network.layers[-1].bias.grad[1] == -1
    assert nn.NLLLoss()(network.log_probabilities(images), labels - 1) == 0


def test_classes_are_objects_or_names_of_torch_nn_and_colour_has_three_channels():
    conv = {"kwargs": {"in_channels": 3, "out_channels": 2, "kernel_size": 3}}
    for name in (nn.Conv2d, "Conv2d", "torch.nn.Conv2d"):
        sizes = {"image_height": 8, "image_width": 5, "is_image_color": True}
        network = build_classifier(params([{"class": name, **conv}], **sizes))
        assert network(torch.zeros(1, 3, 8, 5)).shape == (1, 10)
        assert network.layers[-1].in_features == 2 * 6 * 3
    lazy = [{"class": "LazyConv2d", "kwargs": {"out_channels": 4, "kernel_size": 3}}, {"class": "ReLU"}]
    for layers in ([], lazy):
        assert build_classifier(params(layers))(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


IN = "found 1 channels of 28 x 28 pixels from layer 1 (Identity), expected"


@pytest.mark.parametrize(
    ("kind", "kwargs", "problem"),
    [
        ("Conv2", {}, ": class 'Conv2': expected a class of torch.nn; did you mean `Conv2d`?"),
        ("os.system", {}, ": class 'os.system': expected a class of torch.nn"),
        (dict, {}, ": class <class 'dict'>: expected a class of torch.nn"),
        ("ELU", [1], " (ELU): kwargs: expected a dict with some of alpha, inplace, found [1]"),
        ("ELU", {"beta": 1}, " (ELU): kwargs: ELU.__init__() got an unexpected keyword"),
        (
            "Conv2d",
            {"in_channels": 1, "out_channels": 4, "kernel_size": 31, "padding": 1},
            f" (Conv2d): {IN} at least 29 x 29 pixels (kernel_size 31 x 31)",
        ),
        ("BatchNorm2d", {"num_features": 8}, f" (BatchNorm2d): {IN} 8 channels"),
        ("Linear", {"in_features": 784, "out_features": 4}, f"{IN} 784 values in the last dimension (in_features)"),
        ("BatchNorm1d", {"num_features": 1}, f" (BatchNorm1d): {IN} what fits it: expected 2D or 3D input"),
        ("Flatten", {"start_dim": 0}, "makes a tensor of (1568,) of a batch of 2, expected values"),
        ("LSTM", {"input_size": 28, "hidden_size": 2}, " (LSTM): found 1 channels of 28"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_by_its_number_and_class(kind, kwargs, problem):
    told = refusal([{"class": "Identity"}, {"class": kind, "kwargs": kwargs}])
    assert told.startswith("net_arch, layer 2") and problem in told


@pytest.mark.parametrize("layer", ["Conv2d", {"class": "ELU", "kwarg": {}}])
def test_a_layer_is_a_class_and_its_arguments(layer):
    assert refusal([layer]).startswith("net_arch, layer 1: expected {'class': ..., 'kwargs': {...}}, found ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_width": 2.5}, "image_width: expected a whole number of at least 1, found 2.5"),
        ({"n_classes": True}, "n_classes: expected a whole number of at least 2, found True"),
        ({"is_image_color": None}, "is_image_color: expected True or False, found None"),
        ({"net_arch": {"class": "ELU"}}, "net_arch: expected a list of {'class': ..., 'kwargs': {...}}"),
    ],
)
def test_settings_that_are_missing_or_wrong_are_named(changes, problem):
    assert problem in refusal(**{"net_arch": [], **changes})
