"""Does the pipeline find what is not there? Labels are permuted, and its ROC AUC must be that of a coin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.data.folding import Fold
from common.evidence.findings import PERMUTATIONS

LEAST = 0.05
"""Distance from .5 that counts, where it is beyond chance, too."""


def permuted_aucs(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: Sequence[Fold]) -> np.ndarray:
    """ROC AUC of a ridge regression on frozen features after labels were permuted, shape (folds, permutations).

    NaN where the test images have one class only. Fitted on a fold's learning images, tested on its test images. Labels
    are permuted between groups, so that images of one group keep one label, as they do in truth: what is learnt of a
    group helps only where the group is on both sides.

    Parameters
    ----------
    features : ndarray of float32, shape (n, d)
    labels : ndarray of int, shape (n,)
    groups : ndarray of int, shape (n,)
        Numbers from 0. Of a group with several labels the most frequent one counts.
    folds : sequence of Fold
        Of each outer fold the first one is looked at.
    """
    outer = {fold.root_split: fold for fold in reversed(folds)}
    n_classes = labels.max() + 1
    of_group = np.array([np.bincount(labels[groups == group]).argmax() for group in range(groups.max() + 1)])
    rng = np.random.default_rng(0)
    permuted = np.stack([rng.permutation(of_group)[groups] for _ in range(PERMUTATIONS)])
    one_hot = np.eye(n_classes)[permuted]
    model = make_pipeline(StandardScaler(), Ridge(alpha=10))
    found = []
    for fold in outer.values():
        learn = np.concatenate([fold.train, fold.dev])
        targets = one_hot[:, learn].swapaxes(0, 1).reshape(len(learn), -1)
        scores = model.fit(features[learn], targets).predict(features[fold.test])
        scores = scores.reshape(len(fold.test), PERMUTATIONS, n_classes)
        found.append(
            [
                roc_auc_score(truth, scores[:, number]) if truth.any(axis=0).all() else np.nan
                for number, truth in enumerate(one_hot[:, fold.test])
            ]
        )
    return np.array(found)


def away_from_chance(aucs: np.ndarray) -> bool:
    """Whether the mean of these ROC AUCs is not .5: by a t test at .001, and by more than :data:`LEAST`.

    The test is over permutations, which are drawn one by one; folds of the same permutation share its labels.

    Parameters
    ----------
    aucs : ndarray of float64, shape (folds, permutations)
        As :func:`permuted_aucs` returns them.
    """
    means = np.array([np.mean(known) for column in aucs.T if len(known := column[~np.isnan(column)])])
    if len(means) < 3 or abs(means.mean() - 0.5) <= LEAST:
        return False
    return bool(stats.ttest_1samp(means, 0.5).pvalue < 0.001)
