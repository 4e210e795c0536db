"""Which edits make a new run: those of code that computes, not of comments, nor of what shows or tells."""

import json
import re
import subprocess
import sys

import pytest

from common.tracking.identity import differences
from conftest import copy_code

SHOW = """\
import json
from pathlib import Path
from common.tracking.code import code_digests

found = code_digests([Path("step_5/train.py"), Path("my_config.py")])
print(json.dumps({f"code.{name}": digest for name, digest in found.items()}))
"""
CONFIG = """\
from common.config import TrainingConfig
from my_layers import Mine
from torch import nn


class Brighter(nn.Module):
    def forward(self, images):
        return images * 1.5


config = TrainingConfig(model=Mine, transforms=[Brighter])
"""
LAYERS = """\
from my_numbers import WIDTH
from torch import nn


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(WIDTH)

    def forward(self, images):
        return self.layer(images.flatten(1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the code, with a config that imports a module that imports another one."""
    copy = copy_code(tmp_path_factory.mktemp("edited") / "project")
    for name, text in {"my_config": CONFIG, "my_layers": LAYERS, "my_numbers": "WIDTH = 1\n"}.items():
        (copy / f"{name}.py").write_text(text)
    return copy


@pytest.fixture(scope="module")
def digests(folder):
    def of_now():
        done = subprocess.run(
            [sys.executable, "-c", SHOW], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return of_now


@pytest.fixture(scope="module")
def before(digests):
    return digests()


@pytest.fixture
def edit(folder):
    """Changes one file, and puts it back."""
    kept = {}

    def change(name, old, new):
        path = folder / name
        text = kept[path] = path.read_text()
        assert len(re.findall(old, text, re.MULTILINE)) >= 1, name
        path.write_text(re.sub(old, new, text, count=1, flags=re.MULTILINE))

    yield change
    for path, text in kept.items():
        path.write_text(text)


def test_comments_docstrings_layout_and_what_shows_or_tells_change_nothing(edit, folder, digests, before):
    edit("common/training/loop.py", r"\A", "# a remark\n")
    edit("common/training/engine.py", r'^    """One pass', '    """Another way to say: one pass')
    edit("common/model/classifier.py", r'^"""[^"]*"""', '"""Other words."""\n\n')
    edit("common/config/settings.py", r'^    """Side of the square images[^"]*"""', '    """Pixels."""')
    edit("my_config.py", r"images \* 1.5", "(\n            images  *  1.5  # brighter\n        )")
    for room in ("plots", "events", "versions", "lesson", "production"):
        for path in (folder / "common" / room).glob("*.py"):
            edit(f"common/{room}/{path.name}", r"\Z", "\nprint('changed')\n")
    edit("common/evaluation/results_text.py", r"\Z", "\nNEW = 1\n")
    assert digests() == before


CHANGES = [
    ("common/training/loop.py", r"epoch > 0", "epoch > 1"),
    ("common/training/stopping.py", r"\Z", "\nNEW = 1\n"),
    ("common/model/small_cnn.py", r"nn\.Conv2d", "nn.LazyConv2d"),
    ("common/evaluation/metrics.py", r"\Z", "\nNEW = 1\n"),
    ("common/seeds.py", r"\Z", "\nNEW = 1\n"),
    ("step_5/train.py", r"N_TRIALS = 5", "N_TRIALS = 6"),
    ("my_config.py", r"1\.5", "1.6"),
    ("my_layers.py", r"flatten\(1\)", "flatten(start_dim=1)"),
    ("my_numbers.py", r"1", "2"),
]


def test_changes_of_what_computes_are_named_with_their_files(edit, digests, before):
    edit(*CHANGES[0])
    assert differences(digests(), before) == [f"code of {CHANGES[0][0]}"]
    for change in CHANGES[1:]:
        edit(*change)
    after = digests()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        f"code.{name}" for name, *_ in CHANGES
    }


def test_a_wing_counts_where_the_config_reaches_it_alone(edit, folder, digests, before):
    assert not any(name.startswith(("code.common/params/", "code.common/eeg/")) for name in before)
    edit("my_config.py", r"\A", "from common.eeg.eegnet import EEGNet  # noqa: F401\n")
    assert "code.common/eeg/eegnet.py" in digests()
