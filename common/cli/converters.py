"""Converters for argparse: from the text of a flag to its value, or what was expected."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime

from common.cli.errors import UserError, lacking

MODEL_NAME = r"\w[\w-]{0,249}"
"""What a registered model may be called, so that MLflow takes it in each place: letters and digits are ASCII."""
PROMOTIONS = ("paired", "highest")
"""The rules by which a registered version goes into production."""
MOST = 10**9
"""Of anything that a flag counts."""


def precision(text: str) -> str:
    """A converter for argparse: ``--precision``."""
    if not re.fullmatch(r"auto|measure|(fp32|bf16)(, \w+ (fp32|bf16))*", text):
        raise argparse.ArgumentTypeError(f"expected auto, measure, fp32 or bf16, found {text!r}")
    return text


def experiment(text: str) -> str:
    """A converter for argparse: the name of an experiment of MLflow, which may hold strftime codes."""
    name = datetime.now().strftime(text) if text.isprintable() else text
    if name in ("", ".", "..") or not name.isprintable() or re.search(r"[/\\]", name) or len(name.encode()) > 200:
        found = repr(text) if name == text else f"{text!r}, now {name!r}"
        raise argparse.ArgumentTypeError(f"expected a folder's name: no slashes, at most 200 bytes; found {found}")
    return text


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A converter for argparse: an integer of at least `low` and at most `high`, by default :data:`MOST`."""
    most = MOST if high is None else high

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= most:
            bounds = f"of at least {low}" if high is None and number < low else f"from {low} to {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, found {text!r:.80}")
        return number

    return convert


def seed(text: str) -> int:
    """A converter for argparse: a root seed, which fits into a database."""
    return whole_number(0, 2**63 - 1)(text)


def registered_name(text: str) -> str:
    """A converter for argparse: the name of a registered model."""
    if problem := lacking("production"):
        raise UserError(problem)
    if not re.fullmatch(MODEL_NAME, text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected up to 250 letters, digits, '_' and '-', found {text!r:.80}")
    return text


def promotion(text: str) -> str:
    """A converter for argparse: ``--promotion``."""
    if text not in PROMOTIONS:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(PROMOTIONS)}, found {text!r:.80}")
    return text


def place(text: str) -> str:
    """A converter for argparse: a name or a path, which an empty text is not."""
    if not text:
        raise argparse.ArgumentTypeError("found an empty text; expected a name or a path")
    return text


def reason_text(text: str) -> str:
    """A converter for argparse: why something is done, in one line."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected a reason in one line, found {text!r:.80}")
    return text.strip()


def engine_address(text: str) -> str:
    """A converter for argparse: where fits run."""
    if text != "local" and not re.fullmatch(r"(tcp|tls|ucx|ws|wss)://[^\s/:]+(:\d+)?|tcp://\[[0-9a-f:]+\]:\d+", text):
        raise argparse.ArgumentTypeError(f"expected local, tcp://HOST:PORT or tls://HOST:PORT, found {text!r:.80}")
    return text
