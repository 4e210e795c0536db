"""Each name in docs/coming_from.md exists: functions are imported, commands run, files are there."""

import importlib
import re
import subprocess
import sys
from operator import attrgetter

import pytest

from common.cli import train_parser
from conftest import PROJECT

ROWS = [line.split("|") for line in (PROJECT / "docs" / "coming_from.md").read_text().splitlines() if line[:1] == "|"]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])})


def test_each_of_ten_systems_has_a_table():
    assert sum(row[1].strip() == "there" for row in ROWS) == 10
    assert all(len(row) == 5 and re.search("`", row[2]) for row in ROWS if row[1].strip(" -") not in ("there", ""))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("common.")])
def test_a_name_can_be_imported(name):
    home, _, leaf = name.rpartition(".")
    assert attrgetter(leaf)(importlib.import_module(home)) is not None


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("python ")])
def test_a_command_says_what_it_does(name):
    words = name.split()[1:]
    target = words[:2] if words[0] == "-m" else words[:1]
    done = subprocess.run([sys.executable, *target, "--help"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr
    assert all((PROJECT / word).is_file() for word in words if word.endswith(".py"))


def test_a_flag_is_one_of_step_5():
    assert {name for name in NAMES if name.startswith("--")} <= train_parser(None, 5)._option_string_actions.keys()


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not name.startswith(("common.", "python ", "--")) and " " not in name]
)
def test_a_file_is_there(name):
    assert (PROJECT / name).is_file()
