"""Lessons 3 to 5: right answers are taken in any form, and a wrong one is told which misconception it shows."""

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from common import cli, evaluation
from common.config import SGD, AdamW, Categorical, Float, TrainingConfig, resolve
from common.lesson import answer, exercises_3, exercises_4, exercises_5
from conftest import make_tiny_pets

SCORES = np.array(exercises_3.SCORES)
MEAN, ERROR = SCORES.mean(), SCORES.std(ddof=1)
LIMITS = evaluation.corrected_resampled_interval(SCORES, 540, 60)[1:]
T = stats.t.ppf(0.975, 9)
WIDTH = np.sqrt(0.1 + 60 / 540)
TUNED, FIXED = exercises_4.TUNED, exercises_4.FIXED
P = evaluation.corrected_resampled_ttest(TUNED, FIXED, 480, 120)[1]


def around(half_width):
    return MEAN - half_width, MEAN + half_width


def torn(fold, groups, pairs=(("train", "dev"), ("train", "test"), ("dev", "test"))):
    return {g for a, b in pairs for g in groups[getattr(fold, a)] if g in groups[getattr(fold, b)]}


def everywhere(fold, groups):
    return set(groups[fold.train]) & set(groups[fold.dev]) & set(groups[fold.test])


def estimate(dev, test):
    return test[dev.argmax(axis=0), range(dev.shape[1])].mean()


def suggest_with(momentum=None, beta1=None, optimizer=None):
    momentum = momentum or (lambda trial: trial.suggest_float("momentum", 0.5, 0.99))
    beta1 = beta1 or (lambda trial: trial.suggest_float("beta1", 0.8, 0.95))
    optimizer = optimizer or (lambda trial: trial.suggest_categorical("optimizer", ["SGD", "AdamW"]) == "SGD")

    def suggest(trial):
        if optimizer(trial):
            return TrainingConfig(optimizer=SGD(momentum=momentum(trial)))
        return TrainingConfig(optimizer=AdamW(beta1=beta1(trial)))

    return suggest


def asks_for_both(trial):
    momentum, beta1 = trial.suggest_float("momentum", 0.5, 0.99), trial.suggest_float("beta1", 0.8, 0.95)
    sgd = trial.suggest_categorical("optimizer", ["SGD", "AdamW"]) == "SGD"
    return TrainingConfig(optimizer=SGD(momentum=momentum) if sgd else AdamW(beta1=beta1))


def asks_once(trial):
    name, value = trial.suggest_categorical("which", ["SGD .5", "SGD .9", "AdamW .8", "AdamW .9"]).split()
    return TrainingConfig(optimizer=SGD(momentum=float(value)) if name == "SGD" else AdamW(beta1=float(value)))


def asks_in_vain(trial):
    config = asks_once(trial)
    trial.suggest_float("momentum" if isinstance(config.optimizer, SGD) else "beta1", 0.5, 0.9)
    return config


def searches_more(trial):
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return TrainingConfig(learning_rate=rate, optimizer=suggest_with()(trial).optimizer)


def of_objects(trial):
    return TrainingConfig(optimizer=trial.suggest_categorical("optimizer", [SGD(), AdamW()]))


SPACE = TrainingConfig(optimizer=Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.5, 0.99))]))


def value_of(name, low=0.5, high=0.99):
    return lambda trial: trial.suggest_float(name, low, high)


RIGHT = {
    "3.1": [(15, 3), [15.0, 3.0], np.array([15, 3]), torch.tensor([15, 3]), "(15, 3)", ("15", np.int64(3))],
    "3.2": [
        *(LIMITS, np.round(LIMITS, 2), np.round(LIMITS, 3).tolist(), torch.tensor(LIMITS), str(LIMITS)),
        *(np.array([LIMITS]), np.array([LIMITS]).T, torch.tensor([LIMITS]), [list(LIMITS)]),
    ],
    "3.3": [
        torn,
        lambda fold, groups: sorted(torn(fold, groups)),
        lambda fold, groups: frozenset(torn(fold, groups)),
        lambda fold, groups: 2 * list(torn(fold, groups)),
        lambda fold, groups: np.array(list(torn(fold, groups))),
    ],
    "3.4": [
        estimate,
        lambda dev, test: np.array(estimate(dev, test)),
        lambda dev, test: torch.tensor(estimate(dev, test)),
        lambda dev, test: round(estimate(dev, test), 3),
    ],
    "4.1": [
        (0.883, True),
        (0.88, True),
        (0.8833, np.bool_(True)),
        ["0.883", "True"],
        (torch.tensor(0.8833), np.array(True)),
    ],
    "4.2": [0.956, "0.956", 0.96, np.float32(0.9561), torch.tensor(0.9557), np.array([0.955])],
    "4.3": [P, round(P, 3), round(P, 2), 0.088, str(P), np.array(P), torch.tensor(P), f"{100 * P:.1f} %"],
    "4.4": [
        suggest_with(),
        suggest_with(momentum=lambda trial: trial.suggest_int("momentum", 50, 99) / 100),
        suggest_with(momentum=lambda trial: trial.suggest_categorical("momentum", [0.5, 0.9, 0.99])),
        suggest_with(optimizer=lambda trial: trial.suggest_int("sgd", 0, 1)),
        lambda trial: resolve(SPACE, trial),
    ],
    "5.1": [
        "augmentation.Augmentation.rotation",
        " augmentation.Augmentation.rotation\n",
        "`augmentation.Augmentation.rotation`",
    ],
    "5.2": [
        TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.8)),
        TrainingConfig(learning_rate=np.float64(0.002), optimizer=SGD(momentum=np.float64(0.8))),
        resolve(exercises_5.CHOICE, exercises_5._Chosen()),
    ],
}
WRONG = {
    "3.1": [
        ((8, 3), "nested"),
        ((5, 3), "inner folds trains one too"),
        ((3, 3), "of one outer fold"),
        ((20, 3), "trained again"),
        ((30, 3), "no network each"),
        ((15, 15), "one outer fold only"),
        ((15, 1), "more than one network"),
        ((15, 5), "not tested in each"),
        ((15, 2), "not test predictions"),
        ((15, 0), "Every image is tested"),
        ((3, 15), "order"),
        ((7, 3), "Count one network"),
        ("many", "two whole"),
        ({15, 3}, "two whole"),
    ],
    "3.2": [
        (around(T * ERROR / np.sqrt(10)), "plain t"),
        (around(T * ERROR * np.sqrt(0.1 + 60 / 600)), "not against all images"),
        (around(1.96 * ERROR * WIDTH), "normal distribution"),
        (around(stats.t.ppf(0.975, 10) * ERROR * WIDTH), "used up by the mean"),
        (around(T * SCORES.std() * WIDTH), "ddof=1"),
        (around(stats.t.ppf(0.95, 9) * ERROR * WIDTH), "two-sided"),
        (around(T * ERROR), "single scores"),
        (around(ERROR * WIDTH), "standard error"),
        (around(T * ERROR * WIDTH**2), "square root"),
        ((SCORES.min(), SCORES.max()), "range of the single scores"),
        (LIMITS[::-1], "order"),
        ((MEAN, T * ERROR * WIDTH), "mean and the half-width"),
        ((0.8, 0.9), "around the mean"),
        (0.92, "two numbers"),
    ],
    "3.3": [
        (lambda fold, groups: torn(fold, groups, [("train", "test"), ("dev", "test")]), "train and dev"),
        (lambda fold, groups: torn(fold, groups, [("train", "dev")]), "train and test"),
        (lambda fold, groups: torn(fold, groups, [("train", "test")]), "are torn too"),
        (lambda fold, groups: torn(fold, groups, [("train", "test"), ("train", "dev")]), "dev and test"),
        (everywhere, "Two parts are enough"),
        (lambda fold, groups: set(groups), "all groups"),
        (lambda fold, groups: set(groups) - torn(fold, groups), "whole"),
        (lambda fold, groups: set(fold.train) & set(fold.test), "never in two parts"),
        (lambda fold, groups: {i for i in fold.test if groups[i] in groups[fold.train]}, "row numbers"),
        (lambda fold, groups: bool(torn(fold, groups)), "expected a set"),
        (lambda fold, groups: len(torn(fold, groups)), "expected a set"),
        (lambda fold: set(), "raises TypeError"),
        ({"ann"}, "without calling it"),
    ],
    "3.4": [
        (lambda dev, test: test.max(axis=0).mean(), "by the test scores"),
        (lambda dev, test: test.mean(axis=1).max(), "by the test scores"),
        (lambda dev, test: dev.max(axis=0).mean(), "no part in the choice"),
        (lambda dev, test: test[dev.mean(axis=1).argmax()].mean(), "What may a choice see"),
        (lambda dev, test: test.mean(), "nothing was chosen"),
        (lambda dev, test: test[range(3), dev.argmax(axis=1)].mean(), "axis 0 is the models"),
        (lambda dev, test: test[np.unravel_index(dev.argmax(), dev.shape)], "one outer fold alone"),
        (lambda dev, test: test[dev.argmin(axis=0), range(3)].mean(), "lowest dev"),
        (lambda dev, test: (estimate(dev, test) + dev.max(axis=0).mean()) / 2, "mixes dev"),
        (lambda dev, test: test.min(axis=0).mean(), "lowest test"),
        (lambda dev, test: test[dev.argmax(axis=0), range(3)], "mean over the outer folds"),
        (lambda dev, test: 0.77, "For each outer fold"),
        (lambda dev, test: None, "returns nothing"),
    ],
    "4.1": [
        ((0.825, True), "mean so far"),
        ((0.85, True), "highest ROC AUC"),
        ((0.833, True), "best fold so far"),
        ((0.55, True), "need not score 0"),
        ((1.0, False), "mean of its folds"),
        ((0.9, True), "best trial's value"),
        ((2.65, True), "sum"),
        ((0.925, False), "first one counts"),
        ((0.8833, False), "above the best"),
        ((True, 0.883), "in this order"),
        ((0.7, True), "Add the highest"),
        (0.88, "True"),
        ((0.88, "maybe"), "True or False"),
    ],
    "4.2": [
        (0.90, "truly scores"),
        (0.93, "one standard deviation"),
        (0.9493, "of one draw"),
        (0.9588, "whatever the number"),
        (0.99, "one draw of 740"),
        (0.9734, "bound"),
        (0.9067, "standard error of a mean"),
        (0.844, "lowest"),
        (0.056, "how far above"),
        (1.8675, "in standard deviations"),
        (0.90 + 0.03 * 20, "grows slowly"),
        (0.8, "Simulate"),
        ("high", "one number"),
    ],
    "4.3": [
        (stats.ttest_ind(TUNED, FIXED).pvalue, "not paired"),
        (stats.ttest_rel(TUNED, FIXED).pvalue, "independent"),
        (P / 2, "one-sided"),
        (1 - P, "1 - p"),
        (evaluation.corrected_resampled_ttest(TUNED, FIXED, 120, 480)[1], "order of the sizes"),
        (evaluation.corrected_resampled_ttest(TUNED, FIXED, 600, 120)[1], "not against all images"),
        (np.mean(np.subtract(TUNED, FIXED)), "mean difference"),
        (stats.wilcoxon(TUNED, FIXED).pvalue, "Signed ranks"),
        (0.05, "convention"),
        (float(stats.t.isf(P / 2, 4)), "t statistic"),
        (0.3, "in the order learned from"),
        (8.8, "from 0 to 1"),
        (True, "from 0 to 1"),
    ],
    "4.4": [
        (asks_for_both, "inside the branch"),
        (searches_more, "inside the branch"),
        (asks_once, "comes with the choice"),
        (asks_in_vain, "comes with the choice"),
        (suggest_with(value_of("value"), value_of("value")), "share one name"),
        (suggest_with(optimizer=lambda trial: True), "choice for the trial"),
        (suggest_with(momentum=lambda trial: 0.9), "always 0.9"),
        (suggest_with(beta1=lambda trial: 0.8), "beta1 is not what"),
        (suggest_with(momentum=value_of("momentum", 0.5, 1.0)), "below 1"),
        (suggest_with(momentum=value_of("momentum", 0.9, 0.5)), "no range"),
        (of_objects, "choose by name"),
        (suggest_with(lambda trial: value_of("m")(trial) * value_of("m", 0.1)(trial)), "asked for twice"),
        (suggest_with(momentum=lambda trial: trial.suggest_uniform("momentum", 0.5, 0.9)), "suggest_uniform"),
        (lambda trial: {"momentum": trial.suggest_float("momentum", 0.5, 0.9)}, "TrainingConfig"),
        (lambda trial: TrainingConfig(), "Nothing is asked"),
        (TrainingConfig(), "without calling it"),
    ],
    "5.1": [
        ("rotation", "from the top"),
        ("Augmentation.rotation", "begins with a field"),
        ("config.augmentation.Augmentation.rotation", "begins with a field"),
        ("augmentation", "the choice itself"),
        ("augmentation.rotation", "alternative"),
        ("augmentation.1.rotation", "its class"),
        ("augmentation.augmentation.rotation", "its class"),
        ("augmentation.Augmentation", "goes on"),
        ("augmentation/Augmentation/rotation", "joined by dots"),
        (90, "a string"),
    ],
    "5.2": [
        (TrainingConfig(learning_rate=Float(1e-4, 1e-2), optimizer=SGD(momentum=0.8)), "still holds"),
        (TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=Float(0.5, 0.99))), "still holds"),
        (exercises_5.CHOICE, "still holds"),
        (TrainingConfig(learning_rate=0.002, optimizer=AdamW()), "other optimizer"),
        (TrainingConfig(learning_rate=0.002, optimizer=SGD()), "the default of SGD"),
        (TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.7)), "momentum is not"),
        (TrainingConfig(warmup_learning_rate=0.002, optimizer=SGD(momentum=0.8)), "the warm-up's"),
        (TrainingConfig(learning_rate=0.02, optimizer=SGD(momentum=0.8)), "learning rate"),
        (TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.8), epochs=3), "epochs"),
        (TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.8, nesterov=False)), "optimizer"),
        (exercises_5.PARAMS, "a trial's parameters"),
        ("SGD", "of class str"),
    ],
}


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.sampled_from([float, str, np.array, torch.tensor, np.float64]))
def test_what_the_lesson_prints_is_right_to_as_many_digits_as_are_typed(digits, form):
    assert answer("4.3", form(round(P, digits)))
    assert answer("4.2", form(round(0.90 + 0.03 * 1.8675, digits)))
    assert answer("4.1", (form(round(2.65 / 3, digits)), True))
    assert answer("3.2", [form(round(limit, digits)) for limit in LIMITS])


BOTH = "Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.6, 0.99))])"
OWN_RATES = (
    "Categorical([AdamW(learning_rate=Float(1e-4, 1e-2, log=True){}), SGD(learning_rate=Float(1e-3, 1, log=True){})])"
)


def searched(optimizers=BOTH, rate="learning_rate=Float(1e-4, 1e-2, log=True)"):
    imported = "from common.config import SGD, AdamW, Categorical, Float, Int, TrainingConfig\n"
    return f"{imported}config = TrainingConfig({rate}, optimizer={optimizers})\n"


FILES = {
    searched("Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD()])"): "Nothing is searched in SGD",
    searched("Categorical([AdamW(), SGD()])"): "Nothing is searched in AdamW",
    searched(OWN_RATES.format("", ""), "epochs=3"): "Only its learning rate is searched in AdamW",
    searched(OWN_RATES.format(", beta1=Float(0.8, 0.95)", "")): "Only its learning rate is searched in SGD",
    searched(BOTH.replace("AdamW(", "AdamW(learning_rate=1e-3, ")): "learning rate of fine-tuning",
    searched("SGD(momentum=Float(0.5, 0.99))"): "choice between",
    searched("Categorical([SGD(momentum=Float(0.5, 0.9)), SGD(momentum=0.9)])"): "Offer both",
    searched("Categorical(['AdamW', 'SGD'])"): "does not load",
    searched(rate="learning_rate=Float(1e-4, 1e-2)"): "linearly",
    searched(rate="learning_rate=Float(1e-3, 5e-3, log=True)"): "one order of magnitude",
    searched(rate="learning_rate=1e-3"): "learning rate",
    searched(rate="warmup_learning_rate=Float(1e-4, 1e-2, log=True)"): "that of the warm-up",
    searched(rate="learning_rate=Float(1e-4, -1, log=True)"): "does not load",
    searched("Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.5, 1.0))])"): "does not load",
    "a = 1": "does not load",
    "config = ": "does not load",
}


def test_a_config_file_is_read_and_must_be_ones_own(capsys, tmp_path):
    path = tmp_path / "mine.py"
    rate = "epochs=3, learning_rate=Float(1e-5, 1e-2, log=True)"
    own_rates = OWN_RATES.format(", beta2=Float(0.9, 0.99)", ", nesterov=Categorical([True, False])")
    named = searched(rate="learning_rate=Float(1e-4, 1e-2, log=True, name='rate')")
    for text in (searched(), searched(rate=rate), searched(own_rates, "epochs=3"), named):
        path.write_text(text)
        assert answer("5.3", path) and answer("5.3", str(path))
    capsys.readouterr()
    for text, names in FILES.items():
        path.write_text(text)
        assert not answer("5.3", path) and names in capsys.readouterr().out, text
    shipped = cli.PROJECT / "step_5" / "configs" / "optimizers.py"
    wrong = [
        (shipped, "of the project"),
        (tmp_path, "a folder"),
        (tmp_path / "none.py", "does not load"),
        (5, "the path"),
    ]
    for given_, names in wrong:
        assert not answer("5.3", given_) and names in capsys.readouterr().out


def test_ones_own_images_need_two_classes_and_groups_and_are_not_the_projects(capsys, tiny_pets, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    own = tmp_path / "own"
    (own / "images").mkdir(parents=True)
    names = [f"images/{path.name}" for path in sorted((tiny_pets / "images").iterdir())]
    for name in names:
        (own / name).write_bytes((tiny_pets / name).read_bytes())
    lines = [f"{name},{i}" for i, name in enumerate(names)]

    def write(*rows):
        (own / "groups.csv").write_text("\n".join(["files,group", *rows, ""]))

    write(*lines)
    assert answer("5.4", own) and answer("5.4", str(own))
    capsys.readouterr()
    write(*lines[1:])
    wrong = [(own, "cannot be used yet")]
    for given_, said in [*wrong, (tmp_path / "nowhere", "no such folder"), (tmp_path, "cannot be used yet")]:
        assert not answer("5.4", given_) and said in capsys.readouterr().out
    write(*(f"{name},one" for name in names))
    assert not answer("5.4", own) and "cannot be used yet" in capsys.readouterr().out
    nobodys = make_tiny_pets(tmp_path / "nobodys", groups=False)
    for given_, said in (
        (nobodys, "groups.csv"),
        (own / "groups.csv", "a file"),
        ("drawn", "comes with the project"),
        (5, "the path"),
    ):
        assert not answer("5.4", given_) and said in capsys.readouterr().out
    write(*lines)
    made = tmp_path / "state" / "data" / "drawn" / "images"
    made.mkdir(parents=True)
    (made / "a.jpg").write_bytes((own / names[0]).read_bytes())
    assert not answer("5.4", own) and "come with the project" in capsys.readouterr().out
    assert not answer("5.4", made.parent)
