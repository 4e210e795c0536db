"""Lessons 1 and 2: checks accept right answers and refuse wrong ones with a hint that never tells; code, pictures."""

import re
from itertools import count, repeat

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import roc_curve
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from common.cli import UserError
from common.lesson import answer, delta, history, learning_curves, runs_table, source
from common.lesson.reading import paired_lines
from common.seeds import Stream

SETS = {"fit the weights": "train", "stop early": "dev", "choose the threshold": "dev", "report the score": "test"}


def torn(groups, learn, test):
    return set(groups[learn]) & set(groups[test])


def choose_threshold(labels, probabilities):
    false_positive_rate, sensitivity, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    return thresholds[np.argmax(sensitivity - false_positive_rate)]


def experiment_like(numbers=None, score=lambda seed: np.random.default_rng(seed).random(), note="learning_rate, seed"):
    """An experiment that writes one file per number."""
    numbers = count() if numbers is None else numbers

    def experiment(seed, folder):
        number = next(numbers)
        if number is not None:
            (folder / f"run {number}").mkdir(exist_ok=True)
            (folder / f"run {number}" / "settings.txt").write_text(f"{note} {seed} {score(seed)}")
        return score(seed)

    return experiment


def shuffle(stream, epoch, n):
    return stream.at(f"epoch {epoch}").numpy().permutation(n)


def in_one_go(stream, epoch, n, generators={}):  # noqa: B006
    return generators.setdefault(stream, stream.numpy()).permutation(n)


def folds_with(splitter, seeded=True):
    def folds(table, k, stream):
        options = {"shuffle": True, "random_state": stream.integer() if seeded else 0}
        return splitter(k, **options).split(table.labels, table.labels, table.groups)

    return folds


ANSWERS = {
    "1.1": (SETS, [(SETS | {"choose the threshold": "test"}, "choose the threshold"), ("train", "keys")]),
    "1.2": (
        torn,
        [
            (lambda groups, learn, test: set(groups), "torn groups"),
            (lambda groups, learn, test: [g for g in groups[test] if g in groups[learn]], "more than once"),
            (lambda groups, learn, test: len(torn(groups, learn, test)), "expected a set"),
        ],
    ),
    "1.3": (choose_threshold, [(lambda labels, p: 0.5, "balanced accuracy"), (lambda labels, p: p, "one number")]),
    "1.4": (
        {"A", "C", "E", "G", "J"},
        [({"A", "B", "C"}, "random_fold"), ({"C", "E", "G", "J"}, "there are more"), ({"A", "Z"}, "Z is not among")],
    ),
    "1.5": (
        experiment_like(),
        [
            (experiment_like(numbers=repeat(0)), "no file of its own"),
            (experiment_like(score=lambda seed: np.random.default_rng().random()), "two different scores"),
            (experiment_like(score=lambda seed: 0.5), "does the seed reach"),
            (experiment_like(numbers=repeat(None)), "Nothing is written"),
            (experiment_like(note="a score"), "do not say"),
        ],
    ),
    "2.2": (
        shuffle,
        [
            (lambda stream, epoch, n: stream.numpy().permutation(n), "is the epoch in the name"),
            (in_one_go, "must not depend"),
            (lambda stream, epoch, n: shuffle(Stream(0), epoch, n), "same order"),
            (lambda stream, epoch, n: stream.at(str(epoch)).numpy().integers(n, size=n), "each of the rows"),
        ],
    ),
    "2.3": (1275, [(36, "standard error"), ("many", "ValueError")]),
    "2.4": (
        folds_with(StratifiedGroupKFold),
        [
            (folds_with(StratifiedKFold), "both sides"),
            (folds_with(GroupKFold), "should look like the whole"),
            (folds_with(StratifiedGroupKFold, seeded=False), "where is the stream used"),
            (lambda table, k, stream: list(folds_with(StratifiedGroupKFold)(table, k, stream))[1:], "yields"),
        ],
    ),
}


@pytest.mark.parametrize("number", ANSWERS)
def test_a_check_accepts_a_right_answer_and_refuses_wrong_ones_with_their_hint(number, capsys):
    right, wrong = ANSWERS[number]
    assert answer(number, right) and "right" in capsys.readouterr().out
    for given, hint in wrong:
        assert not answer(number, given)
        said = capsys.readouterr().out
        assert said.startswith(f"exercise {number}: not yet") and hint in said


def test_a_hint_does_not_tell_the_answer(capsys):
    def hint(number, given):
        answer(number, given)
        return capsys.readouterr().out.split("not yet")[1]

    for key in SETS:
        said = hint("1.1", SETS | {key: "none"}).split("Think again")[1]
        assert key in said and not {"train", "dev", "test"} & set(said.replace(key, "").split())
    flaws = ANSWERS["1.4"][0]
    for left_out in flaws:
        assert f" {left_out} " not in hint("1.4", flaws - {left_out})
    assert "127" not in hint("2.3", 100)


def test_no_answer_is_not_judged_and_no_exercise_is_refused(capsys):
    assert not answer("1.1", None) and "not answered yet" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1\.9.*no such exercise"):
        answer("1.9", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Root runs of seeds 0 and 1, a failed one of seed 1, and a phase below each, in a database of their own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("step_2")
    roots = []
    for seed, status in ((0, "FINISHED"), (1, "FINISHED"), (1, "FAILED")):
        tags = {"run_level": "root", "step": "step_2"}
        root = client.create_run(experiment, tags=tags, run_name=f"seed {seed}").info.run_id
        below = {"run_level": "phase", "mlflow.parentRunId": root}
        for name in ("warm-up", "fine-tuning"):
            phase = client.create_run(experiment, tags=below, run_name=name).info.run_id
            for epoch in range(3):
                client.log_metric(phase, "dev_roc_auc", 0.5 + epoch / 10, step=epoch)
                client.log_metric(phase, "dev_loss", 0.7 - epoch / 10, step=epoch)
            client.set_terminated(phase, status)
        client.log_param(root, "seed", seed)
        client.set_terminated(root, status)
        roots.append(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield roots


def test_a_table_of_runs_can_be_filtered_and_kept_to_some_roots_and_what_is_below_them(runs):
    assert len(runs_table(2)) == 9
    assert runs_table(2, "params.seed = '1'").index.tolist() == runs[1:]
    table = runs_table(2, run_ids=[runs[1]])
    assert table["name"].tolist() == ["seed 1", "warm-up", "fine-tuning"]
    assert table["parent"].tolist()[1:] == [runs[1]] * 2
    assert table["metrics.dev_roc_auc"].tolist()[1:] == [0.7, 0.7]


def test_the_search_for_a_run_is_judged_by_what_it_finds(runs, capsys):
    finished = "tags.run_level = 'root' and attributes.status = 'FINISHED'"
    assert answer("2.1", f"params.seed = '1' and {finished}")
    capsys.readouterr()
    for wrong, hint in (
        ("params.seed = '1'", "runs that failed"),
        (finished, "of seed 0 too"),
        ("attributes.status = 'FINISHED'", "below a root run"),
        ("params.seed = '7'", "finds no run"),
        ("seed is 1", "does not understand"),
    ):
        assert not answer("2.1", wrong)
        assert hint in capsys.readouterr().out


def test_learning_curves_follow_the_phases_of_a_run_and_mark_the_epoch_that_is_kept(runs):
    lines = learning_curves({"a run": history(2, runs[0])}).axes[1].lines
    curves = [line.get_xdata().tolist() for line in lines if line.get_marker() != "o" and len(line.get_xdata()) == 3]
    assert curves == [[0, 1, 2], [3, 4, 5]]
    rings = [line.get_xydata().tolist() for line in lines if line.get_marker() == "o"]
    assert rings == [[[2, pytest.approx(0.7)]], [[5, pytest.approx(0.7)]]]
    before, after = {"dev_loss": 0.7, "dev_roc_auc": 0.5}, {"train_loss": 0.6, "dev_loss": 0.65, "dev_roc_auc": 0.6}
    train, _ = learning_curves({"one epoch": [(before, 0), (after, 1)]}).axes[0].lines
    assert np.isnan(train.get_ydata()[0]) and train.get_ydata()[1] == 0.6 and train.get_marker() != "None"
    with pytest.raises(UserError, match="nothing was logged"):
        learning_curves({"none": []})


BEFORE = """def train(table, fold):
    fit(table, fold)
    print("done")
"""
NOW = """def suggest(trial):
    return trial.number

def train(table, fold, run):
    with run:
        fit(table, fold)
"""


def test_a_function_stands_beside_its_former_self_and_a_line_beside_what_it_has_become():
    pairs = paired_lines(BEFORE, NOW)
    assert [left for left, _ in pairs if left is not None] == BEFORE.splitlines()
    assert [right for _, right in pairs if right is not None] == NOW.splitlines()
    assert ("def train(table, fold):", "def train(table, fold, run):") in pairs
    assert ("    fit(table, fold)", "        fit(table, fold)") in pairs
    assert (None, "def suggest(trial):") in pairs and (None, "    with run:") in pairs
    assert ('    print("done")', None) in pairs


def test_code_keeps_its_look_where_style_sheets_are_stripped(tmp_path):
    shown = delta(2).data
    cells = re.findall("<t[dh](.*?)>(.*?)</t[dh]>", shown)
    assert "<style" not in shown and len(cells) > 50 and all("style=" in attributes for attributes, _ in cells)
    (tmp_path / "config.py").write_text("config = 1  # a value\n")
    for code, part in ((paired_lines, "def"), (tmp_path / "config.py", "# a value")):
        shown = source(code).data
        assert "<style" not in shown and "white-space:pre" in shown and part in shown


def test_plots_are_the_same_bytes_each_time():
    from common.lesson import spread_plot

    scores = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]})
    assert spread_plot(scores, "score").png() == spread_plot(scores, "score").png()
