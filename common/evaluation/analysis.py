"""What an analysis of a finished run says beside its plots."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from common.evaluation.results_text import WIDTH, has_many_classes, results_table
from common.evaluation.scored import Score, more_test_scores
from common.evaluation.tested import units_called


def analysis_text(predictions: pd.DataFrame, results: pd.DataFrame, scores: Mapping[str, Score] | None = None) -> str:
    """The numbers behind the plots: the results, more test scores, and confusion counts over all test predictions.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    results : DataFrame
        With the columns of ``results.csv``.
    scores : mapping from name to Score, optional
        By default those of :func:`more_test_scores`.
    """
    test = predictions[predictions["part"] == "test"]
    counts = test.groupby(["class", "prediction"]).size().unstack(fill_value=0)
    names = test.groupby("label")["class"].first()
    counts = counts.reindex(index=list(names), columns=names.index, fill_value=0).set_axis(list(names), axis=1)
    counts = counts.rename_axis(index="true class", columns="predicted")
    of = f"sensitivity, precision, F1 and PR AUC are of {names.iloc[-1]}"
    if has_many_classes(results):
        counts = _numbered(counts)
        of = "precision, F1 and PR AUC are means over the classes; sensitivity, specificity, predictive values,\n"
        of += "calibration slope and decision curve are not defined for more than two classes"
    table = scores_table(more_test_scores(predictions) if scores is None else scores)
    whom = f"intervals are for new {units_called(predictions)} and these models"
    return f"{results_table(predictions, results)}\n\n{table}\n({of};\n{whom})\n\n{counts}"


def scores_table(scores: Mapping[str, Score]) -> str:
    """Scores as plain text: a line for each, with its 95 % interval or why there is none, and a note that fits."""
    width = max(len(score.title) for score in scores.values())
    lines = [f"{'test score':<{width}}   value  95 % interval"]
    for title, interval, note in scores.values():
        value = "" if interval.value != interval.value else f"{interval.value:.3f}"
        line = f"{title:<{width}}  {value:>6}  {interval.missing or f'{interval.low:.3f} to {interval.high:.3f}'}"
        noted = f"{line}; {note}"
        lines.append(noted if note and len(noted) <= WIDTH else line)
    return "\n".join(lines)


def _numbered(counts: pd.DataFrame) -> str:
    """Counts of many classes, whose columns are headed by the number of the class to be narrow."""
    rows = [str(n) if str(name) == str(n) else f"{n} {name}" for n, name in enumerate(counts.index)]
    numbered = counts.set_axis(range(len(rows)), axis=1).set_axis(rows).rename_axis("true class")
    return numbered.rename_axis("predicted", axis=1).to_string(line_width=WIDTH)
