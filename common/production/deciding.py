"""Whether a new version of a registered model takes the place of the one in production."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from scipy import integrate, stats

from common.evaluation.predictions import ensemble_of
from common.evaluation.statistics import Interval
from common.evaluation.tested import units_of
from common.seeds import Stream

SCORE, RULE, REASON = "test_mcc", "promotion_rule", "promotion_reason"
RULES = ("paired", "highest")
RESAMPLES = 2000


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
    except (KeyError, MlflowException, OSError):
        return False, f"it cannot be compared with version {champion.version}: a run's predictions.csv is not there"
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

    By the percentiles of a seeded bootstrap of groups, or of images without groups.
    """
    test = predictions[predictions["part"] == "test"]
    return _resampled(test["label"], [test["prediction"]], units_of(test), test["root_split"])


def mcc_difference(labels: Sequence, ours: Sequence, theirs: Sequence, units: Sequence) -> Interval:
    """How much higher the MCC of one model is on n images than that of another, and its 95 % interval, paired.

    Parameters
    ----------
    labels, ours, theirs : sequence of length n
        The true class and the predicted ones.
    units : sequence of length n
        Images of one unit are resampled together.
    """
    return _resampled(labels, [ours, theirs], units, np.zeros(len(labels)))


def _resampled(labels, models: Sequence, units, folds) -> Interval:
    classes = pd.unique(np.concatenate([np.asarray(values, object) for values in (labels, *models)]))
    k, code = len(classes), pd.Series(range(len(classes)), classes)
    (unit, units), (fold, folds) = pd.factorize(units), pd.factorize(folds)
    weights = Stream(0).at("bootstrap").numpy().multinomial(len(units), [1 / len(units)] * len(units), RESAMPLES)
    found = []
    for model in models:
        cell = (fold * k + code[np.asarray(labels, object)].to_numpy()) * k + code[np.asarray(model, object)].to_numpy()
        counts = np.zeros((len(units), len(folds) * k * k))
        np.add.at(counts, (unit, cell), 1)
        resampled = np.vstack([np.ones(len(units)), weights]) @ counts
        found.append(_mcc(resampled.reshape(-1, len(folds), k, k)).mean(axis=1))
    first, *draws = found[0] - found[1] if len(found) > 1 else found[0]
    if np.ptp(draws) == 0:
        return Interval(float(first), missing="no resample differs")
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(first), float(low), float(high))


def _mcc(counts: np.ndarray) -> np.ndarray:
    """Gorodkin's R_K of counts of shape (..., K, K): rows are true classes."""
    total, right = counts.sum(axis=(-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    spread = (total**2 - (true**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    with np.errstate(invalid="ignore"):
        return np.where(spread > 0, (right * total - (true * predicted).sum(-1)) / np.sqrt(spread), 0.0)


def _out_of_fold(registry: MlflowClient, version: ModelVersion) -> pd.DataFrame:
    """A row per image that a version was tested on: its class, what was predicted, and its unit."""
    with tempfile.TemporaryDirectory() as folder:
        path = registry.download_artifacts(version.tags["run_id"], "predictions.csv", folder)
        test = ensemble_of(pd.read_csv(path, dtype={"file": str, "group": str}, keep_default_na=False))
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
