"""Row coverage: how often the printed 95 % intervals of the ROC AUC hold the truth, over real cross-validation.

Patients have ten features that differ between the two classes; images of one patient share most of their noise. In each
of many data sets, outer and inner folds of whole patients are drawn as step 3 does it, a linear discriminant is trained
on each inner fold and tested on the outer one. What such a model would score on endless new patients is known exactly.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.figures import Figure, progress
from common.evaluation.delong import auc_interval
from common.evaluation.statistics import LEAST_FOLDS, corrected_resampled_interval
from common.evaluation.tested import OuterFold
from common.seeds import Stream

FOLDS, INNER, FEATURES, SHARED = 10, 2, 10, 0.7
"""Outer folds, inner folds that are run, features, and the share of their noise that a patient's images share."""
AUCS, PATIENTS, RUN = (0.80, 0.90, 0.985, 0.998), {1: 300, 4: 75}, (2, 5, 10)
"""True ROC AUC; patients of each class, of so many images each, 600 images in all; outer folds that are run."""
SIZES = {"fast": 10, "normal": 200, "full": 1000}
AIM = (0.93, 0.97)


def measure(size_name: str, source: Path) -> list[Figure]:
    """The coverage of each kind of interval, for each ROC AUC, size of groups, and number of outer folds run."""
    n_sets = SIZES[size_name]
    places = list(itertools.product(AUCS, PATIENTS))
    figures = []
    with progress("coverage", len(places) * n_sets) as bar:
        for auc, group_size in places:
            found: dict[int, list[dict[str, float]]] = {n_run: [] for n_run in RUN}
            for number in range(n_sets):
                random = np.random.default_rng(Stream(0).at(f"{auc} {group_size} {number}").integer())
                folds, truths = _cross_validated(random, auc, group_size)
                for n_run in RUN:
                    found[n_run].append(_of_run(folds[:n_run], truths[:n_run], group_size))
                bar.update()
            figures += [_figure(auc, group_size, n_run, found[n_run]) for n_run in RUN]
    return figures


def _cross_validated(random: np.random.Generator, auc: float, group_size: int) -> tuple[list[OuterFold], np.ndarray]:
    """The outer folds of one data set, and the mean true ROC AUC of the models of each."""
    gap = np.zeros(FEATURES)
    gap[0] = math.sqrt(2) * stats.norm.ppf(auc)
    patients = np.repeat([0, 1], PATIENTS[group_size])
    labels, units = np.repeat(patients, group_size), np.repeat(np.arange(len(patients)), group_size)
    of_patient = random.normal(size=(len(patients), FEATURES))[units]
    noise = math.sqrt(SHARED) * of_patient + math.sqrt(1 - SHARED) * random.normal(size=of_patient.shape)
    features = labels[:, None] * gap + noise
    fold_of = _dealt(random, patients, np.arange(len(patients)), FOLDS)[units]
    folds, truths = [], []
    for fold in range(FOLDS):
        test = fold_of == fold
        inner_of = _dealt(random, patients, np.unique(units[~test]), FOLDS - 1)[units]
        weights = [_discriminant(features, labels, ~test & (inner_of != inner)) for inner in range(INNER)]
        probabilities = np.stack([1 / (1 + np.exp(-features[test] @ weight)) for weight in weights])
        folds.append(OuterFold(labels[test], probabilities, units[test], np.full(INNER, 0.5)))
        truths.append(np.mean([stats.norm.cdf(w @ gap / math.sqrt(2) / np.linalg.norm(w)) for w in weights]))
    return folds, np.array(truths)


def _dealt(random: np.random.Generator, classes: np.ndarray, patients: np.ndarray, n_folds: int) -> np.ndarray:
    """A fold for each of the patients, as many of each class in each as can be; -1 for other patients."""
    fold_of = np.full(len(classes), -1)
    for label in (0, 1):
        of_class = random.permutation(patients[classes[patients] == label])
        fold_of[of_class] = np.arange(len(of_class)) % n_folds
    return fold_of


def _discriminant(features: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    cats, dogs = features[rows & (labels == 0)], features[rows & (labels == 1)]
    within = np.cov(np.concatenate([cats - cats.mean(0), dogs - dogs.mean(0)]).T)
    return np.linalg.solve(within, dogs.mean(0) - cats.mean(0))


def _of_run(folds: list[OuterFold], truths: np.ndarray, group_size: int) -> dict[str, float]:
    """Limits of each interval, and the truth about these models."""
    found = {"these models": auc_interval(folds)}
    if group_size > 1:
        alone = [fold._replace(units=np.arange(len(fold.units)) + 10**4 * j) for j, fold in enumerate(folds)]
        found["by image"] = auc_interval(alone)
    limits = {kind: (interval.low, interval.high) for kind, interval in found.items()}
    if len(folds) >= LEAST_FOLDS:
        scores = [np.mean([_auc(fold.labels, model) for model in fold.probabilities]) for fold in folds]
        limits["procedure"] = corrected_resampled_interval(scores, FOLDS - 1, 1)[1:]
    return {"truth": float(truths.mean())} | limits


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((stats.rankdata(scores)[labels == 1].mean() - ((labels == 1).sum() + 1) / 2) / (labels == 0).sum())


def _figure(auc: float, group_size: int, n_run: int, found: list[dict]) -> Figure:
    truth = np.array([one["truth"] for one in found])
    values, widths, none = {}, {}, {}
    for kind in [kind for kind in found[0] if kind != "truth"]:
        low, high = np.array([one[kind] for one in found], float).T
        target = truth.mean() if kind == "procedure" else truth
        given = ~np.isnan(low)
        values[kind] = float(np.mean((low <= target) & (target <= high), where=given))
        widths[kind], none[kind] = float(np.median((high - low)[given])), int((~given).sum())
    error = 2 * math.sqrt(0.95 * 0.05 / len(found))  # of such a share
    return Figure(
        "coverage",
        f"AUC {auc:g}, {group_size} image{'s' * (group_size > 1)} a patient, {n_run} of {FOLDS} folds",
        values,
        "",
        values["these models"],
        f"{AIM[0]:g} to {AIM[1]:g}, give or take {error:.2g}",
        AIM[0] - error <= values["these models"] <= AIM[1] + error,
        f"shares of {len(found)}",
        "share of data sets of 600 images in which the 95 % interval holds the truth; by image: "
        "the images of a patient taken for independent; procedure: against the mean over all data sets",
        {"truth": float(truth.mean()), "median width": widths, "without limits": none},
    )
