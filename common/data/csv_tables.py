"""Tables of predictions and results, read as they were written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import UserError

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("part", "file", "class", "group", "digest")
"""Columns whose values stay what they are: a file may be called 050, a class None, and a group NA."""
NEEDED = {
    "predictions.csv": ("root_split", "inner_split", "part", "file", "class", "label", "threshold", "prediction"),
    "results.csv": (
        *("root_split", "inner_split", "n_train", "n_dev", "n_test", "threshold", "dev_roc_auc"),
        *("test_roc_auc", "test_balanced_accuracy", "test_mcc", "test_brier"),
    ),
}
"""Columns that each table has, also that of an earlier run."""
WHOLE = ("root_split", "inner_split", "label", "prediction", "n_train", "n_dev", "n_test")
"""Columns of whole numbers."""


def read_table(source: Path | bytes, called: str = "", name: str = "") -> pd.DataFrame:
    """A predictions or results table, from a CSV file or its content; an empty number is NaN.

    Parameters
    ----------
    source : Path or bytes
    called : str
        What messages call it, by default its path.
    name : str
        ``predictions.csv`` or ``results.csv``, by default the file's: what a whole table has. Any other table is not
        checked.

    Raises
    ------
    UserError
        When it is no such table, or not all of one.
    """
    try:
        if isinstance(source, bytes):
            content = source
        else:
            called, name = called or str(source), name or source.name
            content = source.read_bytes()
        table = _parsed(content)
    except OSError as error:
        raise UserError(f"{called}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # of pandas too
        raise UserError(f"{called}: is no table in CSV and UTF-8 ({type(error).__name__})") from error
    if problem := _problem(table, content, name):
        raise UserError(f"{called}: {problem}; expected the table as the run wrote it")
    return table


def check_same_folds(predictions: pd.DataFrame, results: pd.DataFrame, called: str) -> None:
    """Raise a UserError if the results of a run are not of the folds and of as many images as its predictions.

    Parameters
    ----------
    predictions, results : DataFrame
        As :func:`read_table` reads them.
    called : str
        What the message calls the run.
    """
    counts = _counts(predictions)
    of = {(row.root_split, row.inner_split): (row.n_dev, row.n_test) for row in results.itertuples()}
    if of != {fold: (count["dev"], count["test"]) for fold, count in counts.to_dict("index").items()}:
        raise UserError(
            f"{called}: predictions.csv and results.csv are not of the same folds and images, so one of them is not "
            "whole; expected the tables as the run wrote them"
        )


def _parsed(content: bytes) -> pd.DataFrame:
    import pandas as pd  # takes half a second

    numbers = {column: [""] for column in pd.read_csv(io.BytesIO(content), nrows=0) if column not in TEXTS}
    return pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=numbers)


def _problem(table: pd.DataFrame, content: bytes, name: str) -> str:
    """Why a table is not a whole one, as far as it alone can tell."""
    if name not in NEEDED:
        return ""
    found = [column for column in table if column == "probability" or column.startswith("probability_")]
    needed = [*NEEDED[name], *((found or ["probability"]) if name == "predictions.csv" else ())]
    if lacking := [column for column in needed if column not in table]:
        return f"has no column {lacking[0]}"
    if not content.endswith(b"\n"):
        return "ends within a line"
    if table.index.nlevels > 1 or table.index.dtype.kind != "i":  # pandas takes what is too much for an index
        return "has more fields in a line than in its header"
    if table.empty:
        return "has no rows"
    for column in (column for column in needed if column not in TEXTS):
        kind = table[column].dtype.kind
        if kind not in ("iu" if column in WHOLE else "iuf"):
            return f"column {column} has a value that is no {'whole ' * (column in WHOLE)}number"
    return _lacking_rows(table) if name == "predictions.csv" else ""


def _lacking_rows(predictions: pd.DataFrame) -> str:
    if strange := set(predictions["part"]) - {"dev", "test"}:
        return f"column part has {min(strange)!r:.40}, which is neither dev nor test"
    counts = _counts(predictions)
    for (outer, inner), count in counts.iterrows():
        is_first = counts.loc[outer].iloc[0]
        if not count["test"] or count["test"] != is_first["test"] or (count["dev"] == 0) != (is_first["dev"] == 0):
            return f"rows of inner fold {inner} of outer fold {outer} are missing"
    return ""


def _counts(predictions: pd.DataFrame) -> pd.DataFrame:
    """How many dev and how many test images each fold has."""
    counts = predictions.groupby(["root_split", "inner_split", "part"]).size().unstack(fill_value=0)
    return counts.reindex(columns=["dev", "test"], fill_value=0)
