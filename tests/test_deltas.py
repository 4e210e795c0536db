"""The difference between two steps is the lesson: small, additive, and what the README says."""

import ast
import difflib
import re

import pytest

from conftest import PROJECT

STEPS = (2, 3, 4, 5)
TAUGHT = {
    2: {"run_fold", "test_fold", "main"},
    3: {"load", "run_inner_split", "run_root_split", "run_experiment", "main"},
    4: {
        "suggest",
        "run_inner_split",
        "run_trial",
        "run_search",
        "test_inner",
        "run_root_split",
        "run_experiment",
        "main",
    },
    5: {"suggest", "run_trial", "run_search", "run_experiment", "main"},
}
"""Functions of train.py that a step adds, changes or drops."""
BUDGET = {2: (24, 22), 3: (36, 14), 4: (72, 18), 5: (24, 38)}
"""Most lines that a step adds to train.py, and most that it takes away."""


def source(step):
    return (PROJECT / f"step_{step}" / "train.py").read_text()


def functions(step):
    return {node.name: ast.dump(node) for node in ast.parse(source(step)).body if isinstance(node, ast.FunctionDef)}


def delta(step):
    """Lines added and taken away between the train.py of the step before and this one."""
    lines = difflib.unified_diff(source(step - 1).splitlines(), source(step).splitlines(), lineterm="", n=0)
    changes = [line[0] for line in list(lines)[2:]]
    return changes.count("+"), changes.count("-")


@pytest.mark.parametrize("step", STEPS)
def test_functions_that_a_step_does_not_teach_are_those_of_the_step_before(step):
    before, now = functions(step - 1), functions(step)
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    assert changed == TAUGHT[step]


@pytest.mark.parametrize("step", STEPS)
def test_each_delta_stays_within_its_budget(step):
    added, removed = delta(step)
    assert (added <= BUDGET[step][0], removed <= BUDGET[step][1]) == (True, True), (added, removed)


def test_the_readme_states_the_deltas_as_they_are():
    rows = re.findall(r"^\| \[?(\d)\b.*\| \+(\d+) -(\d+) \|", (PROJECT / "README.md").read_text(), re.MULTILINE)
    assert [tuple(map(int, row)) for row in rows] == [(step, *delta(step)) for step in STEPS]
