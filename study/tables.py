"""Draws the conclusions of the study: ``optimism.csv`` and ``claims.csv``, and in docs two pictures and two tables.

Everything comes from the tables that ``python -m study`` has written, so it takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common import cli

if TYPE_CHECKING:
    import pandas as pd

    from study.finished import Finished

RESULTS, DOCS = cli.PROJECT / "study" / "results", cli.PROJECT / "docs"
COLUMNS = {
    "run": {"method": "method", "seeds": "seeds", "root_splits": "outer folds", "models": "models tested"},
    "claims": {"step": "step", "claim": "claim", "value": "ROC AUC [limits]", "method": "what the limits are"},
    "optimism": {"method": "search", "n": "trials"}
    | {name: name for name in ("dev", "test", "optimism", "shared", "independence")},
}
"""Columns of the tables in docs/study.md."""


def as_markdown(name: str, table: pd.DataFrame) -> str:
    """A table of this module for people: a part for each data set."""
    if name == "claims":
        table = table.assign(value=[in_words(row) for _, row in table.iterrows()])
    columns, parts = COLUMNS[name], []
    for data, rows in table.groupby("data", sort=False):
        cells = rows[list(columns)].map(
            lambda value: f"{round(value, 3) + 0:.3f}" if isinstance(value, float) else str(value)
        )
        lines = [[f"**{data}**", *([""] * (len(columns) - 1))], *cells.to_numpy().tolist()]
        parts += [" | ".join(line) for line in lines]
    return "\n".join(f"| {line} |" for line in [" | ".join(columns.values()), "|".join(["---"] * len(columns)), *parts])


def run_table(of_data: list[Finished]) -> pd.DataFrame:
    """What was run, a row for each data set and method."""
    import pandas as pd

    folds = pd.concat(found.folds for found in of_data).groupby(["data", "method"], sort=False)
    named = {"seeds": ("seed", "nunique"), "root_splits": ("root_split", "nunique"), "models": ("seed", "size")}
    return folds.agg(**named).reset_index()


def in_words(row: pd.Series) -> str:
    """A number of the closing table with its limits."""
    if row["kind"] == "share":
        return f"{row['number']:.0%}"
    number, low, high = (f"{round(row[name], 3) + 0:.3f}" for name in ("number", "low", "high"))
    return number if low == "nan" else f"{number} [{low}, {high}]"


def with_table(page: str, name: str, table: str) -> str:
    """A page with a table between its marks ``<!-- name -->`` and ``<!-- end of name -->``."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if begin not in page or end not in page:
        raise cli.UserError(f"study.md: expected the marks {begin.strip()} and {end.strip()}")
    return page[: page.index(begin) + len(begin)] + table + page[page.index(end) :]


def main(argv: list[str] | None = None) -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="of the study's tables")
    flags.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="of the pictures and of study.md")
    args = flags.parse_args(argv)
    from common.state import whole_file
    from study.best import optimism_table
    from study.claims import claims_table
    from study.finished import read
    from study.pictures import claims_picture, optimism_picture

    found = read(args.results)
    optimism = optimism_table(found)
    claims = claims_table(found, optimism)
    pictures = {"claims": claims_picture(claims), "optimism": optimism_picture(optimism)}
    try:
        page = (args.docs / "study.md").read_text("utf-8")
        page = with_table(page, "run", as_markdown("run", run_table(found)))
        for name, table in (("optimism", optimism), ("claims", claims)):
            with whole_file(args.results / f"{name}.csv", "w") as text:
                table.to_csv(text, index=False, lineterminator="\n")
            with whole_file(args.docs / f"{name}.png") as picture:
                picture.write(pictures[name].png())
            page = with_table(page, name, as_markdown(name, table))
        with whole_file(args.docs / "study.md", "w") as text:
            text.write(page)
    except OSError as error:
        raise cli.UserError(f"{error.filename}: cannot be written ({error.strerror})") from error
    for data, rows in claims.groupby("data"):
        print(
            f"\n{data}\n" + rows[["step", "claim", "number", "low", "high"]].to_string(index=False, float_format="%.3f")
        )
    print(f"\ndone: optimism.csv and claims.csv in {args.results}, pictures and study.md in {args.docs}")


if __name__ == "__main__":
    cli.run(main)
