"""Features of a frozen backbone: computed once for all folds, trials and epochs that train a head on them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from tqdm import tqdm

from common.data.cache import cached_array
from common.data.images import ImageTable
from common.model.classifier import Classifier
from common.training.compute import describe_machine

BATCH = 64


@torch.no_grad()
def frozen_features(network: Classifier, table: ImageTable) -> np.ndarray:
    """What the backbone makes of every image of the table: float32, shape (n, n_features).

    They are kept under ``cache/`` (unless the table is not `cached`, or the network is one's own), by what they depend
    on: the images and their size, the backbone's layers and weights, and the arithmetic, down to the number of threads,
    so that a result never depends on which run has filled the cache.
    """

    def make(new) -> tuple[np.ndarray, dict]:
        features, backbone_was_training = None, network.backbone.training
        device = next(network.parameters()).device
        network.backbone.eval()
        starts = range(0, len(table), BATCH)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for start in tqdm(starts, "features of the frozen backbone", unit="batch", leave=False, disable=None):
                pixels = torch.from_numpy(np.array(table.pixels[start : start + BATCH]))
                batch = network.features(pixels.to(device, memory_format=torch.channels_last)).cpu().numpy()
                if features is None:
                    features = new((len(table), *batch.shape[1:]), "float32")
                features[start : start + BATCH] = batch
        network.backbone.train(backbone_was_training)
        return features, {}

    is_own = "model" in network.settings  # its code is no part of the key
    return cached_array(f"features-{_key(network, table)}", make, table.cached and not is_own)[0]


def _key(network: Classifier, table: ImageTable) -> str:
    layers = f"{network.transforms}{network.backbone}"
    machine = describe_machine(next(network.parameters()).device)
    key = hashlib.sha256(f"{layers}{network.precision}{machine}".encode())
    for name, values in [*network.backbone.state_dict().items(), ("mean", network.mean), ("std", network.std)]:
        if values is None:
            continue
        key.update(name.encode() + values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return f"{table.fingerprint[:24]}-{table.pixels.shape[-1]}-{key.hexdigest()[:24]}"
