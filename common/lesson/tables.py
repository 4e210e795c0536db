"""Tables in a lesson: the study's, and such as fit a page."""

from __future__ import annotations

import re

import pandas as pd
from IPython.display import HTML

from common.cli import UserError, did_you_mean
from common.state import PROJECT

_MARK = "\0"  # of a text, until it is HTML


def compact_table(table: pd.DataFrame, digits: int = 3) -> HTML:
    """A table to look at: column names are broken at underscores and dots, texts begin at the left, gaps are empty.

    Parameters
    ----------
    table : DataFrame
    digits : int
        Decimals of its floats.
    """
    table = table.rename(columns=lambda name: re.sub("[_.]", " ", name))
    texts = table.select_dtypes(exclude="number").columns
    table[texts] = table[texts].map(lambda text: f"{_MARK}{text}", na_action="ignore")
    page = table.rename(columns={name: f"{_MARK}{name}" for name in texts}).to_html(
        na_rep="", float_format=f"{{:z.{digits}f}}".format
    )
    return HTML(re.sub(f"<(t[dh])>{_MARK}", r'<\1 style="text-align:left">', page))


def study(name: str) -> pd.DataFrame:
    """A table of the study that lies in the repository, as ``study/results/NAME.csv`` has it.

    Raises
    ------
    UserError
        When there is none of that name.
    """
    folder = PROJECT / "study" / "results"
    known = sorted(path.stem for path in folder.glob("*.csv"))
    if name not in known:
        found = f"expected one of {', '.join(known)}{did_you_mean(name, known)}" if known else "there are no tables"
        raise UserError(f"study({name!r}): no such table in {folder}; {found}")
    return pd.read_csv(folder / f"{name}.csv")
