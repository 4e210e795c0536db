"""A step with one thing broken fails the contract of test_step_contract.py in that behaviour, by its name, alone."""

import inspect
import shutil
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import test_step_contract as contract

from conftest import PROJECT, pytest_configure

HINTS = {
    "groups_torn": "Is it the table that data.load_images returned?",
    "trained_on_test": "learns from fold.train and stops by fold.dev",
    "threshold_on_test": "labels and probabilities of fold.dev",
    "unseeded": "What in your script draws from something else?",
    "overwritten": "A file with a fixed name is written over",
    "search_reads_test": "after search.optimize has returned",
}
"""What the hint of the behaviour that a broken step lacks should say of that fault."""
BEHAVIOURS = {
    "groups_torn": "test_groups_stay_whole",
    "trained_on_test": "test_test_images_are_never_trained_on",
    "threshold_on_test": "test_threshold_is_fitted_on_dev_only",
    "unseeded": "test_same_seed_gives_same_results",
    "overwritten": "test_a_second_run_leaves_what_the_first_left",
    "search_reads_test": "test_the_test_fold_is_not_read_during_search",
}
REPLACE = ("import time\n", "import time\nfrom dataclasses import replace\n")
BROKEN = {
    "groups_torn": (2, REPLACE, ("random_fold(table,", "random_fold(replace(table, groups=None),")),
    "trained_on_test": (
        2,
        REPLACE,
        ("network, _ = run_fold(table, fold,", "network, _ = run_fold(table, replace(fold, train=fold.test),"),
    ),
    "threshold_on_test": (
        2,
        ("    threshold = evaluation.youden_threshold(table.labels[fold.dev], dev)\n", ""),
        (
            "    predictions = evaluation.predictions_table(",
            "    threshold = evaluation.youden_threshold(table.labels[fold.test], test)\n"
            "    predictions = evaluation.predictions_table(",
        ),
    ),
    "unseeded": (2, ("Stream(args.seed)", "Stream.unseeded()")),
    "overwritten": (
        2,
        (
            '        run.table(results, "results.csv")\n',
            '        run.table(results, "results.csv")\n'
            '        results.to_csv(cli.PROJECT / "my_results.csv", index=False)\n',
        ),
    ),
    "search_reads_test": (
        4,
        (
            "            networks.append(network)\n",
            "            test = training.test_model(network, table, fold.test)\n"
            '            score = evaluation.score_predictions(table.labels[fold.test], test, 0.5)["roc_auc"]\n'
            "            networks.append(network)\n",
        ),
    ),
}
"""The step that each is made from, and what in its train.py is replaced by what."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The failed behaviours of each broken step, and what was said of them, from one run of the contract."""
    root = tmp_path_factory.mktemp("broken")
    flags = []
    for name, (step, *replacements) in BROKEN.items():
        shutil.copytree(PROJECT / f"step_{step}", root / name, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
        source = (root / name / "train.py").read_text()
        for old, new in replacements:
            assert source.count(old) == 1, f"{name}: {old!r} is in step_{step}/train.py {source.count(old)} times"
            source = source.replace(old, new)
        (root / name / "train.py").write_text(source)
        flags += ["--step-dir", str(root / name)]
    contract = PROJECT / "tests" / "core" / "test_step_contract.py"
    command = [sys.executable, "-m", "pytest", str(contract), *flags, "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, f"--junitxml={root / 'report.xml'}"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {name: {} for name in BROKEN}
    for case in ElementTree.parse(root / "report.xml").iter("testcase"):
        behaviour, name = case.get("name").rstrip("]").split("[")
        for child in [*case.findall("failure"), *case.findall("error")]:
            failed[name][behaviour] = child.text
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_broken_step_fails_in_that_behaviour_alone(name, report):
    assert list(report[name]) == [BEHAVIOURS[name]], report[name]
    (said,) = report[name].values()
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_hint_of_that_behaviour_is_about_the_fault(name):
    told = {hint for hint in HINTS.values() if hint in " ".join(getattr(contract, BEHAVIOURS[name]).__doc__.split())}
    assert told == {HINTS[name]}


def test_each_behaviour_is_told_in_one_line_with_a_hint():
    for name, test in vars(contract).items():
        if name.startswith("test_"):
            behaviour, _, hint = inspect.getdoc(test).partition("\nHint: ")
            assert "\n" not in behaviour and behaviour.endswith(".") and len(hint) > 40, name


@pytest.mark.parametrize(
    ("folder", "found"),
    [("no_such_step", "no such folder (a relative path starts at"), ("tests", "no train.py in it")],
)
def test_a_folder_without_a_script_is_refused_with_one_line(folder, found):
    config = SimpleNamespace(getoption=lambda name: [folder])
    with pytest.raises(pytest.UsageError) as error:
        pytest_configure(config)
    assert str(error.value).startswith(f"--step-dir {folder}: {found}") and "\n" not in str(error.value)
