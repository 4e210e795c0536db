"""The verdict on a run that was repeated: bitwise identical, within tolerance, or different from where on, and why."""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from common.tracking.identity import differences
from common.tracking.store import Connection

VERDICTS = ("bitwise identical", "within tolerance", "differs")
SHARE = 0.01


def compare_reproduced(uri: str, first, again_uri: str, again, only: int | None) -> tuple[str, list[str]]:
    """The verdict on two root runs, and lines that say why.

    The mean test ROC AUC is within tolerance when it differs by at most its standard error over the first run's folds;
    with one fold, by at most sqrt(a (1 - a) / n) for a ROC AUC of a on n test images. Of a run of
    ``common.params.train`` each test metric is, when it differs by at most :data:`SHARE` of it.
    """
    clients = Connection(uri), Connection(again_uri)
    if first.data.tags.get("step") == "train":
        return _compare_trainings(clients, first, again)
    tables = [_results(client, run.info.run_id) for client, run in zip(clients, (first, again), strict=True)]
    if only is not None:
        tables[0] = tables[0][tables[0]["root_split"] == str(only)].reset_index(drop=True)
    scores = [table["test_roc_auc"].astype(float) for table in tables]
    if len(scores[0]) > 1:
        tolerance, of = scores[0].sem(), f"the standard error over its {len(scores[0])} folds"
    else:
        area, n_test = scores[0][0], int(tables[0]["n_test"][0])
        tolerance, of = (area * (1 - area) / n_test) ** 0.5, f"the standard error with {n_test} test images"
    means = [float(score.mean()) for score in scores]
    gap = abs(means[0] - means[1])
    parting = _first_difference(_histories(clients[0], first, only), _histories(clients[1], again, only))
    report = [f"mean test ROC AUC {means[0]:.3f} then, {means[1]:.3f} now"]
    report += _changes(clients, first, again)
    if tables[0].equals(tables[1]) and parting is None:
        return VERDICTS[0], report
    report.append(f"they part at {parting or 'the test predictions'}")
    report.append(f"tolerance {tolerance:.4f} ({of}), difference {gap:.4f}")
    return VERDICTS[1 if gap <= tolerance else 2], report


def _compare_trainings(clients, first, again) -> tuple[str, list[str]]:
    then, now = (
        {
            (metric.step, name): metric.value
            for name in sorted(run.data.metrics)
            if not name.startswith("batch_")
            for metric in client.get_metric_history(run.info.run_id, name)
        }
        for client, run in zip(clients, (first, again), strict=True)
    )
    tests = [key for key in sorted(then) if key[1].startswith("test_")]
    report = [f"{name} {then[step, name]:.4g} then, {now.get((step, name), math.nan):.4g} now" for step, name in tests]
    report += _changes(clients, first, again)
    parting = next((key for key in sorted(then) if then[key] != now.get(key)), None)  # it may have gone on from others
    if parting is None:
        return VERDICTS[0], report
    step, name = parting
    report.append(f"they part at epoch {step}: {name} {then[parting]!r} then, {now.get(parting, 'missing')!r} now")
    report.append(f"tolerance {SHARE:.0%} of each test metric")
    is_near = all(abs(then[key] - now.get(key, math.inf)) <= SHARE * abs(then[key]) for key in tests)
    return VERDICTS[1 if is_near else 2], report


def _identity(client: Connection, run) -> dict[str, str]:
    noted = run.data.tags.get("identity")
    return json.loads(artifact(client, run.info.run_id, "identity.json") if noted is None else noted)


def _changes(clients, first, again) -> list[str]:
    """What a result depends on, and has changed."""
    then, now = (_identity(client, run) for client, run in zip(clients, (first, again), strict=True))
    changed = differences(now, then)
    if "packages" in changed:
        packages = [
            set(artifact(client, run.info.run_id, "provenance/packages.txt").decode().split())
            for client, run in zip(clients, (first, again), strict=True)
        ]
        named = ", ".join(sorted(packages[1] - packages[0])) + f" (was {', '.join(sorted(packages[0] - packages[1]))})"
        changed[changed.index("packages")] = f"packages: {named}"
    if "--only-root-split" in " ".join(changed):  # what --only asks for
        changed = [part for part in changed if part != "splits" and not part.startswith("--only-root-split")]
    return [f"changed: {part}" for part in changed] or ["changed: nothing that results depend on"]


def _results(client: Connection, run_id: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(artifact(client, run_id, "results.csv")), dtype=str)


def _histories(
    client: Connection, root, only: int | None
) -> tuple[dict[tuple, list[tuple]], dict[tuple, tuple[float, str]]]:
    """What the fits of a run gave, and which of its trials ended early.

    Returns
    -------
    values : dict
        Metric values by the place of a fit and its epoch, in the order in which they were made. Fits that a trial was
        not asked for any more are left out: how far they came depends on how many ran side by side.
    ended : dict from (root split, trial) to (int, str)
        How many of its inner folds count, and why no more: pruned or failed.
    """

    def runs(level: str, status: str) -> Iterator[tuple[tuple, Any]]:
        below = f"tags.root_run_id = '{root.info.run_id}' and tags.run_level = '{level}'"
        below = f"{below} and attributes.status = '{status}'"
        for run in client.search_runs([root.info.experiment_id], below, max_results=50_000):
            if only is None or run.data.tags.get("root_split") == str(only):
                yield tuple(int(run.data.tags.get(name, 0)) for name in ("root_split", "trial", "inner_split")), run

    failed = sorted((place for place, _ in runs("fold", "FAILED")), reverse=True)  # so the first one stays
    ended = {place[:2]: (place[2] + 1, "failed") for place in failed}
    ended |= {
        place[:2]: (run.data.metrics.get("folds", math.inf), "pruned") for place, run in runs("trial", "FINISHED")
    }
    values = {}
    for (*trial, inner), run in runs("phase", "FINISHED"):
        if inner >= ended.get(tuple(trial), (math.inf, ""))[0]:
            continue
        phase = run.data.tags["phase"]
        for name in sorted(run.data.metrics):
            for metric in client.get_metric_history(run.info.run_id, name):
                if not name.startswith("batch_"):
                    values[(*trial, inner, phase != "warm-up", metric.step, name)] = (phase, metric.value)
    return values, ended


def _first_difference(*runs: tuple[dict, dict]) -> str | None:
    """Where the histories of two runs part, then and now."""
    (then, _), (now, _) = runs
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            root, trial, inner, _, epoch, name = key
            phase = (then.get(key) or now.get(key))[0]
            found = []
            for values, ended in runs:
                folds, why = ended.get((root, trial), (math.inf, ""))
                found.append(repr(values[key][1]) if key in values else why if inner >= folds else "missing")
            place = f"root split {root}, trial {trial}, inner split {inner}, {phase}, epoch {epoch}"
            return f"{place}: {name} {found[0]} then, {found[1]} now"
    return None


def artifact(client: Connection, run_id: str, name: str) -> bytes:
    """The content of a file of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()
