"""Scores of a run in subgroups of its test images, such as those of one sex, site or device."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from common.cli import SOURCES, UserError, escaped, parts_in
from common.data.pairs import read_pairs
from common.data.scans import TAG_COLUMNS, tag_column, value_for
from common.evaluation.bootstrap import proportion_limits, resampled
from common.evaluation.delong import auc_interval
from common.evaluation.predictions import classes_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import tested_folds, units_called, units_of_class
from common.evaluation.weighted import sensitivity_of, specificity_of

LEAST_UNITS = 10
"""Patients (or images without groups) of each class from which on a subgroup has scores."""
MOST_VALUES = 20
"""Subgroups that a column may have."""


class Subgroup(NamedTuple):
    """A subgroup of the test images.

    Attributes
    ----------
    value : str
        Of the column.
    n_images : int
    n_units : list of int
        Patients (or images) of each class.
    scores : dict from name to Interval
        ``roc_auc`` and, of two classes, ``sensitivity`` and ``specificity``; none where a class has less than
        :data:`LEAST_UNITS`.
    n_folds : int
        Outer folds in which it has all classes; the scores are means over these.
    """

    value: str
    n_images: int
    n_units: list[int]
    scores: dict[str, Interval]
    n_folds: int


def subgroup_scores(
    predictions: pd.DataFrame, column: str, info: Path | None = None, data: str | None = None
) -> list[Subgroup]:
    """The subgroups of a run's test images, in the order of their names.

    Means over the outer folds in which a subgroup has both classes; the models are taken as they are.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    column : str
        Of the table `info`, or of the tags.
    info : Path, optional
        A CSV file whose column ``files`` names the images; by default ``info.csv`` of the data, and for
        :data:`common.data.scans.TAG_COLUMNS` the tags of DICOM files where that has no such column.
    data : str, optional
        What ``--data`` of the run was.

    Raises
    ------
    UserError
        Where there is no table or column, a value is missing, or there are more than :data:`MOST_VALUES`.
    """
    test = predictions[predictions["part"] == "test"]
    where, values = _column(column, info, data, sorted(set(test["file"])))
    found = test["file"].map(lambda file: value_for(file, values))
    if found.isna().any():
        lacking = sorted(set(test["file"][found.isna()]))
        raise UserError(f"{where}: no {column} for {lacking[0]} ({len(lacking)} such files)")
    names = sorted(set(found))
    if len(names) > MOST_VALUES:
        raise UserError(
            f"{where}: {column} has {len(names)} values; expected at most {MOST_VALUES}, such as age groups"
        )
    n_classes = len(classes_of(predictions))
    return [_subgroup(name, test[found == name], n_classes) for name in names]


def _subgroup(value: str, test: pd.DataFrame, n_classes: int) -> Subgroup:
    folds, labels = tested_folds(test), list(range(n_classes))
    n_units = [units_of_class(folds, label) for label in labels]
    scores = {}
    folds = [fold for fold in folds if set(fold.labels.tolist()) == set(labels)]
    if min(n_units) >= LEAST_UNITS and folds:
        scores["roc_auc"] = auc_interval(folds)
        if n_classes == 2:
            values = resampled({"sensitivity": (sensitivity_of, folds), "specificity": (specificity_of, folds)})
            scores["sensitivity"] = proportion_limits(values["sensitivity"], folds, [1])
            scores["specificity"] = proportion_limits(values["specificity"], folds, [0])
    return Subgroup(value, test["file"].nunique(), n_units, scores, len(folds))


def subgroups_text(predictions: pd.DataFrame, column: str, subgroups: list[Subgroup]) -> str:
    """Subgroups as plain text of at most 100 columns: a line for each, with its scores or why it has none."""
    noun = units_called(predictions)
    classes = classes_of(predictions)
    width = max(len(column), *(len(_short(subgroup.value)) for subgroup in subgroups))
    counted = noun if len(classes) > 2 else f"{noun} of {_short(classes[0])}, {_short(classes[1])}"
    heads = {"roc_auc": "ROC AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
    if len(classes) > 2:
        heads = {"roc_auc": heads["roc_auc"]}
    lines = [f"{column:<{width}}  {'n':>9}  " + "".join(f"{head:<23}" for head in heads.values())]
    for value, _, n_units, scores, _ in subgroups:
        counts = str(min(n_units)) if len(classes) > 2 else ", ".join(map(str, n_units))
        said = "".join(f"{_cell(scores[name]):<23}" for name in heads if name in scores)
        lines.append(
            f"{_short(value):<{width}}  {counts:>9}  {said or f'fewer than {LEAST_UNITS} of a class'}".rstrip()
        )
    missing = {f"{one.value}: {score.missing}" for one in subgroups for score in one.scores.values() if score.missing}
    n_folds = predictions["root_split"].nunique()
    missing |= {
        f"{one.value}: means over {one.n_folds} of {n_folds} outer folds, those with all classes"
        for one in subgroups
        if one.scores and one.n_folds < n_folds
    }
    what = f"n: {noun} of the rarest class" if len(classes) > 2 else f"n: {counted}"
    return "\n".join([*lines, f"({what}; 95 % intervals in brackets)", *sorted(missing)])


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f}" + ("" if interval.missing else f" [{interval.low:.3f}, {interval.high:.3f}]")


def _short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:13]}..."


def _column(column: str, info: Path | None, data: str | None, files: list[str]) -> tuple[Path, dict[str, str]]:
    """A column by file, and the table or the folder that it is of."""
    expected = "expected --info FILE, a CSV file with the columns files and " + column
    if info is not None:
        if not info.is_file():
            raise UserError(f"--info {info}: no such file; {expected}")
        return info, _escaped(read_pairs(info, "files", column))
    if data is None or data in SOURCES:
        raise UserError(f"--subgroups {column}: {data or 'what step 1 leaves'} comes without info.csv; {expected}")
    root = Path(data)
    tables = {"": root / "info.csv"}
    if column in TAG_COLUMNS and not _has_column(tables[""], column) and (tagged := tag_column(root, files, column)):
        return root, _escaped(tagged)
    if not tables[""].is_file():
        tables = {f"{part}/": root / part / "info.csv" for part in parts_in(root)}
    if not tables or not all(table.is_file() for table in tables.values()):
        raise UserError(f"--subgroups {column}: {root} has no info.csv; {expected}")
    each = {part: read_pairs(table, "files", column) for part, table in tables.items()}
    return root, _escaped({part + file: value for part, own in each.items() for file, value in own.items()})


def _has_column(table: Path, column: str) -> bool:
    return table.is_file() and column in table.read_text("utf-8-sig", "replace").partition("\n")[0].strip().split(",")


def _escaped(values: dict[str, str]) -> dict[str, str]:
    return {escaped(file): escaped(value) for file, value in values.items()}
