"""Spaces in a config: their names, what a study asks for, and that the best parameters give the winning config."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import pytest
from test_bad_input import BEFORE

from common.config.places import find_spaces, resolve
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.config.spaces import Categorical, FieldError, Float, HyperParameter, Int
from common.plots.visualizer import study_plots


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
        own = [name for name in find_spaces(EVERYWHERE) if name.startswith(f"optimizer.{trial.params['optimizer']}.")]
        assert {name for name in trial.params if name.startswith("optimizer.")} == set(own)
        assert resolve(EVERYWHERE, trial) == configs[trial.number]
    best = resolve(EVERYWHERE, optuna.trial.FixedTrial(study.best_params))
    assert best == configs[study.best_trial.number]
    assert isinstance(best.optimizer, SGD)
    assert type(best.layers[1]) is tuple


@pytest.mark.parametrize(
    ("choices", "labels"),
    [
        ([None, True, 2, 0.5, "relu"], (None, True, 2, 0.5, "relu")),
        (["SGD", SGD(), SGD(momentum=0.5), AdamW], ("SGD", "SGD_1", "SGD_2", "AdamW")),
        ([[64], (64, 32), {"a": 1}, Float(0, 1)], ("[64]", "(64, 32)", "{'a': 1}", "Float")),
    ],
)
def test_what_a_study_cannot_hold_goes_by_a_label_that_depends_on_the_choices_alone(choices, labels):
    assert Categorical(choices).labels == labels == Categorical(list(choices)).labels


NO_RANGES = [Float(1, 0), Float("0", 1), Float(0, float("inf")), Int(1, 2.0), Int(True, 2)]
NO_SCALES = [Float(0, 1, log=True), Float(0.1, 1, log="yes"), Float(0.1, 1, log=True, step=0.1), Float(0, 1, step=0)]
NO_CHOICES = [[], "abc", [1, True], [SGD(), SGD()], ["SGD_1", SGD(), SGD(momentum=0.5)], [1, float("nan")]]
NO_NAMES = ["", "a=b", 3, "x" * 251, "..", "..a", "a\nb"]
UNKEPT = [Int(0, 10**400), Int(0, 9, step=10**30), Float(0, 1, step=1e-300), Float(1e-320, 1, log=True)]
UNKEPT += [Float(0, 10**400), Float(7.0, 7.000000000000001), Categorical(["a", "\ud800"])]
"""What a sampler or a database could not hold."""


@pytest.mark.hostile(BEFORE)
@pytest.mark.parametrize(
    "space",
    [
        *(NO_RANGES + NO_SCALES + UNKEPT),
        *(Categorical(choices) for choices in NO_CHOICES),
        *(Float(0, 1, name=name) for name in NO_NAMES),
    ],
    ids=lambda space: repr(space)[:60],
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_place_and_value(space):
    with pytest.raises(FieldError) as error:
        find_spaces(Network(params={"rate": space}))
    assert str(error.value).startswith("Network.params.rate: expected ")
    assert f"{space!r:.300}" in str(error.value)
    with pytest.raises(FieldError, match=r"Network\.params\.rate.*: expected "):
        find_spaces(Network(params={"rate": Categorical([None, space])}))


@pytest.mark.parametrize(
    "config",
    [
        Network(params={"a": Float(0, 1, name="rate"), "b": Float(0, 1, name="rate")}),
        Network(params={"a": Float(0, 1, name="params.b"), "b": Int(0, 1)}),
        Network(optimizer=Categorical([AdamW(beta1=Float(0, 0.5, name="m")), SGD(momentum=Float(0.1, 0.5, name="m"))])),
    ],
)
def test_two_spaces_of_one_name_are_refused(config):
    with pytest.raises(FieldError, match="expected a name of its own"):
        resolve(config, optuna.trial.FixedTrial({}))


def test_the_older_form_is_the_same_space():
    def older(method, **kwargs):
        return HyperParameter(method=method, name="x", kwargs=kwargs)

    assert older("suggest_float", low=1e-5, high=1e-1, log=True) == Float(1e-5, 1e-1, log=True, name="x")
    assert older(optuna.trial.Trial.suggest_int, low=1, high=9) == Int(1, 9, name="x")
    assert older("suggest_categorical", choices=["a", "b"]) == Categorical(["a", "b"], name="x")
    with pytest.raises(FieldError, match=r"HyperParameter.method.*'suggest_flot'"):
        older("suggest_flot")


WRONG = {
    "batch_size": [True, 0, Categorical([16, "32"])],
    "dropout_rate": [Float(0.5, 1)],
    "learning_rate": ["1e-3", float("nan"), Float(0, 1e-2)],
    "weights": [None],
    "score": [Categorical(["roc_auc", "mcc"])],
    "n_startup_trials": [0, 2.0, Int(1, 9), Categorical([3, 5])],
    "optimizer": [SGD, Categorical([AdamW(), Augmentation()])],
    "augmentation": [Categorical([None, 0.5])],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_setting_refuses_a_wrong_type_and_a_value_or_extreme_out_of_range(name, value):
    with pytest.raises(FieldError) as error:
        TrainingConfig(**{name: value})
    assert str(error.value).startswith(f"TrainingConfig.{name}: expected ")
    assert repr(value) in str(error.value)


def test_settings_take_ints_for_floats_and_spaces_at_any_depth():
    TrainingConfig(dropout_rate=0, learning_rate=1, weight_decay=Int(0, 1), epochs=0, image_size=Int(16, 1024))
    TrainingConfig(augmentation=Categorical([None, Augmentation(rotation=Float(0, 180)), Augmentation(flip=1)]))


def test_nesterov_is_refused_where_momentum_may_be_zero():
    for momentum in (0, Float(0, 0.9), Categorical([0.0, 0.9])):
        with pytest.raises(FieldError, match=r"SGD.momentum: expected above 0 with nesterov=True"):
            SGD(momentum=momentum)
        SGD(momentum=momentum, nesterov=False)


def any_space(rng):
    """A number space of any size, step and scale."""
    if rng.random() < 0.3:
        low, high = sorted(int(rng.choice([-1, 1]) * 2 ** rng.uniform(0, 53)) for _ in range(2))
        return Int(low, high, step=int(2 ** rng.uniform(0, 53))) if rng.random() < 0.5 else Int(low, high)
    low = rng.choice([-1, 1]) * 10 ** rng.uniform(-300, 300)
    high = low * 2 if rng.random() < 0.3 else low + abs(low) * 10 ** rng.uniform(-16, 3)
    low, high = min(low, high), max(low, high)
    kind = rng.integers(3)
    return Float(low, high, log=kind == 1, step=(high - low) * 10 ** rng.uniform(-16, 1) or 1.0 if kind == 2 else None)


@pytest.mark.hostile(BEFORE, cases=60)
@pytest.mark.filterwarnings("ignore")
def test_optuna_samples_and_keeps_whatever_space_is_taken():
    rng = np.random.default_rng(0)
    spaces = [space for space in (any_space(rng) for _ in range(250)) if not space.problem()]
    assert len(spaces) > 60
    for space in spaces:
        study = optuna.create_study(direction="maximize")
        for seed in range(12):  # TPE begins after ten
            study.sampler = optuna.samplers.TPESampler(seed=seed)
            trial = study.ask()
            value = space.suggest(trial, "x")
            assert space.low <= value <= space.high, space
            kind = trial.distributions["x"]  # a database keeps it as JSON, and its value as a float
            kept = optuna.distributions.json_to_distribution(optuna.distributions.distribution_to_json(kind))
            assert kept.to_external_repr(float(kind.to_internal_repr(value))) == value, space
            study.tell(trial, seed % 5)


class Counted(str):
    """A text that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


@pytest.mark.hostile("no number of choices takes quadratic time")
@pytest.mark.parametrize(
    "choice",
    [Counted, lambda text: [Counted(text)], lambda text: {"a": Counted(text)}, lambda text: Layer(Counted(text))],
)
def test_many_choices_are_checked_and_resolved_with_few_comparisons(choice):
    config = Network(params={"a": Categorical([choice(f"label {i}") for i in range(5_000)])})
    Counted.compared = 0
    assert resolve(config, optuna.trial.FixedTrial({"params.a": find_spaces(config)["params.a"].labels[-1]}))
    assert Counted.compared < 25_000


@pytest.mark.hostile("no number of choices takes quadratic time")
def test_of_many_choices_the_plots_show_those_that_were_tried():
    study, space = optuna.create_study(direction="maximize"), Categorical([f"label {i}" for i in range(5_000)])
    tried = set()
    for score in (0.1, 0.2, 0.3):
        trial = study.ask()
        tried.add(space.suggest(trial, "x"))
        study.tell(trial, score)
    plot = study_plots(study)["category_x"]
    assert {label.get_text().removesuffix(" (1)") for label in plot.axes[0].get_yticklabels()} == tried


@pytest.mark.parametrize("hidden_dim", [10**12, Int(16, 10**12)])
def test_a_layer_that_no_memory_holds_is_refused(hidden_dim):
    with pytest.raises(FieldError, match=r"hidden_dim: expected int of at least 1 and of at most 65536, found"):
        TrainingConfig(hidden_dim=hidden_dim)
