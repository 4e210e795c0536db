"""All that is known of one root run, by fold, as text and as plots, with the command that makes it again."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pandas as pd

from common import tracking
from common.cli import UserError, escaped
from common.data.csv_tables import check_same_folds, read_table
from common.results.deleting import root_ids
from common.results.listing import kept_command, ledger, row_of, settings_of, test_reads
from common.results.opening import open_trees
from common.results.sizes import bytes_of, in_words_of, tree_sizes
from common.results.trees import KeptRun, RootRun, Tree, Trees, local_folder
from common.search.kept import study_records
from common.tracking.identity import searched_all

OF_DEV = ["root_split", "inner_split", "n_train", "n_dev", "n_test", "threshold", "dev_roc_auc"]
OF_TEST = ["test_roc_auc", "test_balanced_accuracy", "test_mcc", "test_brier"]


class Absent(UserError):
    """A run has no such artifact."""


def show_run(run_id: str) -> str:
    """What is known of a root run, as text: where it comes from, its scores by fold, what is below it, and its command.

    Test scores are shown of a run that has shown them itself, and then from its metrics and ``results.csv``.

    Parameters
    ----------
    run_id : str
        Of a root run, or how it begins.

    Raises
    ------
    UserError
        When there is no such run.
    """
    trees = open_trees()
    (run_id,) = root_ids(trees, [run_id])
    tree = trees.tree(run_id)
    root = next(root for root in trees.roots() if root.run_id == run_id)
    results = _results(trees, run_id)
    settings = settings_of(root)
    row = row_of(root, {} if trees.uri.startswith("http") else tree_sizes(trees), test_reads())
    sections = [
        _about(tree.root, root, row),
        _scores(trees, tree, row, results),
        _search(run_id, settings),
        _below(tree, settings),
        _artifacts(trees, tree.root),
        _again(tree.root),
    ]
    return "\n\n".join(filter(None, sections))


def results_by_fold(run_id: str) -> pd.DataFrame:
    """The table ``results.csv`` of a root run, a row for each fold; without test scores unless the run shows them.

    Raises
    ------
    UserError
        When there is no such run, or it has no such table yet.
    """
    trees = open_trees()
    (run_id,) = root_ids(trees, [run_id])
    table = _table(trees, run_id, "results.csv")
    if "test_roc_auc" not in trees.client.get_run(run_id).data.metrics:
        table = table[[name for name in table if not name.startswith(("test_", "optimism"))]]
    return table


def plot_run(run_id: str, folder: str | Path) -> list[Path]:
    """Draw a root run's predictions into a folder: ROC curve, probabilities, calibration, confusion matrix and folds.

    Raises
    ------
    UserError
        When there is no such run, it has no predictions yet, it does not show its test scores, or the folder cannot be
        written.
    """
    from common import plots
    from common.evaluation.predictions import classes_of

    trees = open_trees()
    (run_id,) = root_ids(trees, [run_id])
    if "test_roc_auc" not in trees.client.get_run(run_id).data.metrics:
        raise UserError(f"run {run_id}: shows no test scores; its step's analyze_predictions.py does")
    predictions, results = _table(trees, run_id, "predictions.csv"), _table(trees, run_id, "results.csv")
    check_same_folds(predictions, results, f"run {run_id}")
    classes = classes_of(predictions)
    figures = {
        "roc": plots.roc_plot(predictions, classes),
        "density": plots.density_plot(predictions, classes),
        "calibration": plots.calibration_plot(predictions, classes),
        "confusion": plots.confusion_plot(predictions, classes),
        "folds": plots.fold_plot(predictions, results),
    }
    try:
        return plots.save_plots(figures, folder)
    except OSError as error:
        raise UserError(f"{folder}: plots cannot be written there ({error.strerror})") from error


def _about(run: KeptRun, root: RootRun, row: dict) -> str:
    took = f", took {timedelta(seconds=(run.end - run.start) // 1000)}" if run.end else ""
    params = run.params
    commit = params.get("git_commit", "")[:12] + (" with changes" if params.get("git_dirty") == "True" else "")
    lines = {
        "run": f"{run.run_id}  {row['status']}{took}",
        "name": run.name,
        "started": str(row["started"]),
        "step": f"{row['step']}, config {row['config']}",
        "data": f"{row['data']}, version {row['version']}",
        "folds": f"{row['folds']}, {row['fits']} fit{'s' * (row['fits'] != 1)}",
        "code": commit,
        "machine": ", ".join(filter(None, [params.get("device", ""), params.get("precision", "")])),
        "repeated": ", ".join(root.verdicts),
        "test reads": str(row["test_reads"]) if row["test_reads"] else "",
        "came from": run.tags.get("origin", ""),
        "error": run.tags.get("error", ""),
        "on disk": in_words_of(row["bytes"]) if not math.isnan(row["bytes"]) else "",
    }
    return "\n".join(f"{name + ':':<12}{escaped(text)}" for name, text in lines.items() if text)


def _results(trees: Trees, run_id: str) -> pd.DataFrame | None:
    try:
        return _table(trees, run_id, "results.csv")
    except Absent:
        return None


def _scores(trees: Trees, tree: Tree, row: dict, results: pd.DataFrame | None) -> str:
    if results is None:
        return "no results yet" if tree.root.status != "FINISHED" else ""
    shown = "test_roc_auc" in {line[0] for line in tree.root.metrics}
    columns = [name for name in (*OF_DEV, *(OF_TEST if shown else ())) if name in results]
    table = results[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}")
    if not shown:
        return f"{table}\ntest scores are not shown: the step's analyze_predictions.py shows them"
    predictions = _table(trees, tree.root.run_id, "predictions.csv")
    said = f"{table}\ntest ROC AUC {row['test_roc_auc']:.3f}{_interval(predictions, row['low'], row['high'])}"
    if tree.root.status == "FINISHED":
        run = tracking.find_root(tree.root.run_id)
        check_same_folds(predictions, results, f"run {tree.root.run_id}")
        said = f"{said}\n{tracking.show_scores(run, predictions, 'results show')}".rstrip()
    return said


def _interval(predictions: pd.DataFrame, low: float, high: float) -> str:
    from common.evaluation.delong import auc_interval
    from common.evaluation.tested import tested_folds

    found = auc_interval(tested_folds(predictions))
    if math.isnan(low):  # a run of before these were logged
        low, high = found.low, found.high
    rough = "approximate " if found.approximate else ""
    return f" ({rough}95 % interval {low:.3f} to {high:.3f})" if not math.isnan(low) else ""


def _table(trees: Trees, run_id: str, name: str) -> pd.DataFrame:
    files = trees.artifacts(run_id)
    local = local_folder(files)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = local / name if local is not None else Path(files.download_artifacts(name, folder))
            content = path.read_bytes()
        except Exception as error:  # each kind of store has errors of its own
            raise Absent(f"run {run_id}: has no {name} ({type(error).__name__})") from None
    return read_table(content, f"run {run_id}: artifact {name}", name)


def _search(run_id: str, settings: dict[str, str]) -> str:
    lines = []
    for study in sorted(study_records(run_id), key=lambda study: (len(study["name"]), study["name"])):
        name = study["name"].removeprefix(run_id).strip()
        if searched_all(settings, name.removeprefix("root ")):
            name = "on all images, for the registered model"
        states = Counter(trial["state"].lower() for trial in study["trials"])
        values = [trial["values"][0] for trial in study["trials"] if trial["state"] == "COMPLETE"]
        best = f", best dev score {max(values):.3f}" if values else ""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        lines.append(f"search {name}: {counts}{best}")
    return "\n".join(lines)


def _below(tree: Tree, settings: dict[str, str]) -> str:
    kinds = Counter(_kind(run, settings) for run in tree.runs[1:])
    models = "".join(f"\nlogged model: {model.name} ({model.model_id})" for model in tree.models)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    named = Counter(line.get("what") for line in ledger() if line.get("run") == tree.root.run_id)
    on_record = ", ".join(f"{count} {what}" for what, count in named.items())
    return f"below it: {counts or 'nothing'}{models}" + (f"\nledger: {on_record}" if on_record else "")


def _kind(run: KeptRun, settings: dict[str, str]) -> str:
    level = run.tags.get("run_level") or ("analysis" if "analysis" in run.tags else "other")
    if level == "root_split" and searched_all(settings, run.tags.get("root_split", "")):
        return "search on all images"
    return level


def _artifacts(trees: Trees, run: KeptRun) -> str:
    local = local_folder(trees.artifacts(run.run_id))
    if local is None or not local.is_dir():
        return ""
    found = [f"  {path.name:<40} {in_words_of(bytes_of(path)):>10}" for path in sorted(local.iterdir())]
    return "\n".join([f"artifacts in {local}:", *map(escaped, found)])


def _again(run: KeptRun) -> str:
    again = command_again(run)
    if again and run.status == "FINISHED":
        again += f"\nexactly:   python -m common.tracking.reproduce {run.run_id}"
    return again


def command_again(run: KeptRun) -> str:
    """The line with the command that makes a run again; empty where it is not known."""
    words = kept_command(run)
    return f"again:     python {escaped(shlex.join(words))}" if words else ""
