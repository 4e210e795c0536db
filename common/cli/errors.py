"""Errors that are one line for the user, and what such lines show of names, addresses and choices."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

from common.state import PROJECT

WINGS = {
    "eeg": "--data eeg",
    "engines": "--engine",
    "evidence": "--waive or --unsealed",
    "events": "a broker in the environment",
    "medical": "data with DICOM or NIfTI files",
    "params": "--data digits, or `params` in a config file",
    "production": "--register",
    "results": "REPROAI_DISK",
    "versions": "data under DVC",
}
"""Folders of `common` that may be left out, and what needs them."""


class UserError(Exception):
    """A mistake in the input: a script shows it as one line and ends with exit code 2.

    The message names the file, field or flag, what was found and what was expected; URLs in it are :func:`masked`.
    """

    exit_code = 2

    def __init__(self, *parts: object) -> None:
        super().__init__(*(masked(part) if isinstance(part, str) else part for part in parts))


def masked(text: str) -> str:
    """A text whose URLs show no password, token or key: ``http://me:***@host/db?token=***``."""
    text = re.sub(r"(:/+[^\s/:]*:)(?:\S*@|(?!\d+(?:\W|$))[^\n@]*@)", r"\1***@", text)  # a password may hold an @
    text = re.sub(r"(https?://)[^\s/:@]+@", r"\1***@", text)  # a token in place of a user
    return re.sub(r"(?i)([?&][^\s=&]*(?:pass|pwd|token|secret|key|sig|auth|cred)[^\s=&]*=)[^\s&]*", r"\1***", text)


class KilledError(UserError):
    """A process of a run was ended by the system, as it does when memory runs out: the same command goes on.

    The exit code is 137, as a shell says of a killed program, so that a scheduler or the watcher runs it again.
    """

    exit_code = 137


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the message says in which stream, epoch and batch, at which learning rate."""


@contextlib.contextmanager
def writing(what: object) -> Iterator[None]:
    """Say of an error of the operating system that a file, a folder or a flag cannot be written.

    Raises
    ------
    UserError
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written ({error.strerror or error})") from error


def reason_of(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error, where there is a known name like the one that was found."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def escaped(text: str) -> str:
    """The text on one line, with each character that is no plain one escaped, such as a terminal's codes in a name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lacking(wing: str) -> str | None:
    """Which wing is not there and what needs it, if its folder was left out."""
    if wing not in WINGS or (PROJECT / "common" / wing).exists():
        return None
    return f"{WINGS[wing]} needs common/{wing}, which is not here"
