"""Every exercise: right answers are taken in any form, and a wrong one is told which misconception it shows."""

import json

import numpy as np
import pytest
import test_answers_1_2
import test_answers_3_5
import torch
from hypothesis import given, settings, strategies as st

from common import cli
from common.lesson import answer
from common.lesson.answers import agrees, numbers, one_number, truth

RIGHT = test_answers_1_2.RIGHT | test_answers_3_5.RIGHT
WRONG = test_answers_1_2.WRONG | test_answers_3_5.WRONG


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_are_taken_in_every_form(number, capsys):
    assert len(RIGHT[number]) >= 3
    for each in RIGHT[number]:
        assert answer(number, each), capsys.readouterr().out
        assert capsys.readouterr().out == f"exercise {number}: right\n"


@pytest.mark.parametrize("number", WRONG)
def test_a_wrong_answer_is_told_which_misconception_it_shows_and_not_the_answer(number, capsys):
    assert len(WRONG[number]) >= 8
    for each, names in WRONG[number]:
        assert not answer(number, each), names
        said = capsys.readouterr().out
        assert said.startswith(f"exercise {number}: not yet. ") and names in said and said.count("\n") == 1, said
        right = RIGHT[number][0]
        assert not isinstance(right, str | int | float) or str(right) not in said


def test_no_answer_is_not_judged_and_no_exercise_is_refused(capsys):
    assert not answer("1.1", None) and "not answered yet" in capsys.readouterr().out
    for number in ("1.9", "9.1", "", None):
        with pytest.raises(cli.UserError, match=rf"^exercise {number}: no such exercise; expected one of \w"):
            answer(number, 1)
    assert answer(3.1, (15, 3))  # the exercise's number, not its name


FORMS = (
    float,
    np.float64,
    np.float32,
    np.array,
    lambda x: np.array([x]),
    torch.tensor,
    lambda x: torch.tensor([x], requires_grad=True),
    str,
    lambda x: f" {x} ".replace(".", ","),
    lambda x: f"{100 * x:.6f} %",
)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9999), st.sampled_from(FORMS))
def test_a_number_is_the_same_in_every_form(value, form):
    value /= 10000
    assert one_number(form(value)) == pytest.approx(value, abs=1e-9)
    assert numbers([form(value), 3], 2) == [pytest.approx(value, abs=1e-9), 3]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.001, 0.999), st.integers(2, 6))
def test_a_number_that_is_rounded_agrees_and_one_that_is_off_in_the_last_digit_shown_does_not(value, digits):
    assert agrees(round(value, digits), value)
    assert not agrees(round(value, 4) + 2e-4 + 1e-9, value) and not agrees(value + 0.011, value)


@pytest.mark.parametrize(
    "nothing", [None, "", "many", "many %", True, np.bool_(True), float("nan"), "inf", [], [1, 2], {1: 2}, b"1"]
)
def test_what_is_no_number_is_none(nothing):
    assert one_number(nothing) is None and numbers(nothing, 1) is None


def test_true_and_false_have_forms_too():
    for form in (bool, np.bool_, np.array, torch.tensor, str, lambda x: str(x).lower()):
        assert (truth(form(True)), truth(form(False))) == (True, False)
    assert truth(1) is None and truth("maybe") is None and truth(None) is None


@pytest.mark.parametrize("step", range(1, 6))
def test_a_lesson_leaves_its_exercises_unanswered_and_each_check_has_a_place(step, capsys):
    cells = json.loads((cli.PROJECT / f"step_{step}" / "lesson.ipynb").read_text())["cells"]
    asked = [
        line for cell in cells for line in "".join(cell["source"]).splitlines() if line.startswith("lesson.answer(")
    ]
    with pytest.raises(cli.UserError) as error:
        answer(f"{step}.9", 1)
    known = str(error.value).rpartition("one of ")[2].split(", ")
    for number in (name for name in known if name.startswith(f"{step}.")):
        assert sum(line.startswith(f'lesson.answer("{number}", ') for line in asked) == 1, number
