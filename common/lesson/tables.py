"""Tables in a lesson that fit a page."""

from __future__ import annotations

import re

import pandas as pd
from IPython.display import HTML


def compact_table(table: pd.DataFrame, digits: int = 3) -> HTML:
    """A table to look at: column names are broken at underscores and dots, and what is missing is a gap.

    Parameters
    ----------
    table : DataFrame
    digits : int
        Decimals of its floats.
    """
    table = table.rename(columns=lambda name: re.sub("[_.]", " ", name))
    return HTML(table.to_html(na_rep="", float_format=f"{{:.{digits}f}}".format))
