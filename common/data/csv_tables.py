"""Tables of predictions and results, read as they were written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("part", "file", "class", "group", "digest")
"""Columns whose values stay what they are: a file may be called 050, a class None, and a group NA."""


def read_table(source: Path | bytes) -> pd.DataFrame:
    """A predictions or results table, from a CSV file or its content; an empty number is NaN.

    Raises
    ------
    ValueError
        When it is no such table.
    """
    import pandas as pd  # takes half a second

    content = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    numbers = {column: [""] for column in pd.read_csv(content, nrows=0) if column not in TEXTS}
    content.seek(0)
    return pd.read_csv(content, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=numbers)
