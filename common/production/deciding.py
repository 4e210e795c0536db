"""Whether a new version of a registered model takes the place of the one in production."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from numpy.typing import ArrayLike
from scipy import integrate, stats

from common.cli import UserError
from common.data.csv_tables import read_table
from common.evaluation.bootstrap import limits_of, resampled
from common.evaluation.predictions import ensemble_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import OuterFold, tested_folds, units_of
from common.evaluation.weighted import mcc_of

SCORE, RULE, REASON = "test_mcc", "promotion_rule", "promotion_reason"


def decide(
    registry: MlflowClient, challenger: ModelVersion, champion: ModelVersion | None, scored: int
) -> tuple[bool, str]:
    """Whether a version takes the place of the one in production, and why.

    A reason that was given decides. Else it needs a `test_mcc`, and by the rule ``paired`` a higher one on the images
    that both were tested on, each out of fold; by the rule ``highest`` a higher one of its own.

    Parameters
    ----------
    scored : int
        Versions that have a score: of so many it would be the highest.
    """
    if reason := challenger.tags.get(REASON):
        return True, f"promoted on purpose: {reason}"
    if not math.isfinite(score := _score(challenger)):
        return False, f"it has no {SCORE}"
    if champion is None:
        return True, f"the first with a {SCORE}"
    if challenger.tags.get(RULE) == "highest":
        before = _score(champion)
        inflated = f"; highest of {scored}{_inflation(challenger, scored)}"
        return not score <= before, f"{SCORE} {score:.3f}, that of version {champion.version} {before:.3f}{inflated}"
    try:
        ours, theirs = (_out_of_fold(registry, version) for version in (challenger, champion))
    except (KeyError, MlflowException, OSError, UserError):
        why = "a run's predictions.csv is gone or damaged"
        return False, f"it cannot be compared with version {champion.version}: {why}"
    common = ours.join(theirs, how="inner", rsuffix="_theirs")
    if common.empty:
        return False, f"it cannot be compared with version {champion.version}: no image was tested with both"
    difference = mcc_difference(common["class"], common["prediction"], common["prediction_theirs"], common["unit"])
    limits = "" if difference.missing else f", 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    return difference.value > 0, (
        f"{SCORE} {difference.value:+.3f} against version {champion.version} on the {len(common)} images that both "
        f"were tested on{limits}"
    )


def mcc_interval(predictions: pd.DataFrame) -> Interval:
    """Mean over the outer folds of the MCC of a predictions table with one model each, and its 95 % interval.

    By the bootstrap of :mod:`common.evaluation.bootstrap`.
    """
    folds = tested_folds(predictions)
    classes = np.unique(np.concatenate([fold.labels for fold in folds]))
    return limits_of(resampled({"mcc": (mcc_of, folds)})["mcc"], folds, classes.tolist())


def mcc_difference(labels: ArrayLike, ours: ArrayLike, theirs: ArrayLike, units: ArrayLike) -> Interval:
    """How much higher the MCC of one model is on n images than that of another, and its 95 % interval, paired.

    Parameters
    ----------
    labels, ours, theirs : array of shape (n,)
        The true class and the predicted ones.
    units : array of shape (n,)
        Images of one unit are resampled together.
    """
    classes, codes = np.unique(
        np.concatenate([np.asarray(values) for values in (labels, ours, theirs)]), return_inverse=True
    )
    true, *predicted = codes.reshape(3, -1)
    certain = np.eye(max(3, len(classes)))  # of two classes too: the class that was predicted has probability 1
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    folds = [OuterFold(true, certain[of_model][None], unit, np.array([np.nan])) for of_model in predicted]
    values = resampled({name: (mcc_of, [fold]) for name, fold in zip(("ours", "theirs"), folds, strict=True)})
    return limits_of(values["ours"] - values["theirs"], folds[:1], np.unique(true).tolist())


def _out_of_fold(registry: MlflowClient, version: ModelVersion) -> pd.DataFrame:
    """A row per image that a version was tested on: its class, what was predicted, and its unit."""
    with tempfile.TemporaryDirectory() as folder:
        path = registry.download_artifacts(version.tags["run_id"], "predictions.csv", folder)
        test = ensemble_of(read_table(Path(path)))
    names = test.drop_duplicates("label").set_index("label")["class"]
    image = test["digest"] if "digest" in test else test["file"]
    table = pd.DataFrame({"class": test["class"], "prediction": test["prediction"].map(names), "unit": units_of(test)})
    return table.set_index(image).loc[lambda rows: ~rows.index.duplicated()]


def _score(version: ModelVersion) -> float:
    try:
        return float(version.tags[SCORE])
    except (KeyError, ValueError):
        return math.nan


def _inflation(version: ModelVersion, of: int) -> str:
    """By how much the highest of so many equal scores is expected to be too high."""
    try:
        error = (float(version.tags[f"{SCORE}_high"]) - float(version.tags[f"{SCORE}_low"])) / (
            2 * stats.norm.ppf(0.975)
        )
    except (KeyError, ValueError):
        return ""
    of_normals, _ = integrate.quad(lambda x: of * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** (of - 1), -10, 10)
    return f": were all as good, it would be {of_normals * error:.3f} too high on average"
