"""All root runs as a table, a line each."""

from __future__ import annotations

import json
import math
import operator
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from common.cli import UserError, did_you_mean, escaped
from common.results.ending_note import INTERVAL
from common.results.opening import open_trees
from common.results.sizes import TreeSize, in_words_of, tree_sizes
from common.results.trees import KeptRun, RootRun
from common.state import state_folder
from common.tracking.at_work import folder_id, is_at_work

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
SCORE = ["test_roc_auc", "low", "high", "interval"]
COLUMNS = ["run", "started", "step", "config", "data", "version", "folds", "fits"]
COLUMNS += [*SCORE, "status", "verdict", "test_reads", "bytes"]


def list_runs(
    experiment: str | None = None, data: str | None = None, since: str | None = None, where: str | None = None
) -> pd.DataFrame:
    """All root runs of the tracking store that fit, the newest first.

    Parameters
    ----------
    experiment, data : str, optional
        Names.
    since : str, optional
        A day such as ``2026-11-01``, or how long ago: ``12h``, ``7d``, ``2w``.
    where : str, optional
        Comparisons of a column, a metric, a parameter or a tag, joined by ``and``: ``test_roc_auc > 0.9 and step = 5``.

    Returns
    -------
    DataFrame
        Columns ``run, started`` (local time), ``step, config, data, version`` (of data under DVC its MD5 sum, of others
        their fingerprint; 8 digits), ``folds`` (outer x inner), ``fits, test_roc_auc, low, high`` (its 95 % interval
        for new patients; NaN for a run that shows no test scores), ``interval`` (exact or approximate; empty where it
        was not logged), ``status`` (running, interrupted, finished), ``verdict`` (of the last time that it was
        repeated), ``test_reads`` (how often the record says that its test scores were shown) and ``bytes`` (on disk;
        NaN on a server).

    Raises
    ------
    UserError
        When the store cannot be used, or the day or a comparison cannot be read.
    """
    trees = open_trees()
    begin = _since(since) if since else None
    checks = _comparisons(where) if where else []
    sizes = {} if trees.uri.startswith("http") else tree_sizes(trees)
    reads = test_reads()
    kept = []
    known: set[str] = set()
    for root in trees.roots(all_params=bool(checks)):
        row = row_of(root, sizes, reads)
        known |= {*row, *root.metrics, *root.params, *root.tags}
        wanted = experiment in (None, root.experiment) and data in (None, row["data"])
        if wanted and (begin is None or row["started"] >= begin) and all(_fits(row, root, *check) for check in checks):
            kept.append(row)
    for name, _, _ in checks:
        if known and name not in known:
            raise UserError(f"--where: no run has {name}{did_you_mean(name, known)}")
    return pd.DataFrame(kept, columns=COLUMNS)


def for_people(table: pd.DataFrame) -> str:
    """A table of this room as text: sizes with their units, scores with three digits, the first 8 digits of ids."""
    shown = table.copy()
    if "run" in shown:
        scores = [_score(*row) for row in zip(*(shown[name] for name in SCORE), strict=True)]
        shown = shown.assign(run=shown["run"].str[:8], test_roc_auc=scores).drop(columns=SCORE[1:])
        shown = shown.rename(columns={"test_roc_auc": "test ROC AUC", "test_reads": "reads"})
    shown["bytes"] = ["" if size != size else in_words_of(size) for size in shown["bytes"]]
    shown = shown.rename(columns={"bytes": "on disk"})
    if shown.empty:
        return "no runs"
    return escaped_lines(shown.to_string(index=False))


def _score(score: float, low: float, high: float, kind: str) -> str:
    rough = "approximate " if kind == "approximate" else ""
    return "" if math.isnan(score) else f"{score:.3f}" + (f" ({rough}{low:.3f}-{high:.3f})" if low == low else "")


def escaped_lines(text: str) -> str:
    """Several lines, each without what a terminal would take for a command."""
    return "\n".join(map(escaped, text.split("\n")))


def row_of(root: RootRun, sizes: Mapping[str, TreeSize], reads: Mapping[str, int]) -> dict[str, Any]:
    """A row of :func:`list_runs`."""
    settings = settings_of(root)
    folds = [settings.get(f"--{name}-splits") for name in ("root", "inner")]
    score = root.metrics.get("test_roc_auc", math.nan)
    version = root.params.get("data_version", "")
    version = version if re.fullmatch("[0-9a-f]{32}.*", version) else root.params.get("data_fingerprint", "")
    alone = not root.fits and root.status == "FINISHED"
    return {
        "run": root.run_id,
        "started": datetime.fromtimestamp(root.start / 1000).replace(microsecond=0),
        "step": root.tags.get("step", root.experiment).removeprefix("step_"),
        "config": config_of(root),
        "data": root.params.get("data_name", ""),
        "version": version[:8],
        "folds": " x ".join(filter(None, folds)) if all(folds) else "1",
        "fits": 1 if alone else root.fits,
        "test_roc_auc": score,
        "low": root.metrics.get("test_roc_auc_low", math.nan),
        "high": root.metrics.get("test_roc_auc_high", math.nan),
        "interval": root.tags.get(INTERVAL, ""),
        "status": status_of(root),
        "verdict": root.verdicts[-1] if root.verdicts else "",
        "test_reads": reads.get(root.run_id, 0),
        "bytes": sizes[root.run_id].total if root.run_id in sizes else math.nan,
    }


def status_of(root: RootRun) -> str:
    """Whether it is running, was interrupted, so that its command goes on with it, or has finished."""
    if root.status == "FINISHED":
        return "finished"
    elsewhere = root.tags.get("folder", folder_id()) != folder_id()
    if is_at_work(root.run_id) or (root.status == "RUNNING" and elsewhere):
        return "running"
    return "interrupted"


def settings_of(root: RootRun) -> dict[str, str]:
    """The settings that its results depend on, by name, as Python's repr."""
    parts = _said(root, "identity", dict)
    return {name.removeprefix("settings."): str(text) for name, text in parts.items() if name.startswith("settings.")}


def config_of(root: RootRun) -> str:
    """The name of its config file, or of its backbone."""
    file = next((word for word in kept_command(root)[1:2] if word.endswith(".py")), None)
    return Path(file).stem if file else root.params.get("backbone", "")


def kept_command(run: RootRun | KeptRun) -> list[str]:
    """Its script and arguments; empty where they are not known."""
    return [str(word) for word in _said(run, "command", list)]


def _said(run: RootRun | KeptRun, tag: str, kind: type) -> Any:
    """What a tag holds as JSON; nothing of that kind where it holds none."""
    try:
        found = json.loads(run.tags.get(tag, ""))
    except ValueError:
        return kind()
    return found if isinstance(found, kind) else kind()


def test_reads() -> Counter[str]:
    """How often the record says that the test scores of each run were shown."""
    found: Counter[str] = Counter()
    for line in ledger():
        found[str(line.get("run"))] += line.get("what") == "read"
    return found


def ledger() -> list[dict[str, Any]]:
    """The lines of ``ledger.jsonl``; those that are none are left out."""
    path, lines = state_folder() / "ledger.jsonl", []
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def days_in(text: str) -> float | None:
    """Days that a text such as ``12h``, ``7d`` or ``2w`` means; None where it is no such text."""
    found = re.fullmatch(r"(\d{1,4})([hdw])", text)
    return found and int(found[1]) * DAYS[found[2]]


def _since(text: str) -> datetime:
    if (days := days_in(text)) is not None:
        return datetime.now() - timedelta(days=days)
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone().replace(tzinfo=None) if found.tzinfo else found
    except ValueError:
        expected = "a day such as 2026-11-01, or 12h, 7d or 2w"
        raise UserError(f"--since {text}: expected {expected}, found {text!r:.40}") from None


def _comparisons(text: str) -> list[tuple[str, str, str]]:
    found = []
    for part in re.split(r"\s+and\s+", text.strip()):
        match = re.fullmatch(r"\s*([\w.-]+)\s*(>=|<=|!=|==|=|>|<)\s*([^\s<>=!].*?)\s*", part)
        if match is None:
            example = "test_roc_auc > 0.9 and step = 5"
            raise UserError(f"--where {text!r:.80}: expected comparisons such as {example!r}, found {part!r:.40}")
        name, how, value = match.groups()
        found.append((name, how.replace("==", "="), value.strip("'\"")))
    return found


def _fits(row: Mapping[str, Any], root: RootRun, name: str, how: str, value: str) -> bool:
    found = next((each[name] for each in (row, root.metrics, root.params, root.tags) if name in each), None)
    if found is None:
        return False
    if isinstance(found, int | float) and not _is_number(value):
        raise UserError(f"--where: {name} is a number, expected one such as 0.9, found {value!r:.40}")
    try:
        return COMPARISONS[how](float(found), float(value))
    except (TypeError, ValueError):
        return COMPARISONS[how](str(found), value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
