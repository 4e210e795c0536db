"""``python -m common.lesson.check``: what holds of a folder's step, in plain words, with a hint for what does not."""

import os
import shutil
import subprocess
import sys

import pytest

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


def judged(folder, **environment):
    command = [sys.executable, "-m", "common.lesson.check", str(folder)]
    env = os.environ | {"PYTHONPATH": str(PROJECT)} | environment
    done = subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_behaviour_that_does_not_hold_is_told_with_what_was_found_and_a_hint(built):
    script = built("network, _ = run_fold(table, fold,", "from dataclasses import replace\n    network, _ = run_fold(table, replace(fold, train=fold.test),")  # fmt: skip # noqa: E501
    code, lines, errors = judged(script, PYTHONIOENCODING="utf-8")
    assert code == 1 and errors == "" and lines[-1] == "5 of 6 behaviours hold"
    assert [line[0] for line in lines[1:-1] if line[0] != " "].count("✓") == 5
    failed = next(i for i, line in enumerate(lines) if line.startswith("✗"))
    assert lines[failed] == "✗ No network learns from a test image, or stops training by one."
    assert (
        "test images were trained on" in lines[failed + 1] and "hint: Training should get the fold" in lines[failed + 2]
    )


def test_an_error_in_the_script_is_told_with_its_line_and_what_rests_on_it_is_not_looked_at(built):
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


def test_a_script_that_does_not_say_which_step_it_is_must_be_told_it(tmp_path):
    (tmp_path / "my step").mkdir()
    (tmp_path / "my step" / "train.py").write_text("print(1)\n")
    code, _, errors = judged(tmp_path / "my step")
    assert (
        code == 2
        and errors.count("\n") == 1
        and "no train_parser(__doc__, step=N) in it" in errors
        and "--step N" in errors
    )


@pytest.mark.parametrize("step", start.STEPS)
def test_the_scripts_of_the_step_before_are_not_taken_for_the_step(step, tmp_path):
    start.start_step(step, tmp_path / "mine")
    with pytest.raises(cli.UserError, match=rf"says that it is step {step - 1}, .* step {step}: .* --step {step - 1}"):
        check.check_step(tmp_path / "mine")


def test_step_5_is_not_judged_by_the_config_of_the_project(tmp_path):
    start.start_step(5, tmp_path / "mine")
    script = tmp_path / "mine" / "train.py"
    script.write_text(script.read_text().replace("train_parser(__doc__, step=4)", "train_parser(__doc__, step=5)"))
    with pytest.raises(cli.UserError, match=r"no config\.py in it, which step 5 asks for"):
        check.check_step(tmp_path / "mine")
