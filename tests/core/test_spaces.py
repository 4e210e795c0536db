"""Spaces in a config: their names, what a study asks for, and that the best parameters give the winning config."""

from dataclasses import dataclass, field
from typing import Any

import optuna
import pytest

from common.config.places import find_spaces, resolve
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.config.spaces import Categorical, FieldError, Float, HyperParameter, Int


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 0.1


@dataclass(frozen=True)
class Layer:
    width: int = 8


@dataclass(frozen=True)
class Network:
    optimizer: Any = Optimizer()
    layers: list = field(default_factory=list)
    params: dict = field(default_factory=dict)


EVERYWHERE = Network(
    optimizer=Categorical(
        [
            AdamW(beta1=Float(0.8, 0.95)),
            SGD(momentum=Float(0.5, 0.99), nesterov=Categorical([True, False])),
            SGD(momentum=Float(0.1, 0.2, step=0.05)),
            Optimizer,
            None,
        ]
    ),
    layers=[Layer(Int(16, 256, log=True)), (Layer(Int(2, 8, step=2)), "relu")],
    params={"batch_size": Int(1, 64, name="batch"), "kernel": Categorical([[3, 3], [5, 5]]), "rate": Float(0.0, 0.6)},
)


@pytest.fixture
def study(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0)
    return optuna.create_study(storage=f"sqlite:///{tmp_path / 'optuna.db'}", sampler=sampler, direction="maximize")


def test_a_parameter_is_named_by_its_path_unless_it_has_a_name():
    assert list(find_spaces(Network(optimizer=Optimizer(Float(0, 1))))) == ["optimizer.learning_rate"]
    assert list(find_spaces(EVERYWHERE)) == [
        "optimizer",
        "optimizer.AdamW.beta1",
        "optimizer.SGD_1.momentum",
        "optimizer.SGD_1.nesterov",
        "optimizer.SGD_2.momentum",
        "layers.0.width",
        "layers.1.0.width",
        "batch",
        "params.kernel",
        "params.rate",
    ]


def test_a_study_asks_only_for_the_chosen_alternative_and_its_best_parameters_give_the_winning_config(study):
    configs = {}

    def objective(trial):
        config = configs[trial.number] = resolve(EVERYWHERE, trial)
        assert find_spaces(config) == {}
        return config.layers[0].width + config.params["rate"] + 1000 * isinstance(config.optimizer, SGD)

    study.optimize(objective, n_trials=20)

    chosen = {trial.params["optimizer"] for trial in study.trials}
    assert len(chosen) > 2
    for trial in study.trials:
        own = {name for name in trial.params if name.startswith("optimizer.")}
        assert own == {
            name for name in find_spaces(EVERYWHERE) if name.startswith(f"optimizer.{trial.params['optimizer']}.")
        }
        assert resolve(EVERYWHERE, trial) == configs[trial.number]
    best = resolve(EVERYWHERE, optuna.trial.FixedTrial(study.best_params))
    assert best == configs[study.best_trial.number]
    assert isinstance(best.optimizer, SGD)
    assert type(best.layers[1]) is tuple


@pytest.mark.parametrize(
    ("choices", "labels"),
    [
        ([None, True, 2, 0.5, "relu"], (None, True, 2, 0.5, "relu")),
        ([None, Augmentation(), AdamW], (None, "Augmentation", "AdamW")),
        ([SGD(), SGD(momentum=0.5), AdamW()], ("SGD_0", "SGD_1", "AdamW")),
        (["SGD", SGD()], ("SGD", "SGD_1")),
        ([[64], (64, 32), {"a": 1}, Float(0, 1)], ("[64]", "(64, 32)", "{'a': 1}", "Float")),
    ],
)
def test_what_a_study_cannot_hold_goes_by_a_label_that_depends_on_the_choices_alone(choices, labels):
    assert Categorical(choices).labels == labels == Categorical(list(choices)).labels


def test_a_config_without_spaces_resolves_to_itself():
    config = TrainingConfig(optimizer=SGD())
    assert resolve(config, None) == config


@pytest.mark.parametrize(
    "space",
    [
        Float(1, 0),
        Float("0", 1),
        Float(0, float("inf")),
        Float(float("nan"), 1),
        Float(0, 1, log=True),
        Float(0.1, 1, log="yes"),
        Float(0.1, 1, log=True, step=0.1),
        Float(0, 1, step=0),
        Int(2, 1),
        Int(1, 2.0),
        Int(True, 2),
        Int(0, 8, log=True),
        Int(1, 8, log=True, step=2),
        Int(1, 8, step=0),
        Categorical([]),
        Categorical("abc"),
        Categorical(["a", "b", "a"]),
        Categorical([1, True]),
        Categorical([SGD(), SGD()]),
        Categorical(["SGD_1", SGD(), SGD(momentum=0.5)]),
        Categorical([1, float("nan")]),
        Float(0, 1, name=""),
        Float(0, 1, name="a=b"),
        Float(0, 1, name=3),
    ],
    ids=repr,
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_place_and_value(space):
    with pytest.raises(FieldError) as error:
        find_spaces(Network(params={"rate": space}))
    assert str(error.value).startswith("Network.params.rate: expected ")
    assert repr(space) in str(error.value)
    with pytest.raises(FieldError, match=r"Network\.params\.rate.*: expected "):
        find_spaces(Network(params={"rate": Categorical([None, space])}))


@pytest.mark.parametrize(
    "config",
    [
        Network(params={"a": Float(0, 1, name="rate"), "b": Float(0, 1, name="rate")}),
        Network(params={"a": Float(0, 1, name="params.b"), "b": Int(0, 1)}),
        Network(params={"a.b": Float(0, 1), "a": {"b": Float(0, 1)}}),
        Network(optimizer=Categorical([AdamW(beta1=Float(0, 0.5, name="m")), SGD(momentum=Float(0.1, 0.5, name="m"))])),
    ],
)
def test_two_spaces_of_one_name_are_refused(config):
    with pytest.raises(FieldError, match="expected a name of its own"):
        resolve(config, optuna.trial.FixedTrial({}))


def test_the_older_form_is_the_same_space():
    assert HyperParameter(method="suggest_float", name="lr", kwargs={"low": 1e-5, "high": 1e-1, "log": True}) == Float(
        1e-5, 1e-1, log=True, name="lr"
    )
    method = optuna.trial.Trial.suggest_int
    assert HyperParameter(method=method, name="n", kwargs={"low": 1, "high": 9}) == Int(1, 9, name="n")
    space = HyperParameter(method="suggest_categorical", name="c", kwargs={"choices": ["a", "b"]})
    assert space == Categorical(["a", "b"], name="c")
    with pytest.raises(FieldError, match=r"HyperParameter.method.*'suggest_flot'"):
        HyperParameter(method="suggest_flot", name="lr", kwargs={})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", True),
        ("batch_size", 32.0),
        ("batch_size", 0),
        ("batch_size", Categorical([16, "32"])),
        ("batch_size", Float(16, 32)),
        ("image_size", Int(8, 64)),
        ("dropout_rate", 1.0),
        ("dropout_rate", Float(0.5, 1)),
        ("learning_rate", 0),
        ("learning_rate", "1e-3"),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", Float(0, 1e-2)),
        ("weights", None),
        ("optimizer", "SGD"),
        ("optimizer", SGD),
        ("optimizer", Categorical([AdamW(), Augmentation()])),
        ("augmentation", Categorical([None, 0.5])),
        ("augmentation", False),
    ],
)
def test_a_setting_refuses_a_wrong_type_and_a_value_or_extreme_out_of_range(name, value):
    with pytest.raises(FieldError) as error:
        TrainingConfig(**{name: value})
    assert str(error.value).startswith(f"TrainingConfig.{name}: expected ")
    assert repr(value) in str(error.value)


def test_settings_take_ints_for_floats_and_spaces_at_any_depth():
    TrainingConfig(dropout_rate=0, learning_rate=1, weight_decay=Int(0, 1), epochs=0, image_size=Int(16, 1024))
    TrainingConfig(augmentation=Categorical([None, Augmentation(rotation=Float(0, 180)), Augmentation(flip=1)]))


def test_nesterov_is_refused_where_momentum_may_be_zero():
    for momentum in (0, 0.0, Float(0, 0.9), Categorical([0.0, 0.9])):
        with pytest.raises(FieldError, match=r"SGD.momentum: expected above 0 with nesterov=True"):
            SGD(momentum=momentum)
        SGD(momentum=momentum, nesterov=False)
