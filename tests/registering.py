"""Registries with a model in them, and what must be true of them at every moment."""

import importlib
import math
import sqlite3
from contextlib import closing
from functools import partial

import numpy as np
import pandas as pd
import torch

from common.data import find_images
from common.data.decoding import as_png
from common.model import make_classifier
from common.production.ensemble import Ensemble
from common.production.estimate import estimate_of
from common.production.promotion import create_version
from common.production.registry import register_version
from common.production.scope import StoredData
from common.seeds import Stream
from common.tracking.runs import Run
from common.tracking.store import open_store

CLASSES = ("cat", "dog")


def an_ensemble(sizes=(32, 48)):
    """Untrained networks whose probabilities differ between images."""
    networks = []
    for number, size in enumerate(sizes):
        network = make_classifier(Stream(number), input_shape=(3, size, size), hidden_dim=8, dropout_rate=0.1)
        with torch.no_grad():
            network.head[-1].weight *= 8
        networks.append(network)
    return Ensemble(networks, thresholds=[0.2, 0.3], classes=CLASSES)


def a_run(step=4):
    """A new run in the tracking store of the moment."""
    uri, experiment_id = open_store(f"step_{step}")
    run = Run(uri, experiment_id, "")
    run.run_id = run.client.create_run(experiment_id).info.run_id
    return run


OWN = {
    "lite0.py": "from torch import nn\n\nfrom parts.mean import Mean\n\n\n"
    "class Lite(nn.Sequential):\n    def __init__(self, width):\n"
    "        super().__init__(Mean(), nn.Linear(3, width), nn.Linear(width, 1))\n",
    "parts/__init__.py": "from torch import nn\n",
    "parts/mean.py": "from parts import nn\n\n\nclass Mean(nn.Module):\n"
    "    def forward(self, images):\n        return images.mean(dim=(2, 3))\n",
    "not_imported.py": "",
    "parts/neither.py": "",
}
"""The files of somebody's own network."""


def an_own_network(folder):
    """A network whose modules lie in a new folder, from which they can be imported."""
    for name, text in OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    model = partial(importlib.import_module("lite0").Lite, width=4)
    return make_classifier(Stream(2), input_shape=(3, 32, 32), model=model)


def register_pets(folder, ensemble=None, **test_scores):
    """A version of the model `pets`, of a run of its own and the images of a folder."""
    table = find_images(str(folder))
    estimate = {"test_mcc": 0.5, **test_scores}
    return register_version(a_run(), "pets", ensemble or an_ensemble(), estimate, table, "highest")


def register_tested(run, tested, **options):
    """A version of `pets` of that run, which has tested images: (digest, label, probability, group) of each."""
    digests, labels, probabilities, groups = zip(*tested, strict=True)
    columns = {"file": [f"{digest}.png" for digest in digests], "class": [CLASSES[label] for label in labels]}
    columns |= {"label": labels, "probability": probabilities, "threshold": 0.5}
    columns |= {"prediction": [int(p >= 0.5) for p in probabilities], "group": groups, "digest": digests}
    predictions = pd.DataFrame({"root_split": 0, "inner_split": 0, "part": "test", **columns})
    run.table(predictions, "predictions.csv")
    data = StoredData("tested", CLASSES, "of no matter", as_png(np.zeros((3, 32, 32), np.uint8)))
    return register_version(run, "pets", an_ensemble(), estimate_of(predictions), data, **options)


def create_versions(uri, scores):
    """Register models that have no files: for a process of its own."""
    for score in scores:
        create_version(uri, "pets", "s3://no/files", {"test_mcc": score}, rule="highest")


def check_production(database):
    """The state between two registrations: the best version, and it alone, is in production.

    Returns the scores of the versions, and which version is in production.
    """
    tags, aliases = _of_one_moment(database)
    versions = sorted({number for number, _ in tags})
    scores = [float(tags[number, "test_mcc"]) for number in versions]
    finite = [score for score in scores if math.isfinite(score)]
    best = versions[scores.index(max(finite))] if finite else None
    expected = {number: "Production" if number == best else "Archived" for number in versions}
    assert {number: tags.get((number, "stage")) for number in versions} == expected, scores
    assert aliases == ([best] if best else [])
    return scores, best


def check_any_moment(database):
    """One version at most has the alias, and one at most the tag; returns the score of the one with the alias."""
    tags, aliases = _of_one_moment(database)
    assert len(aliases) <= 1 and list(tags.values()).count("Production") <= 1
    return float(tags[aliases[0], "test_mcc"]) if aliases else -math.inf


def _of_one_moment(database):
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        rows = connection.execute("SELECT version, key, value FROM model_version_tags").fetchall()
        aliases = connection.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
        connection.execute("COMMIT")
    assert {alias for alias, _ in aliases} <= {"production"}
    return {(number, key): value for number, key, value in rows}, [version for _, version in aliases]
