"""What finished runs are asked for in medicine: each score of the test predictions with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.cli import UserError
from common.evaluation import calibration, weighted
from common.evaluation.bootstrap import NO_VARIANCE, Measure, limits_of, proportion_limits, resampled, symmetric_limits
from common.evaluation.delong import auc_interval
from common.evaluation.metrics import threshold_that_keeps
from common.evaluation.predictions import classes_of, probabilities_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import OuterFold, mean_of, tested_folds, units_called


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


class _Asked(NamedTuple):
    title: str
    measure: Measure
    limits: Callable[..., Interval] = limits_of
    labels: Sequence[int] | None = None  # classes that it depends on: all


_AT_DEV = {
    "sensitivity": _Asked("sensitivity (recall)", weighted.sensitivity_of, proportion_limits, [1]),
    "specificity": _Asked("specificity", weighted.specificity_of, proportion_limits, [0]),
}
_OF_ANY = {
    "balanced_accuracy": _Asked("balanced accuracy", weighted.balanced_accuracy_of, proportion_limits),
    "accuracy": _Asked("accuracy", weighted.accuracy_of, proportion_limits),
    "mcc": _Asked("MCC", weighted.mcc_of),
    "precision": _Asked("precision", weighted.precision_of),
    "f1": _Asked("F1", weighted.f1_of),
    "pr_auc": _Asked("PR AUC", weighted.pr_auc_of, partial(symmetric_limits, to_logit=True)),
    "brier": _Asked("Brier score", weighted.brier_of),
    "log_loss": _Asked("log loss", weighted.log_loss_of),
}
_CALIBRATION = {
    "calibration_slope": _Asked("calibration slope", calibration.calibration_slope, symmetric_limits),
    "calibration_intercept": _Asked("calibration intercept", calibration.calibration_intercept),
}
_IN_THE_LARGE = "calibration_intercept"


def more_test_scores(predictions: pd.DataFrame, prevalence: float | None = None) -> dict[str, Score]:
    """Scores of a predictions table, with intervals by a bootstrap of patients (of images, where they have no groups).

    Means over the outer folds of the mean over their models. The ROC AUC has DeLong's limits.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.
    prevalence : float, optional
        Share of class 1 among those who will be tested, in (0, 1), for the predictive values.

    Returns
    -------
    dict from name to Score
        Of two classes ``roc_auc, sensitivity, specificity, sensitivity_at_90_specificity`` and the like, ``ppv, npv``
        with a prevalence, ``balanced_accuracy, accuracy, mcc, precision, f1, pr_auc, brier, log_loss,
        calibration_slope, calibration_intercept, ece``; of more those of them that need no threshold.

    Raises
    ------
    UserError
        For a prevalence with more than two classes.
    """
    folds, n_classes = tested_folds(predictions), len(classes_of(predictions))
    if n_classes > 2 and prevalence is not None:
        raise UserError(f"--prevalence {prevalence:g}: predictive values are of two classes; the run has {n_classes}")
    asked = {name: (one, folds) for name, one in {**_AT_DEV, **_OF_ANY, **_CALIBRATION}.items()}
    moved = {}
    if n_classes > 2:
        asked = {name: asked[name] for name in _OF_ANY}
    else:
        moved = _where_dev_has(0.9, predictions, folds) | _where_dev_has(0.95, predictions, folds)
    values = resampled(
        {name: (one.measure, on) for name, (one, on) in (asked | moved).items() if name != _IN_THE_LARGE}
    )
    if n_classes == 2:
        values |= resampled({_IN_THE_LARGE: (calibration.calibration_intercept, folds)}, stratified=False)
    found = {
        name: Score(one.title, one.limits(values[name], folds, one.labels or range(n_classes)))
        for name, (one, _) in (asked | moved).items()
    }
    if prevalence is not None:
        found |= _predictive_values(values["sensitivity"], values["specificity"], folds, prevalence)
    if n_classes == 2:
        found |= _with_notes(found, moved) | _calibration_scores(found, folds)
    chance = np.mean([(fold.labels == 1).mean() for fold in folds]) if n_classes == 2 else 1 / n_classes
    found["pr_auc"] = found["pr_auc"]._replace(note=f"by chance {chance:.3f}, the share of the class")
    if n_classes > 2:
        found["brier"] = found["brier"]._replace(note="0 to 2: sum over the classes")
    found["roc_auc"] = Score("ROC AUC", auc_interval(folds))
    n_units, units = len(set().union(*(fold.units.tolist() for fold in folds))), units_called(predictions)
    for name, (_, interval, _) in found.items():
        if interval.missing == NO_VARIANCE and interval.value == 1:
            words = replace(interval, missing=f"no error among {n_units} {units}")
            found[name] = found[name]._replace(interval=words)
    order = ["roc_auc", *_AT_DEV, *moved, "ppv", "npv", *_OF_ANY, *_CALIBRATION, "ece"]
    return {name: found[name] for name in order if name in found}


def as_metrics(scores: Mapping[str, Score]) -> dict[str, float]:
    """``test_sensitivity, test_sensitivity_low, test_sensitivity_high`` and so on, without what is not there."""
    metrics: dict[str, float] = {}
    for name, (_, interval, _) in scores.items():
        values = {"": interval.value, "_low": interval.low, "_high": interval.high}
        metrics |= {f"test_{name}{end}": value for end, value in values.items() if np.isfinite(value)}
    return metrics


def _where_dev_has(
    share: float, predictions: pd.DataFrame, folds: list[OuterFold]
) -> dict[str, tuple[_Asked, list[OuterFold]]]:
    """Sensitivity at a specificity and the other way round: folds whose thresholds have it on the dev sets."""
    dev = predictions[predictions["part"] == "dev"]
    if dev.empty:
        return {}
    found = {}
    for name, other, label in (("sensitivity", "specificity", 0), ("specificity", "sensitivity", 1)):
        thresholds = [
            [
                threshold_that_keeps(label, share, model["label"].to_numpy(), probabilities_of(model))
                for _, model in fold.groupby("inner_split")
            ]
            for _, fold in dev.groupby("root_split")
        ]
        moved = [fold._replace(thresholds=np.array(own)) for fold, own in zip(folds, thresholds, strict=True)]
        asked = _AT_DEV[name]._replace(title=f"{name} at {share:.0%} {other}".replace("%", " %"))
        found[f"{name}_at_{100 * share:.0f}_{other}"] = (asked, moved)
    return found


def _with_notes(found: Mapping[str, Score], moved: Mapping[str, tuple[_Asked, list[OuterFold]]]) -> dict[str, Score]:
    """Scores at a threshold from dev, with what the other one is on the test sets there."""
    noted = {}
    for name, (_, folds) in moved.items():
        other = name.rpartition("_")[2]
        reached = resampled({other: (_AT_DEV[other].measure, folds)}, 0)[other][0]
        noted[name] = found[name]._replace(note=f"dev threshold; {other} {reached:.3f} on test")
    return noted


def _predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, folds: list[OuterFold], prevalence: float
) -> dict[str, Score]:
    """PPV and NPV of the resampled sensitivity and specificity.

    Where one of these is the same in all resamples, the limits are those that both limits give, each of which holds
    with half the error.
    """
    pair = proportion_limits(sensitivity, folds, [1], 0.975), proportion_limits(specificity, folds, [0], 0.975)
    is_constant = any(np.ptp(values) <= 1e-12 for values in (sensitivity, specificity))
    found = {}
    formulas: dict[str, Callable] = {"ppv": _ppv, "npv": _npv}
    for name, value_of in formulas.items():
        values = value_of(sensitivity, specificity, prevalence)
        interval = limits_of(values, folds, [0, 1])
        if np.isnan(values[0]):
            interval = replace(interval, missing="no image is predicted so")
        elif is_constant and pair[0].limits and pair[1].limits:
            low, high = (value_of(*(getattr(one, end) for one in pair), prevalence) for end in ("low", "high"))
            interval = Interval(float(values[0]), float(low), float(high))
        found[name] = Score(name.upper(), interval, f"at a prevalence of {prevalence:g}")
    return found


def _ppv(sensitivity, specificity, prevalence: float):
    found, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        return np.divide(found, found + wrong)


def _npv(sensitivity, specificity, prevalence: float):
    return _ppv(specificity, sensitivity, 1 - prevalence)


def _calibration_scores(found: Mapping[str, Score], folds: list[OuterFold]) -> dict[str, Score]:
    slope, intercept = (found[name] for name in _CALIBRATION)
    one = [
        calibration.calibration_slope(fold.labels, model, 0.5, np.ones((1, len(model))))[0]
        for fold in folds
        for model in fold.probabilities
    ]
    if lacking := int(np.isnan(one).sum()):
        missing = f"no slope in {lacking} of {len(one)} models: separated, or constant"
        slope = slope._replace(interval=Interval(float("nan"), missing=missing))
    error = mean_of(folds, lambda labels, probabilities, _: calibration.calibration_error(labels, probabilities))
    chance = mean_of(folds, lambda _, probabilities, __: calibration.error_by_chance(probabilities))
    bins = " or ".join(map(str, sorted({calibration.calibration_bins(len(fold.labels)) for fold in folds})))
    ece = Interval(error, missing="no interval")
    return {
        "calibration_slope": slope._replace(note="" if lacking else "1 is ideal, below 1 too extreme"),
        "calibration_intercept": intercept._replace(note="0 is ideal, above 0 too low"),
        "ece": Score("calibration error (ECE)", ece, f"{bins} bins, about {chance:.3f} by chance if calibrated"),
    }
