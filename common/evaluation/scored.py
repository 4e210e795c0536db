"""What finished runs are asked for in medicine: each score of the test predictions with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.evaluation import calibration, weighted
from common.evaluation.bootstrap import limits_of, proportion_limits, resampled
from common.evaluation.delong import auc_interval
from common.evaluation.metrics import threshold_that_keeps
from common.evaluation.predictions import classes_of, probabilities_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import Tested, has_groups, mean_of, tested_folds

_OF_ANY = {
    "balanced_accuracy": ("balanced accuracy", weighted.balanced_accuracy_of),
    "accuracy": ("accuracy", weighted.accuracy_of),
    "mcc": ("MCC", weighted.mcc_of),
    "precision": ("precision", weighted.precision_of),
    "f1": ("F1", weighted.f1_of),
    "pr_auc": ("PR AUC", weighted.pr_auc_of),
    "brier": ("Brier score", weighted.brier_of),
    "log_loss": ("log loss", weighted.log_loss_of),
}
_OF_TWO = {
    "calibration_slope": ("calibration slope", calibration.calibration_slope),
    "calibration_intercept": ("calibration intercept", calibration.calibration_intercept),
}
_SENSITIVITY, _SPECIFICITY = (weighted.sensitivity_of, [1]), (weighted.specificity_of, [0])
_PROPORTIONS = ("balanced_accuracy", "accuracy")


class Score(NamedTuple):
    """A score of a run's test predictions.

    Attributes
    ----------
    title : str
        What it is called.
    interval : Interval
        For new patients; the models are taken as they are.
    note : str
        What else is to be known of it.
    """

    title: str
    interval: Interval
    note: str = ""


def more_test_scores(predictions: pd.DataFrame, prevalence: float | None = None) -> dict[str, Score]:
    """Scores of a predictions table, with intervals by a bootstrap of patients (of images, where they have no groups).

    Means over the outer folds of the mean over their models. Those of the ROC AUC have DeLong's limits.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    prevalence : float, optional
        Share of class 1 among those who will be tested, in (0, 1), for the predictive values.

    Returns
    -------
    dict from name to Score
        Of two classes ``roc_auc, sensitivity, specificity, balanced_accuracy, accuracy, mcc, precision, f1, pr_auc,
        brier, log_loss, sensitivity_at_90_specificity`` and the like, ``ppv, npv`` with a prevalence,
        ``calibration_slope, calibration_intercept, ece``; of more those of them that need no threshold.
    """
    folds, is_of_two = tested_folds(predictions), len(classes_of(predictions)) == 2
    every = list(range(len(classes_of(predictions))))
    scores = {"roc_auc": Score("ROC AUC", auc_interval(folds))}
    at_points = _at_points(predictions, folds) if is_of_two else {}
    measures = {name: (measure, folds) for name, (_, measure) in (_OF_ANY | (_OF_TWO if is_of_two else {})).items()}
    values = resampled(measures | {name: (point[1][0], point[2]) for name, point in at_points.items()})
    for name, (title, (_, labels), moved) in at_points.items():
        other = _SPECIFICITY if labels == [1] else _SENSITIVITY
        note = "" if moved is folds else f"threshold from dev; {_name_of(other)} reached {_value(other, moved):.3f}"
        scores[name] = Score(title, proportion_limits(values[name], moved, labels), note)
    if prevalence is not None and is_of_two:
        scores |= predictive_values(values["sensitivity"], values["specificity"], folds, prevalence)
    for name, (title, _) in _OF_ANY.items():
        limits = proportion_limits if name in _PROPORTIONS else limits_of
        scores[name] = Score(title, limits(values[name], folds, every))
    scores["pr_auc"] = scores["pr_auc"]._replace(note=_by_chance(folds, every))
    if is_of_two:
        scores |= _calibration_scores(values, folds)
    else:
        scores["brier"] = scores["brier"]._replace(note="0 to 2: sum over the classes")
    noun = "patient" if has_groups(predictions) else "image"
    return {name: score._replace(interval=_said(score.interval, name, folds, noun)) for name, score in scores.items()}


def as_metrics(scores: Mapping[str, Score]) -> dict[str, float]:
    """``test_sensitivity, test_sensitivity_low, test_sensitivity_high`` and so on, without what is not there."""
    metrics = {}
    for name, (_, interval, _) in scores.items():
        values = {"": interval.value, "_low": interval.low, "_high": interval.high}
        metrics |= {f"test_{name}{end}": value for end, value in values.items() if np.isfinite(value)}
    return metrics


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, folds: Sequence[Tested], prevalence: float
) -> dict[str, Score]:
    """PPV and NPV at a prevalence, of the resampled sensitivity and specificity.

    Where one of these is 0 or 1 in all resamples, the limits are those that both limits give, each of which holds with
    half the error.
    """
    each = [
        proportion_limits(sensitivity, folds, [1], 0.975),
        proportion_limits(specificity, folds, [0], 0.975),
    ]
    is_constant = any(np.ptp(values) <= 1e-12 for values in (sensitivity, specificity))
    found = {}
    for name, value_of in (("ppv", _ppv), ("npv", _npv)):
        values = value_of(sensitivity, specificity, prevalence)
        interval = limits_of(values, folds, [0, 1])
        if np.isnan(values[0]):
            interval = Interval(float("nan"), missing="no image is predicted so")
        elif is_constant and all(one.limits for one in each):
            low, high = (value_of(*(getattr(one, end) for one in each), prevalence) for end in ("low", "high"))
            interval = Interval(float(values[0]), float(low), float(high))
        found[name] = Score(name.upper(), interval, f"at a prevalence of {prevalence:g}")
    return found


def _ppv(sensitivity, specificity, prevalence: float):
    found, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        return found / (found + wrong)


def _npv(sensitivity, specificity, prevalence: float):
    return _ppv(specificity, sensitivity, 1 - prevalence)


def _at_points(predictions: pd.DataFrame, folds: list[Tested]) -> dict[str, tuple[str, tuple, list[Tested]]]:
    """Sensitivity and specificity at the dev threshold, and where the other one was 90 or 95 % on dev."""
    points = {
        "sensitivity": ("sensitivity (recall)", _SENSITIVITY, folds),
        "specificity": ("specificity", _SPECIFICITY, folds),
    }
    for asked, kept, kept_label in ((_SENSITIVITY, _SPECIFICITY, 0), (_SPECIFICITY, _SENSITIVITY, 1)):
        for percent in (90, 95):
            name, other = _name_of(asked), _name_of(kept)
            moved = _at_dev_thresholds(predictions, folds, partial(threshold_that_keeps, kept_label, percent / 100))
            points[f"{name}_at_{percent}_{other}"] = (f"{name} at {percent} % {other}", asked, moved)
    return points


def _at_dev_thresholds(predictions: pd.DataFrame, folds: list[Tested], choose) -> list[Tested]:
    dev = predictions[predictions["part"] == "dev"]
    chosen = [
        [choose(model["label"].to_numpy(), probabilities_of(model)) for _, model in fold.groupby("inner_split")]
        for _, fold in dev.groupby("root_split")
    ]
    return [fold._replace(thresholds=np.array(own)) for fold, own in zip(folds, chosen, strict=True)]


def _name_of(score: tuple) -> str:
    return "sensitivity" if score is _SENSITIVITY else "specificity"


def _value(score: tuple, folds: list[Tested]) -> float:
    return mean_of(folds, lambda *model: score[0](*model, np.ones((1, len(model[0]))))[0])


def _by_chance(folds: list[Tested], labels: list[int]) -> str:
    if len(labels) > 2:
        return f"by chance {1 / len(labels):.3f}: mean of the classes' shares"
    return f"by chance {np.mean([(fold.labels == 1).mean() for fold in folds]):.3f}: share of class 1"


def _calibration_scores(values: Mapping[str, np.ndarray], folds: list[Tested]) -> dict[str, Score]:
    slopes = [_one_slope(fold, model) for fold in folds for model in fold.probabilities]
    ideal = {"calibration_slope": "1 is ideal; below it the predictions are too extreme"}
    ideal["calibration_intercept"] = "0 is ideal; above it class 1 is more frequent than predicted"
    found = {name: Score(title, limits_of(values[name], folds, [0, 1]), ideal[name]) for name, (title, _) in _OF_TWO.items()}
    if separated := int(np.isnan(slopes).sum()):
        missing = f"{separated} of {len(slopes)} models separate the classes wholly: no slope"
        found["calibration_slope"] = Score("calibration slope", Interval(float("nan"), missing=missing))
    error = mean_of(folds, lambda labels, probabilities, _: calibration.calibration_error(labels, probabilities))
    chance = mean_of(folds, lambda _, probabilities, __: calibration.error_by_chance(probabilities))
    bins = sorted({calibration.calibration_bins(len(fold.labels)) for fold in folds})
    missing = "never below 0, so it has no interval"
    note = f"{' or '.join(map(str, bins))} bins; by chance {chance:.3f}"
    return found | {"ece": Score("calibration error (ECE)", Interval(error, missing=missing), note)}


def _one_slope(fold: Tested, model: np.ndarray) -> float:
    return float(calibration.calibration_slope(fold.labels, model, 0.5, np.ones((1, len(model))))[0])


def _said(interval: Interval, name: str, folds: list[Tested], noun: str) -> Interval:
    """An interval whose reason names what the units are, and how many there are."""
    n_units = len(set().union(*(fold.units.tolist() for fold in folds)))
    missing = interval.missing.replace("patient", noun)
    if missing.startswith("the same for all") and interval.value == 1:
        missing = f"no error among {n_units} {noun}s"
    return Interval(interval.value, interval.low, interval.high, missing)
