"""Records that only the holder of a key can read, or change: Fernet (AES-128-CBC and HMAC-SHA256)."""

from __future__ import annotations

import json
from pathlib import Path

from common.cli import UserError
from common.state import regular


def _fernet():  # type: ignore[no-untyped-def]
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise UserError("cryptography is not installed; pip install cryptography, extra `evidence`") from None
    return Fernet


def new_key() -> bytes:
    """A random key: 44 characters."""
    return _fernet().generate_key()


def encrypted(kind: str, record: dict, key: bytes) -> bytes:
    """A record as a token of one line; `kind` is kept with it."""
    return _fernet()(key).encrypt(json.dumps({**record, "kind": kind}).encode())


def decrypted(kind: str, path: Path, key_file: Path) -> dict:
    """The record in a file.

    Raises
    ------
    UserError
        When there is no such file or key, when it is of another key or kind, or when a bit of it was changed.
    """
    try:
        token, key = regular(path).read_bytes(), regular(key_file).read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    try:
        fernet = _fernet()(key.strip())
    except ValueError as error:
        raise UserError(f"{key_file}: expected a key, as python -m common.evidence.seal writes it") from error
    try:
        record = json.loads(fernet.decrypt(token))
    except _invalid() as error:
        raise UserError(f"{path}: {key_file} does not open it; expected its own key, and no changes") from error
    if record.get("kind") != kind:
        raise UserError(f"{path}: found {record.get('kind')}; expected {kind}")
    return record


def _invalid() -> type[Exception]:
    from cryptography.fernet import InvalidToken

    return InvalidToken
