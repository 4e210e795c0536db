"""The checks of lesson 5: configuration."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from common import data
from common.cli import UserError
from common.config import Categorical, Float, find_spaces, load_config, resolve
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.lesson.exercises import exercise
from common.seeds import Stream

NAMED = TrainingConfig(
    augmentation=Categorical([None, Augmentation(rotation=Float(0, 90))]),
)
"""The config of exercise 5.1."""
CHOICE = TrainingConfig(
    learning_rate=Float(1e-4, 1e-2, log=True),
    optimizer=Categorical([AdamW(beta1=Float(0.8, 0.95)), SGD(momentum=Float(0.5, 0.99))]),
)
"""The config of exercise 5.2."""
PARAMS = {"learning_rate": 0.002, "optimizer": "SGD", "optimizer.SGD.momentum": 0.8}
"""What a trial chose in it."""


@exercise("5.1")
def parameter_name(answer: object) -> str | None:
    """The name of the rotation's parameter in :data:`NAMED`."""
    if not isinstance(answer, str):
        return "Give the name, a string."
    right = next(name for name in find_spaces(NAMED) if name.endswith("rotation"))
    if answer == right:
        return None
    if not answer.startswith("augmentation"):
        return "The name is a path from the top of the config."
    if not answer.endswith("rotation"):
        return "The path goes on to the field that holds the space."
    if len(answer.split(".")) < len(right.split(".")):
        return "Below a choice the path names the alternative, so that no two alternatives share a parameter."
    return "An alternative that is no scalar goes by the name of its class."


@exercise("5.2")
def resolved(answer: object) -> str | None:
    """:data:`CHOICE` with :data:`PARAMS` in place of its spaces."""
    if not isinstance(answer, TrainingConfig):
        return "Give a TrainingConfig."
    left = find_spaces(answer)
    if left:
        return f"It still holds a search space: {next(iter(left))}."
    if not isinstance(answer.optimizer, SGD):
        return "The trial chose the other optimiser."
    if answer.optimizer.momentum != PARAMS["optimizer.SGD.momentum"]:
        return "The momentum is not what the trial chose."
    if answer.learning_rate != PARAMS["learning_rate"]:
        return "The learning rate is not what the trial chose."
    return None if answer == resolve(CHOICE, _Chosen()) else "A setting that no space stood for has changed."


class _Chosen:
    def suggest_float(self, name: str, low: float, high: float, **options: object) -> float:
        return PARAMS[name]

    def suggest_categorical(self, name: str, choices: object) -> object:
        return PARAMS[name]


@exercise("5.3")
def own_config(answer: object) -> str | None:
    """The path of a config file that searches the optimiser, what each has of its own, and the learning rate."""
    if not isinstance(answer, str | Path):
        return "Give the path of your file."
    try:
        config = load_config(answer, TrainingConfig)
    except UserError as error:
        return f"It does not load: {error}"
    spaces = find_spaces(config)
    rate = spaces.get("learning_rate")
    if not isinstance(rate, Float):
        return "The learning rate of fine-tuning should be a space of real numbers, under its own name."
    if not rate.log:
        return "The learning rate spans orders of magnitude: on a linear scale nearly all trials are in the highest."
    choice = config.optimizer
    if not isinstance(choice, Categorical):
        return "The optimiser should be a choice between sub-configs."
    if {type(option) for option in choice.choices} != {AdamW, SGD}:
        return "Offer both optimisers."
    bare = [option for option in choice.choices if not find_spaces(option)]
    return f"Nothing is searched in {type(bare[0]).__name__}: give it a space of its own." if bare else None


@exercise("5.4")
def own_images(answer: object) -> str | None:
    """A folder of the learner's own images, with a groups.csv, of which splits can be made."""
    if not isinstance(answer, str | Path):
        return "Give the path of the folder."
    if not Path(answer).is_dir():
        return "There is no such folder."
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            table = data.load_images(str(answer), 64)
            if table.groups is None:
                return "It loads. What must not be torn apart (patient, animal, series)? Say so in a groups.csv."
            data.make_splits(table, Stream(0).at("splits"), 2, 1, 2, 1)
    except UserError as error:
        return f"It cannot be used yet: {error}"
    return None
