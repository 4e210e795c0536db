"""Lessons 3 to 5: exercises take right answers and refuse wrong ones with their hint, and pictures say what is so."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from common import cli, data, evaluation, lesson, search, training
from common.config import SGD, AdamW, Augmentation, Categorical, Float, TrainingConfig, find_spaces
from common.lesson import exercises_3, exercises_4
from common.lesson.folds import PART_COLOURS
from common.lesson.searches import tree_lines
from common.seeds import Stream
from conftest import make_tiny_pets

MEAN = np.mean(exercises_3.SCORES)
ERROR = np.std(exercises_3.SCORES, ddof=1)


def around(half_width):
    return MEAN - half_width, MEAN + half_width


def torn(fold, groups, pairs=(("train", "dev"), ("train", "test"), ("dev", "test"))):
    return {g for a, b in pairs for g in groups[getattr(fold, a)] if g in groups[getattr(fold, b)]}


def chooses(trial):
    if trial.suggest_categorical("optimizer", ["SGD", "AdamW"]) == "SGD":
        return TrainingConfig(optimizer=SGD(momentum=trial.suggest_float("momentum", 0.5, 0.99)))
    return TrainingConfig(optimizer=AdamW(beta1=trial.suggest_float("beta1", 0.8, 0.95)))


def asks_for_both(trial):
    momentum, beta1 = trial.suggest_float("momentum", 0.5, 0.99), trial.suggest_float("beta1", 0.8, 0.95)
    sgd = trial.suggest_categorical("optimizer", ["SGD", "AdamW"]) == "SGD"
    return TrainingConfig(optimizer=SGD(momentum=momentum) if sgd else AdamW(beta1=beta1))


def shares_a_name(trial):
    value = trial.suggest_float("value", 0.8, 0.95)
    sgd = trial.suggest_categorical("optimizer", ["SGD", "AdamW"]) == "SGD"
    return TrainingConfig(optimizer=SGD(momentum=value) if sgd else AdamW(beta1=value))


def never_chooses(trial):
    return TrainingConfig(optimizer=SGD(momentum=trial.suggest_float("momentum", 0.5, 0.99)))


def searched(optimizers, rate="Float(1e-4, 1e-2, log=True)"):
    return (
        "from common.config import SGD, AdamW, Categorical, Float, TrainingConfig\n"
        f"config = TrainingConfig(learning_rate={rate}, optimizer={optimizers})\n"
    )


BOTH = "Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.5, 0.99))])"
P = evaluation.corrected_resampled_ttest(exercises_4.TUNED, exercises_4.FIXED, 480, 120)[1]
EXERCISES = {
    "3.1": ((15, 3), {(8, 3): "nested", (15, 15): "one outer fold only", (15, 1): "fold diagram", "many": "two whole"}),
    "3.2": (
        evaluation.corrected_resampled_interval(exercises_3.SCORES, 540, 60)[1:],
        {
            around(stats.t.ppf(0.975, 9) * ERROR / np.sqrt(10)): "plain t",
            around(stats.t.ppf(0.975, 9) * ERROR * np.sqrt(0.1 + 60 / 600)): "not against all images",
            around(1.96 * ERROR * np.sqrt(0.1 + 60 / 540)): "degrees of freedom",
            (0.8, 0.9): "around the mean",
        },
    ),
    "3.3": (
        torn,
        {
            (lambda fold, groups: torn(fold, groups, [("train", "test")])): "train and dev",
            (lambda fold, groups: bool(torn(fold, groups))): "as a set",
            (lambda fold, groups: torn(fold, groups, [("train", "test"), ("train", "dev")])): "dev and test",
            (lambda fold: set()): "raises TypeError",
        },
    ),
    "3.4": (
        lambda dev, test: test[dev.argmax(axis=0), range(dev.shape[1])].mean(),
        {
            (lambda dev, test: test.max(axis=0).mean()): "by the test scores",
            (lambda dev, test: dev.max(axis=0).mean()): "no part in the choice",
            (lambda dev, test: test[dev.mean(axis=1).argmax()].mean()): "What may a choice see",
            (lambda dev, test: test.mean()): "For each outer fold",
        },
    ),
    "4.1": (
        (0.883, True),
        {
            (0.825, True): "mean so far",
            (0.85, True): "highest ROC AUC",
            (0.8833, False): "above the best",
            0.88: "True",
        },
    ),
    "4.2": (0.956, {0.90: "truly scores", 0.99: "Simulate", 0.90 + 0.03 * 20: "grows slowly"}),
    "4.3": (
        P,
        {
            stats.ttest_ind(exercises_4.TUNED, exercises_4.FIXED).pvalue: "not paired",
            stats.ttest_rel(exercises_4.TUNED, exercises_4.FIXED).pvalue: "independent",
            P / 2: "one-sided",
        },
    ),
    "4.4": (
        chooses,
        {
            asks_for_both: "inside the branch",
            shares_a_name: "share one name",
            never_chooses: "choice for the trial",
            (lambda trial: {"momentum": 0.9}): "TrainingConfig",
        },
    ),
    "5.1": (
        "augmentation.Augmentation.rotation",
        {"rotation": "from the top", "augmentation.rotation": "alternative", "augmentation.1.rotation": "its class"},
    ),
    "5.2": (
        TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.8)),
        {
            TrainingConfig(learning_rate=Float(1e-4, 1e-2), optimizer=SGD(momentum=0.8)): "still holds",
            TrainingConfig(learning_rate=0.002, optimizer=AdamW()): "other optimiser",
            TrainingConfig(learning_rate=0.002, optimizer=SGD()): "momentum",
            TrainingConfig(learning_rate=0.002, optimizer=SGD(momentum=0.8), epochs=3): "no space",
        },
    ),
    "5.3": (
        searched(BOTH),
        {
            searched("Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD()])"): "Nothing is searched in SGD",
            searched("SGD(momentum=Float(0.5, 0.99))"): "choice between",
            searched(BOTH, "Float(1e-4, 1e-2)"): "linear scale",
            searched(BOTH, "1e-3"): "learning rate",
            searched(BOTH, "Float(1e-4, -1, log=True)"): "does not load",
        },
    ),
}


@pytest.mark.parametrize("number", EXERCISES)
def test_a_right_answer_is_accepted_and_wrong_ones_are_refused_with_their_hint(number, capsys, tmp_path):
    right, wrong = EXERCISES[number]

    def judged(answer):
        if number == "5.3":
            (tmp_path / "mine.py").write_text(answer)
            answer = tmp_path / "mine.py"
        return lesson.answer(number, answer), capsys.readouterr().out

    assert judged(right) == (True, f"exercise {number}: right\n")
    assert len(wrong) >= 3
    for answer, hint in wrong.items():
        accepted, said = judged(answer)
        assert not accepted and hint in said
        assert not isinstance(right, str | float) or str(right) not in said


def test_ones_own_images_need_two_classes_and_groups(capsys, tiny_pets, tmp_path):
    assert not lesson.answer("5.4", tmp_path / "nowhere") and "no such folder" in capsys.readouterr().out
    assert not lesson.answer("5.4", tmp_path) and "cannot be used yet" in capsys.readouterr().out
    nobodys = make_tiny_pets(tmp_path / "nobodys", groups=False)
    assert not lesson.answer("5.4", nobodys) and "groups.csv" in capsys.readouterr().out
    own = tmp_path / "own"
    (own / "images").mkdir(parents=True)
    names = [f"images/{path.name}" for path in sorted((tiny_pets / "images").iterdir())]
    for name in names:
        (own / name).write_bytes((tiny_pets / name).read_bytes())
    (own / "groups.csv").write_text("files,group\n" + "".join(f"{n},{i}\n" for i, n in enumerate(names)))
    assert lesson.answer("5.4", own)


def test_a_lesson_has_its_exercises_unanswered_and_all_checks_have_a_place(capsys):
    for step, last in ((3, "3.4"), (4, "4.4"), (5, "5.4")):
        cells = json.loads((cli.PROJECT / f"step_{step}" / "lesson.ipynb").read_text())["cells"]
        asked = [line for cell in cells for line in cell["source"] if line.startswith("lesson.answer(")]
        assert asked == [f'lesson.answer("{step}.{i}", answer);' for i in range(1, int(last[-1]) + 1)]
        with pytest.raises(cli.UserError, match=last):
            lesson.answer(f"{step}.9", 1)


@pytest.fixture(scope="module")
def table():
    groups, files = np.array([f"g{i // 2}" for i in range(24)]), tuple(f"{i:02}" for i in range(24))
    labels = np.repeat([1, 0], [14, 10])
    return data.ImageTable("t", cli.PROJECT / "none", files, labels, ("cat", "dog"), groups, files)


def test_the_fold_diagram_shows_each_image_in_the_part_that_the_splits_say(table):
    splits = data.make_splits(table, Stream(0), root_folds=3, nested_folds=2)
    image = lesson.fold_diagram(splits, table).axes[0].images[0]
    drawn = image.cmap(image.norm(image.get_array()))[..., :3]
    order = sorted(range(24), key=lambda i: (table.labels[i], table.groups[i], i))
    for row, fold in zip(drawn, [fold for root in range(3) for fold in data.folds_of(splits, root)], strict=True):
        parts = [next(name for name in PART_COLOURS if i in getattr(fold, name)) for i in order]
        np.testing.assert_allclose(row, [to_rgb(PART_COLOURS[part]) for part in parts], atol=0.01)


def test_simulated_intervals_hold_the_truth_as_often_as_lesson_3_says():
    def coverage(scores, n_train, n_test):
        found = (evaluation.corrected_resampled_interval(row, n_train, n_test) for row in scores)
        return np.mean([low <= scores.mean() <= high for _, low, high in found])

    scores = lesson.simulated_scores(Stream(1), data_sets=300)
    assert coverage(scores, 1e12, 1) < 0.8
    assert 0.88 < coverage(scores, 160, 40) < 0.98
    folds = lesson.simulated_scores(Stream(1), data_sets=50, splits=5, random=False)
    assert folds.shape == (50, 5) and ((folds > 0) & (folds < 1)).all()


def test_a_space_tree_puts_a_choice_above_what_only_it_asks_for():
    optimizer = Categorical([AdamW(), SGD(momentum=Float(0.5, 0.99))])
    config = TrainingConfig(optimizer=optimizer, augmentation=Augmentation(rotation=Float(0, 20, name="turn")))
    lines = tree_lines("TrainingConfig", find_spaces(config))
    assert lines == [
        (0, "TrainingConfig", ""),
        (1, "optimizer", "one of AdamW, SGD"),
        (2, "SGD", ""),
        (3, "momentum", "Float(0.5, 0.99)"),
        (1, "turn", "Float(0, 20, name='turn')"),
    ]
    assert {label for _, label, _ in lines} <= {text.get_text() for text in lesson.space_tree(config).axes[0].texts}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Four trials of two folds, of which the third is pruned."""
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    made = search.create_study("a root 0", n_folds=2)
    scores = [[0.7, 0.9], [0.95, 0.95], [0.2], [0.6, 0.8]]

    def run_trial(trial, x):
        found = scores[trial.number]
        for fold, score in enumerate(found):
            trial.report(score, fold)
        return SimpleNamespace(), found

    search.optimize(made, lambda trial: trial.suggest_float("x", 0, 1), run_trial, 4, Stream(0))
    return search.load_study("a root 0")


def test_a_finished_study_is_read_as_a_table_and_drawn(study):
    table = search.trials_table(study)
    assert table["state"].tolist() == ["complete", "complete", "pruned", "complete"]
    assert table["value"].round(3).fillna(0).tolist() == [0.8, 0.95, 0, 0.7]
    assert table["fold 0"].tolist() == [0.7, 0.95, 0.2, 0.6] and np.isnan(table["fold 1"][2])
    assert table["x"].between(0, 1).all()
    lines = {line.get_label(): line.get_xydata().tolist() for line in lesson.history_plot(table).axes[0].lines}
    assert lines["pruned"] == [[2, 0.2]]
    np.testing.assert_allclose([y for _, y in lines["best"]], [0.8, 0.95, 0.95, 0.95])
    assert sum(search.importance(study).values()) == pytest.approx(1)
    with pytest.raises(cli.UserError, match="b root 0: there is none"):
        search.load_study("b root 0")


def test_importance_tells_what_mattered_and_is_zero_while_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    study = search.create_study("c", n_folds=1)

    def suggest(trial):
        trial.suggest_float("idle", 0, 1)
        return 1 - trial.suggest_float("x", 0, 1)

    def run_trial(trial, score):
        trial.report(score, 0)
        return [None], [score]

    search.optimize(study, suggest, run_trial, 1, Stream(0))
    assert search.importance(study) == {"idle": 0, "x": 0}
    search.optimize(study, suggest, run_trial, 15, Stream(1))
    found = search.importance(study)
    assert found["x"] > 2 * found["idle"]
    shown = lesson.importance_plot(found).axes[0].get_yticklabels()
    assert [label.get_text() for label in shown] == ["idle", "x"]


def test_a_compact_table_has_names_that_wrap_and_gaps():
    table = pd.DataFrame({"optimizer.SGD.momentum": [0.91234, np.nan], "n_dev": [3, 4]})
    shown = lesson.compact_table(table).data
    assert "<th>optimizer SGD momentum</th>" in shown and "<th>n dev</th>" in shown
    assert "<td>0.912</td>" in shown and "<td></td>" in shown and "<td>3</td>" in shown and "NaN" not in shown


def test_features_of_a_backbone_are_those_that_training_uses():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 3, 32, 32), np.uint8)
    table = data.ImageTable("t", cli.PROJECT, tuple("abcd"), np.arange(4) % 2, ("cat", "dog"), None, ("",) * 4)
    table = replace(table, pixels=pixels, cached=False)
    network = training.new_model(TrainingConfig(), table, training.set_up("cpu", "fp32"), Stream(1))
    assert (lesson.backbone_features(table) == training.frozen_features(network, table)).all()
