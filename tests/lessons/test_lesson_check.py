"""``python -m common.lesson.check``: what holds of a folder's step, in plain words, with a hint for what does not."""

import os
import shutil
from types import SimpleNamespace

import pytest
import test_step_contract as contract
from step_runs import Outcome, StepRuns, make_state

from common import cli
from common.lesson import check, start
from conftest import PROJECT


@pytest.fixture
def built(tmp_path):
    """A copy of step 1 in which a text has become another."""

    def build(old, new):
        folder = tmp_path / "step_1"  # its outputs lie there
        shutil.copytree(PROJECT / "step_1", folder, ignore=shutil.ignore_patterns("outputs", "__pycache__", "*.ipynb"))
        source = (folder / "train.py").read_text()
        assert source.count(old) == 1
        (folder / "train.py").write_text(source.replace(old, new))
        return folder

    return build


@pytest.fixture
def judged(forks):
    """Judges a folder, in a process that has imported the libraries already: exit code, lines, errors."""

    def judge(folder, **environment):
        environment = os.environ | {"PYTHONPATH": str(PROJECT)} | environment
        done = forks.run("check", [folder], folder.parent, environment, module="common.lesson.check")
        return done.returncode, done.stdout.splitlines(), done.stderr

    return judge


def test_a_behaviour_that_does_not_hold_is_told_with_what_was_found_and_a_hint(built, judged):
    script = built("network, _ = run_fold(table, fold,", "from dataclasses import replace\n    network, _ = run_fold(table, replace(fold, train=fold.test),")  # fmt: skip # noqa: E501
    code, lines, errors = judged(script, PYTHONIOENCODING="utf-8")
    assert code == 1 and errors == "" and lines[-1] == "5 of 6 behaviours hold"
    assert [line[0] for line in lines[1:-1] if line[0] != " "].count("✓") == 5
    failed = next(i for i, line in enumerate(lines) if line.startswith("✗"))
    assert lines[failed] == "✗ No network learns from a test image, or stops training by one."
    assert (
        "test images were trained on" in lines[failed + 1] and "hint: Training should get the fold" in lines[failed + 2]
    )


def test_an_error_in_the_script_is_told_with_its_line_and_what_rests_on_it_is_not_looked_at(built, judged):
    folder = built(
        "    predictions = test_fold(network, table, fold)\n", "    predictions = test_folds(network, table, fold)\n"
    )
    line = (folder / "train.py").read_text().splitlines().index(
        "    predictions = test_folds(network, table, fold)"
    ) + 1
    code, lines, _ = judged(folder, PYTHONIOENCODING="ascii")
    assert code == 1 and lines[-1] == "0 of 6 behaviours hold"
    assert lines[1] == "no  `main(argv)` runs to its end and returns the outcome."
    assert "found: NameError: name 'test_folds' is not defined" in lines[2] and lines[2].endswith(
        f"(train.py, line {line})"
    )
    assert sum(line.startswith("    not looked at: main did not return") for line in lines) == 5


def test_bad_input_is_one_line(built, tmp_path, monkeypatch):
    def refused(folder, match):
        with pytest.raises(cli.UserError, match=match) as error:
            check.check_step(folder)
        assert "\n" not in str(error.value)

    refused(tmp_path / "none", "none: no such folder; expected one with the train.py of a step")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"empty: no train\.py in it")
    folder = built("def main(argv=None):", "def main(argv=None)")
    line = next(i for i, text in enumerate((folder / "train.py").read_text().splitlines(), 1) if "def main" in text)
    refused(folder, rf"step_1/train\.py, line {line}: not Python yet")
    (folder / "train.py").write_bytes(b"\xff")
    refused(folder, r"train\.py: cannot be read")
    (folder / "train.py").write_text("")
    monkeypatch.setattr(check, "CONTRACT", tmp_path / "tests")
    refused(folder, r"tests is not there; to judge a step takes the repository with its tests")


def test_a_script_that_does_not_say_which_step_it_is_must_be_told_it(judged, tmp_path):
    (tmp_path / "my step").mkdir()
    (tmp_path / "my step" / "train.py").write_text("print(1)\n")
    code, _, errors = judged(tmp_path / "my step")
    assert (
        code == 2
        and errors.count("\n") == 1
        and "no train_parser(__doc__, step=N) in it" in errors
        and "--step N" in errors
    )


@pytest.mark.parametrize("given", ["step=", ""])
@pytest.mark.parametrize("step", start.STEPS)
def test_the_scripts_of_the_step_before_are_not_taken_for_the_step(step, given, tmp_path):
    start.start_step(step, tmp_path / "mine")
    script = tmp_path / "mine" / "train.py"
    script.write_text(script.read_text().replace(f"step={step - 1}", f"{given}{step - 1}"))
    with pytest.raises(cli.UserError, match=rf"says that it is step {step - 1}, .* step {step}: .* --step {step - 1}"):
        check.check_step(tmp_path / "mine")


def test_the_page_may_hold_notes_in_any_encoding(tmp_path):
    start.start_step(3, tmp_path / "mine")
    with (tmp_path / "mine" / start.PAGE).open("ab") as page:
        page.write("déjà vu".encode("latin-1"))
    with pytest.raises(cli.UserError, match="says that it is step 2"):
        check.check_step(tmp_path / "mine")


def test_step_5_is_not_judged_by_the_config_of_the_project(tmp_path):
    start.start_step(5, tmp_path / "mine")
    script = tmp_path / "mine" / "train.py"
    script.write_text(script.read_text().replace("train_parser(__doc__, step=4)", "train_parser(__doc__, step=5)"))
    with pytest.raises(cli.UserError, match=r"no config\.py in it, which step 5 asks for"):
        check.check_step(tmp_path / "mine")


@pytest.fixture(scope="module")
def left(empty_stores, tmp_path_factory):
    """What one run of a step leaves in which texts have become others."""
    state = tmp_path_factory.mktemp("state")
    shutil.copy(empty_stores / "mlflow.db", state)
    make_state(state)

    def run(step, *changes):
        folder = shutil.copytree(PROJECT / f"step_{step}", tmp_path_factory.mktemp("mine") / f"step_{step}")
        source = (folder / "train.py").read_text()
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        (folder / "train.py").write_text(source)
        found = StepRuns(folder, step, state, tmp_path_factory.mktemp("project")).first
        assert isinstance(found, Outcome), found
        return SimpleNamespace(step=step, first=found)

    return run


LATER = {
    "metrics": contract.test_metrics_are_recorded,
    "networks": contract.test_tested_networks_are_stored,
    "random numbers": contract.test_each_fit_has_random_numbers_of_its_own,
}
"""Behaviours that are looked at in one run."""
BROKEN = {
    "nothing in step 2": ((2,), {}),
    "nothing in step 3": ((3,), {}),
    "phases that print, and another network": (
        (
            2,
            ('.at("fine-tuning"), phase.log,', '.at("fine-tuning"), training.print_epoch,'),
            ("run.model(network)", "network.head[-1].reset_parameters()\n    run.model(network)"),
        ),
        {
            "metrics": "run 'fine-tuning' has no metric dev_roc_auc",
            "networks": "model.safetensors is another network",
        },
    ),
    "one stream for all outer folds, networks in the wrong run, and no mean scores": (
        (
            3,
            ('    stream = stream.at(f"root {folds[0].root_split}")\n', ""),
            ("return test_fold(network, table, fold, fold_run)", "return test_fold(network, table, fold, run)"),
            ("        run.log(evaluation.mean_scores(results), 0)\n", ""),
        ),
        {
            "metrics": "the root run lacks the metrics",
            "networks": "root split 0, inner split 0: there is no model.safetensors",
            "random numbers": "root split 0, inner split 0, and root split 1, inner split 0: both are trained with the "
            "random numbers of seed 1 / inner 0 / fine-tuning",
        },
    ),
    "one start for all heads, and other scores": (
        (
            3,
            ('compute, stream.at("model"))', "compute, Stream(0))"),
            ("run.log(evaluation.mean_scores(results), 0)", "run.log(evaluation.mean_scores(results * 0), 0)"),
        ),
        {
            "metrics": "is not the mean of results.csv",
            "random numbers": "root split 0, inner split 1: both heads begin with the same weights",
        },
    ),
}
"""What is wrong with a step, what in its train.py has become what, and what is said of it."""
LONG = ("nothing in step 2", "one start for all heads, and other scores")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in BROKEN])
def test_what_a_run_should_record_and_draw_is_looked_at(name, left):
    how, said = BROKEN[name]
    outcome = left(*how)
    for behaviour, holds in LATER.items():
        if behaviour in said:
            with pytest.raises(pytest.fail.Exception) as failed:
                holds(outcome)
            assert said[behaviour] in str(failed.value)
        else:
            holds(outcome)
