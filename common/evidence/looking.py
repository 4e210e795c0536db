"""What an audit computes of images and of folds; it is kept, so a run that finds it opens none of this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.data.folding import Fold
from common.data.scans import tags_in_files
from common.evidence.alike import alike
from common.evidence.permuted import away_from_chance, permuted_aucs
from common.evidence.shortcuts import shortcuts
from common.evidence.together import taken_together


def look_at_images(table, units: np.ndarray) -> dict:
    """What does not depend on splits, for JSON.

    Returns
    -------
    dict
        ``alike``: a list of :class:`common.evidence.alike.Likeness`, None for arrays; ``untold``; ``together``: pairs
        of rows; ``shortcuts``: by name, ROC AUC and its limits, without those that have none; ``tags``: of DICOM
        files, see :func:`common.medical.look_at_tags`.
    """
    near = alike(table.pixels, units) if not table.is_arrays and table.pixels.shape[1] in (1, 3) else None
    found = {} if table.is_arrays else shortcuts(table, units)
    return {
        "alike": near and [list(pair) for pair in near.pairs],
        "untold": near.untold if near else {},
        "together": taken_together(table),
        "tags": tags_in_files(table, units) if table.has_scans else None,
        "shortcuts": {name: [of.value, *map(float, of.limits)] for name, of in found.items() if of.limits},
    }


def look_at_folds(table, groups: np.ndarray, folds: Sequence[Fold], features: np.ndarray) -> dict:
    """ROC AUC after labels were permuted, for JSON: ``n``, ``mean``, ``sd``, and ``away`` (from .5)."""
    aucs = permuted_aucs(features, table.labels, groups, folds)
    known = aucs[~np.isnan(aucs)]
    if not len(known):
        return {"n": 0}
    return {"n": len(known), "mean": float(known.mean()), "sd": float(known.std()), "away": away_from_chance(aucs)}
