"""A search as one HTML page that needs nothing else: its best trials, its plots and all its trials."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

import pandas as pd

from common.search.pooled import Pool

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1320px; padding: 0 1rem; }
main { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; }
img { background: #fff; border: 1px solid #8886; border-radius: 6px; box-sizing: border-box; width: 100%; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { border-bottom: 1px solid #8884; padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; }
tr.best { font-weight: 600; }
"""


def search_page(pool: Pool, plots: Mapping[str, tuple[str, bytes]], score: str) -> str:
    """The page of a search, with a light and a dark look.

    Parameters
    ----------
    pool : Pool
    plots : mapping of str to (title, PNG file)
        By the stem of the plot's file.
    score : str
        Name of the score.
    """
    best, n_studies = pool.best(), pool.trials["study"].nunique()
    searches = f"{n_studies} studies" if n_studies > 1 else "one study"
    title = f"Search for the {'highest' if pool.maximize else 'lowest'} {score}"
    states = ", ".join(f"{count} {state}" for state, count in pool.trials["state"].value_counts().items())
    counted = f"{len(pool.trials)} finished trials of {searches}: {states}." if states else "No trial has finished."
    figures = "\n".join(
        f'<figure{" class=wide" if _is_wide(image) else ""}><img id="{escape(stem)}" alt="{escape(caption)}"'
        f' src="data:image/png;base64,{base64.b64encode(image).decode()}"></figure>'
        for stem, (caption, image) in plots.items()
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
<h1>{escape(title)}</h1>
<p>{escape(counted)}</p>
<h2>Best trial of each study</h2>
{_table(pool, best, score, set()) if len(best) else "<p>No trial completed.</p>"}
<h2>Plots</h2>
<main>
{figures}
</main>
<h2>All trials</h2>
{_table(pool, pool.trials, score, set(best.index))}
</html>
"""


def _is_wide(image: bytes) -> bool:
    """Whether a PNG file has more than 1100 columns."""
    return int.from_bytes(image[16:20], "big") > 1100


def _table(pool: Pool, trials: pd.DataFrame, score: str, best: set) -> str:
    """Trials with their parameters as an HTML table, the rows of the best ones in bold."""
    heads = ["study", "trial", "state", score, "seconds", *pool.searched]
    rows = trials.join(pool.values.set_axis([("", name) for name in pool.values], axis=1))
    lines = [(row[0], "".join(f"<td>{_cell(value)}</td>" for value in row[1:])) for row in rows.itertuples(name=None)]
    body = "\n".join(f'<tr class="best">{cells}</tr>' if i in best else f"<tr>{cells}</tr>" for i, cells in lines)
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
