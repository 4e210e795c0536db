"""Where to find what had another address in an earlier version: modules in what was kept, and commands."""

from __future__ import annotations

import sys
from itertools import pairwise

COMMANDS = {
    "common.data.eeg": "common.eeg",
    "common.data.idx": "common.params.idx",
    "common.data.versions": "common.versions",
    "common.predict": "common.production.predict",
    "common.pretrain": "common.model.pretrain",
    "common.tracking.events": "common.events",
    "common.watch": "common.production.watch",
}
"""Commands, ``python -m NAME``, by their former names."""

MODULES = {
    "common.evaluation.ensemble": "common.production.ensemble",
    "common.model.configurable": "common.params.configurable",
    "common.model.eeg": "common.eeg.eegnet",
    "common.model.net_arch": "common.params.net_arch",
    "common.search.cnn": "common.search.cnn_space",
    "common.training.params": "common.params.experiment",
}
"""Modules that kept networks, registered models or config files may name, by their former names."""


def refuse_former_command() -> None:
    """End a ``python -m`` of a former name with one line that says the new one."""
    words = sys.orig_argv
    name = next((after for word, after in pairwise(words) if word == "-m"), None)
    if name in COMMANDS and sys.argv[0] == "-m":
        print(f"error: python -m {name} is python -m {COMMANDS[name]} now", file=sys.stderr)
        raise SystemExit(2)
