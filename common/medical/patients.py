"""Who is who without a name: a keyed hash of what identifies a patient, and the key, which stays on this machine."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from common.cli import UserError
from common.locks import locked
from common.state import data_folder, regular, whole

KEY_BYTES = 32
LEAST_BYTES = 16
"""Of a key that somebody brings."""


def key_file() -> Path:
    """The file of the key: what ``REPROAI_PATIENT_KEY`` names, or ``patients.key`` in the folder of data."""
    named = os.environ.get("REPROAI_PATIENT_KEY")
    return Path(named).expanduser().absolute() if named else data_folder() / "patients.key"


def patient_key() -> bytes:
    """The key of :func:`pseudonym`: random, made on first use, readable by its owner alone.

    Raises
    ------
    UserError
        When the file that ``REPROAI_PATIENT_KEY`` names is not there or short, or the key cannot be written.
    """
    path = key_file()
    try:
        if not path.exists() and not os.environ.get("REPROAI_PATIENT_KEY"):
            with locked(path):
                if not path.exists():
                    with whole(path) as part, open(os.open(part, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                        file.write(secrets.token_bytes(KEY_BYTES))
        key = regular(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the key of patients cannot be read or made ({error.strerror or error})") from error
    if len(key) < LEAST_BYTES:
        raise UserError(f"{path}: expected a key of at least {LEAST_BYTES} bytes, found {len(key)}")
    return key


def pseudonym(kind: str, value: str, key: bytes) -> str:
    """A name that stands for a value, such as ``patient-0123456789abcdef``: 64 bits of its HMAC-SHA256 (RFC 2104).

    The same value and key give the same name; without the key nobody can find the value by trying.
    """
    digest = hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()
    return f"{kind}-{digest[:16]}"
