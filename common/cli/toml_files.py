"""Small files of settings in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.cli.errors import UserError, did_you_mean, escaped, reason_of
from common.state import regular


def read_toml(path: Path, known: Collection[str]) -> dict[str, Any]:
    """What a TOML file says.

    Raises
    ------
    UserError
        When it is none, or has a key that is not among those that are `known`.
    """
    try:
        found = tomllib.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a TOML file ({reason_of(error)})") from error
    for key in found:
        if key not in known:
            said = f"expected one of {', '.join(known)}" if len(known) < 10 else "no such key"
            raise UserError(f"{path}: {escaped(key)}: {said}{did_you_mean(key, known)}")
    return found
