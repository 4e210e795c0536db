"""Which folder a training works in: that of the same training, which goes on, or a new one beside those of others."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from common.params.keys import MESSAGES, Params
from common.params.own_code import own_code
from common.state import whole_file
from common.tracking.code import code_digests
from common.tracking.identity import differences, fingerprint, in_words, surroundings

NOT_OF_RESULTS = {*MESSAGES, "mode", "num_epochs", "save_freq"}
"""Keys of `params` that may differ where a training goes on."""
MOST = 5
"""Differences that are named."""


class Logdir:
    """A folder of one training: what it depends on and how far it has come, in ``run.json``.

    Attributes
    ----------
    folder : Path
    key : str
        Its run in MLflow has this in its tag ``logdir``.
    identity : dict, or None where it is not known
    finished : int
        Epochs, of the longest training that came to its end.
    """

    def __init__(self, folder: Path):
        self.folder, self.key, self.identity, self.finished = folder, secrets.token_hex(16), None, 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads((folder / "run.json").read_text())
            self.key, self.identity, self.finished = noted["key"], dict(noted["identity"]), int(noted["finished"])

    @property
    def is_new(self) -> bool:
        """Whether nothing was trained in it."""
        return not (self.folder / "run.json").exists() and not any(self.folder.glob("models/*.pt"))

    def note(self, **values: Any) -> None:
        """Write down what has changed."""
        vars(self).update(values)
        with whole_file(self.folder / "run.json", "w") as file:
            json.dump({"key": self.key, "finished": self.finished, "identity": self.identity}, file, indent=1)


def logdir_path(named: str | Path) -> Path:
    """The folder that is named, or one in ``REPROAI_LOGDIRS`` for it, where a repeated run begins anew."""
    folder, new = Path(named).expanduser(), os.environ.get("REPROAI_LOGDIRS")
    return Path(new, *[part for part in folder.parts if part not in (folder.anchor, "..")]) if new else folder


def logdirs_in(logdir: Path) -> list[Logdir]:
    """The folder itself, and ``run_2``, ``run_3``, … in it."""
    numbered = {int(name): path for path in logdir.glob("run_*") if (name := path.name[4:]).isdecimal()}
    return [Logdir(path) for path in (logdir, *(numbered[number] for number in sorted(numbered)))]


def choose_logdir(known: list[Logdir], identity: dict[str, str], may_begin: bool = True) -> Logdir:
    """That of the same training; else a new one, with a line that says what differs; unless `may_begin`, the last."""
    for place in known:
        if place.identity == identity:
            return place
    used = [place for place in known if not place.is_new]
    if not used or not may_begin:
        return used[-1] if used else known[0]
    last = known[-1].folder.name
    number = int(last[4:]) + 1 if len(known) > 1 else 2
    differs = ["what is not recorded"]
    if used[-1].identity is not None:
        differs = differences(identity, used[-1].identity)
        differs = [*differs[:MOST], *([f"{len(differs) - MOST} more"] if len(differs) > MOST else [])]
    made = Logdir(known[0].folder / f"run_{number}")
    print(f"a new run in {made.folder}: that in {used[-1].folder} differs in {', '.join(differs)}")
    return made


def identity_of(
    read: Params, data: Mapping[str, str], model: torch.nn.Module, things: Mapping[str, Any], compute
) -> dict[str, str]:
    """What the results of a training depend on, as :func:`common.tracking.identity.identity` has it for the steps.

    Parameters
    ----------
    data : dict
        The fingerprint of each part.
    things : dict from name to object
        The caller's own: the two steps, and what these are given. What is in a module with one of the steps counts
        function by function.
    """
    settings = {entry.name: getattr(read, entry.name) for entry in fields(read) if entry.name not in NOT_OF_RESULTS}
    settings["additional_transforms"] = settings["additional_transforms"] or ()
    steps = [getattr(things[step], "func", things[step]) for step in ("train_step", "test_step")]
    scripts = {"__main__", None} | {getattr(step, "__module__", None) for step in steps}
    kinds = {kind.__name__: kind for kind in map(type, model.modules())}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return {
        **{f"data.{part}": digest[:16] for part, digest in data.items()},
        **surroundings(compute),
        **{f"code.{name}": digest for name, digest in code_digests([Path(__file__).with_name("own_steps.py")]).items()},
        **own_code({**things, **kinds}, scripts),
        **{f"settings.{name}": value for name, value in _leaves(settings, "")},
        "model": fingerprint({"layers": str(model), "shapes": str(shapes)}),
    }


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Nested values by dotted names."""
    if isinstance(value, Mapping) or (isinstance(value, list | tuple) and value):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, f"{name}.{key}".lstrip("."))
    else:
        yield name, value.__qualname__ if isinstance(value, type) else in_words(value)
