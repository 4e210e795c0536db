"""The checks of lesson 5: configuration."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from common import data
from common.cli import PROJECT, SOURCES, UserError
from common.config import Categorical, Float, find_spaces, load_config, resolve
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.lesson.exercises import exercise
from common.seeds import Stream
from common.state import data_folder

NAMED = TrainingConfig(
    augmentation=Categorical([None, Augmentation(rotation=Float(0, 90))]),
)
"""The config of exercise 5.1."""
CHOICE = TrainingConfig(
    learning_rate=Float(1e-4, 1e-2, log=True),
    optimizer=Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.5, 0.99))]),
)
"""The config of exercise 5.2."""
PARAMS: dict[str, object] = {"learning_rate": 0.002, "optimizer": "SGD", "optimizer.SGD.momentum": 0.8}
"""What a trial chose in it."""


@exercise("5.1")
def parameter_name(answer: object) -> str | None:
    """The name of the rotation's parameter in :data:`NAMED`."""
    if not isinstance(answer, str):
        return f"Give the name, a string; this is of class {type(answer).__name__}."
    given = answer.strip().strip("'\"`")
    right = next(name for name in find_spaces(NAMED) if name.endswith("rotation"))
    if given == right:
        return None
    if "/" in given or " " in given:
        return "The parts of the path are joined by dots."
    if given in find_spaces(NAMED):
        return "This is the choice itself; the rotation is searched below one of its alternatives."
    first, *rest = given.split(".")
    if first != "augmentation":
        within = "augmentation" in rest or first == "Augmentation"
        return f"The name is a path from the top of the config{': it begins with a field of it' if within else ''}."
    if rest[-1:] != ["rotation"]:
        return "The path goes on to the field that holds the space."
    if len(rest) < 2:
        return "Below a choice the path names the alternative, so that no two alternatives share a parameter."
    return "An alternative that is no scalar goes by the name of its class, as that is written."


@exercise("5.2")
def resolved(answer: object) -> str | None:
    """:data:`CHOICE` with :data:`PARAMS` in place of its spaces."""
    if isinstance(answer, Mapping):
        return "These are a trial's parameters; asked is the config that it trains, a TrainingConfig."
    if not isinstance(answer, TrainingConfig):
        return f"Give a TrainingConfig; this is of class {type(answer).__name__}."
    left = find_spaces(answer)
    if left:
        return f"It still holds a search space: {next(iter(left))}."
    if not isinstance(answer.optimizer, SGD):
        return "The trial chose the other optimizer."
    if answer.optimizer.momentum != PARAMS["optimizer.SGD.momentum"]:
        default = " It is the default of SGD." if answer.optimizer.momentum == SGD().momentum else ""
        return f"The momentum is not what the trial chose.{default}"
    if answer.learning_rate != PARAMS["learning_rate"]:
        warm_up = " That is the warm-up's." if answer.warmup_learning_rate == PARAMS["learning_rate"] else ""
        return f"The learning rate of fine-tuning is not what the trial chose.{warm_up}"
    expected = resolve(CHOICE, _Chosen())
    wrong = [f.name for f in fields(answer) if getattr(answer, f.name) != getattr(expected, f.name)]
    return f"A setting that no space stood for has changed: {wrong[0]}." if wrong else None


class _Chosen:
    def suggest_float(self, name: str, low: float, high: float, **options: object) -> object:
        return PARAMS[name]

    def suggest_categorical(self, name: str, choices: object) -> object:
        return PARAMS[name]


@exercise("5.3")
def own_config(answer: object) -> str | None:
    """The path of a config file that searches the optimizer, what each has of its own, and the learning rate."""
    if not isinstance(answer, str | Path):
        return f"Give the path of your file; this is of class {type(answer).__name__}."
    path = Path(answer).expanduser()
    if path.is_dir():
        return "This is a folder; give the path of the file."
    try:
        config = load_config(path, TrainingConfig)
    except UserError as error:
        return f"It does not load: {error}"
    for file in (PROJECT / "step_5" / "config.py", PROJECT / "step_5" / "configs" / "optimizers.py"):
        if config == load_config(file, TrainingConfig):
            return f"This searches what {file.relative_to(PROJECT)} of the project does: choose ranges of your own."
    options = config.optimizer.choices if isinstance(config.optimizer, Categorical) else []
    if hint := _hint_on_rates(config, options):
        return hint
    if not options:
        return "The optimizer should be a choice between sub-configs."
    if {type(option) for option in options} != {AdamW, SGD}:
        return "Offer both optimizers, AdamW and SGD, and no other."
    bare = [option for option in options if not find_spaces(replace(option, learning_rate=None))]
    if not bare:
        return None
    alone = "Only its learning rate" if find_spaces(bare[0]) else "Nothing"
    return f"{alone} is searched in {type(bare[0]).__name__}: search something that it alone has, too."


def _hint_on_rates(config: TrainingConfig, options: Sequence[object]) -> str | None:
    """What is wrong with the spaces of learning rates: that of the config, or those of its optimizers."""
    own = [getattr(option, "learning_rate", None) for option in options or [config.optimizer]]
    rates = [config.learning_rate if rate is None else rate for rate in own]  # an optimizer's own one comes first
    if not all(isinstance(rate, Float) for rate in rates):
        warm_up = " This file searches that of the warm-up." if isinstance(config.warmup_learning_rate, Float) else ""
        where = "under its own name, or in each optimizer"
        return f"The learning rate of fine-tuning should be a space of real numbers, {where}.{warm_up}"
    for rate in rates:
        if not rate.log:
            return "The learning rate spans orders of magnitude: linearly, nearly all trials are in the highest."
        if rate.high < 10 * rate.low:
            return f"From {rate.low:g} to {rate.high:g} is less than one order of magnitude: search wider."
    return None


@exercise("5.4")
def own_images(answer: object) -> str | None:
    """A folder of the learner's own images, with a groups.csv, of which splits can be made."""
    if not isinstance(answer, str | Path):
        return f"Give the path of the folder; this is of class {type(answer).__name__}."
    if str(answer) in SOURCES:
        return f"{str(answer)!r} names a set that comes with the project: give the path of images of your own."
    path = Path(answer).expanduser()
    if path.is_file():
        return "This is a file; give the path of the folder."
    if not path.is_dir():
        return "There is no such folder."
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            table = data.load_images(str(path), 64)
            if _is_made(table):
                return "These images come with the project: use some of your own."
            if table.groups is None:
                return "It loads. What must not be torn apart (patient, animal, series)? Say so in a groups.csv."
            data.make_splits(table, Stream(0).at("splits"), 2, 1, 2, 1)
    except UserError as error:
        return f"It cannot be used yet: {error}"
    return None


def _is_made(table: data.ImageTable) -> bool:
    """Whether some of its images are files of a set that the project has made."""
    known = set(table.digests)
    files = (file for name in ("drawn", "phantoms") for file in (data_folder() / name).glob("**/*.[jp][pn]g"))
    return any(hashlib.sha256(file.read_bytes()).hexdigest() in known for file in files)
