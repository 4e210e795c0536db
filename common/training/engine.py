"""The training loop: epochs over batches, early stopping on the dev set, and prediction."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from common.cli import UserError
from common.data.images import ImageTable
from common.data.splits import Fold
from common.model.classifier import Classifier, HeadOnly
from common.seeds import Stream
from common.training.augmentation import N_DRAWS, augment
from common.training.config import SGD, AdamW, Augmentation, TrainingConfig
from common.training.features import frozen_features

Log = Callable[[dict[str, float], int], None]


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the message says in which stream, epoch and batch, at which learning rate."""


class EarlyStopper:
    """Stops a phase whose dev score no longer rises, and remembers the best weights.

    Parameters
    ----------
    network : Module
        Its weights are kept at every new best score.
    patience : int
        Epochs without a better score before `should_stop`.
    """

    def __init__(self, network: torch.nn.Module, patience: int):
        self.network = network
        self.patience = patience
        self.best_score = -math.inf
        self.epochs_without_gain = 0
        self._best_state: dict = {}

    def update(self, score: float) -> bool:
        """Take in the score of one more epoch; True if it is the best so far."""
        if score > self.best_score:
            self.best_score = score
            self.epochs_without_gain = 0
            self._best_state = copy.deepcopy(self.network.state_dict())
            return True
        self.epochs_without_gain += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether `patience` epochs have passed without a better score."""
        return self.epochs_without_gain >= self.patience

    def restore_best(self) -> None:
        """Put the best weights back into the network."""
        self.network.load_state_dict(self._best_state)


def make_optimizer(
    network: torch.nn.Module, kind: AdamW | SGD, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of one phase, over the weights that are not frozen."""
    weights = [p for p in network.parameters() if p.requires_grad]
    common = {"lr": learning_rate, "weight_decay": weight_decay, "fused": weights[0].is_cuda}
    if isinstance(kind, SGD):
        return torch.optim.SGD(weights, momentum=kind.momentum, nesterov=kind.nesterov, **common)
    return torch.optim.AdamW(weights, betas=(kind.beta1, kind.beta2), **common)


def train_one_epoch(
    network: Classifier,
    table: ImageTable,
    rows: np.ndarray,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    batch_size: int,
    stream: Stream,
    log: Log,
    augmentation: Augmentation | None = None,
) -> float:
    """One pass over some rows of the table, in an order and with augmentation and dropout of this epoch's stream.

    Parameters
    ----------
    epoch : int
        From 1.
    log : callable
        Gets ``{"batch_loss": loss}`` and the step, counted over all epochs from 0.

    Returns
    -------
    float
        Mean loss (binary cross-entropy, nats) over the images.

    Raises
    ------
    NonFiniteLossError
    """
    stream = stream.at(f"epoch {epoch}")
    order = stream.at("shuffle").numpy().permutation(len(rows))
    draws = stream.at("augmentation").numpy().random((len(rows), N_DRAWS))
    batches = np.array_split(order, math.ceil(len(rows) / batch_size))
    network.train()
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(stream.at("dropout").integer())
        for batch in tqdm(batches, f"epoch {epoch}", unit="batch", leave=False, disable=None):
            images, labels = _to_device(network, table, rows[batch])
            if augmentation is not None:
                images = augment(images, draws[batch], augmentation)
            loss = binary_cross_entropy_with_logits(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    losses = torch.stack(losses).tolist()  # once an epoch: a GPU would wait at each batch
    for number, loss in enumerate(losses):
        step = (epoch - 1) * len(batches) + number
        if not math.isfinite(loss):
            rate = optimizer.param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"the loss is {loss} in {stream}, batch {number} (step {step}), at learning rate {rate:g}; "
                "expected a finite loss: try a smaller learning rate"
            )
        log({"batch_loss": loss}, step)
    return float(np.average(losses, weights=[len(batch) for batch in batches]))


def validate_one_epoch(
    network: Classifier, table: ImageTable, rows: np.ndarray, batch_size: int
) -> tuple[float, float]:
    """Mean loss (binary cross-entropy, nats) and ROC AUC over some rows of the table."""
    logits, labels = _predict_logits(network, table, rows, batch_size)
    loss = binary_cross_entropy_with_logits(logits, labels).item()
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the loss is {loss} on the dev set")
    return loss, float(roc_auc_score(labels.numpy(), logits.numpy()))


def train_and_validate_model(
    network: Classifier,
    table: ImageTable,
    fold: Fold,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    config: TrainingConfig,
    stream: Stream,
    log: Log,
    augmentation: Augmentation | None = None,
) -> float:
    """One phase: train for at most `epochs`, stop early on dev ROC AUC, and leave the best weights in the network.

    The weights before the first epoch count as a candidate, so a phase never makes the dev score worse. Where the
    backbone is frozen and images are not augmented, its features are computed once and the head is trained on them,
    with the results that training through the backbone gives.

    Parameters
    ----------
    log : callable
        Gets ``batch_loss`` by step, and ``train_loss``, ``dev_loss`` and ``dev_roc_auc`` by epoch; epoch 0 is before
        training and has no ``train_loss``.

    Returns
    -------
    float
        Best dev ROC AUC.
    """
    head, features = HeadOnly(network), replace(table, pixels=frozen_features(network, table))
    if network.backbone_frozen and augmentation is None:
        network, table = head, features
    stopper = EarlyStopper(network, config.patience)
    for epoch in range(epochs + 1):
        metrics = {}
        if epoch > 0:
            metrics["train_loss"] = train_one_epoch(
                network, table, fold.train, optimizer, epoch, config.batch_size, stream, log, augmentation
            )
        try:
            trained = (network, table) if epoch > 0 else (head, features)
            metrics["dev_loss"], metrics["dev_roc_auc"] = validate_one_epoch(*trained, fold.dev, config.batch_size)
        except NonFiniteLossError as error:
            rate = optimizer.param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"{error} in {stream} after epoch {epoch}, at learning rate {rate:g}; "
                "expected a finite loss: try a smaller learning rate"
            ) from error
        log(metrics, epoch)
        stopper.update(metrics["dev_roc_auc"])
        if stopper.should_stop:
            break
    stopper.restore_best()
    return stopper.best_score


def test_model(network: Classifier, table: ImageTable, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Probabilities of the positive class for some rows of the table: float64, shape (n,), in [0, 1]."""
    logits, _ = _predict_logits(network, table, rows, batch_size)
    return torch.sigmoid(logits.double()).numpy()


test_model.__test__ = False  # pytest would take it for a test


@torch.no_grad()
def _predict_logits(network: Classifier | HeadOnly, table: ImageTable, rows: np.ndarray, batch_size: int):
    network.eval()
    logits, labels = [], []
    for start in range(0, len(rows), batch_size):
        images, batch_labels = _to_device(network, table, rows[start : start + batch_size])
        logits.append(network(images).cpu())
        labels.append(batch_labels.cpu())
    return torch.cat(logits), torch.cat(labels)


def _to_device(network: Classifier | HeadOnly, table: ImageTable, rows: np.ndarray):
    device = next(network.parameters()).device
    resident = _resident(table, device) if device.type == "cuda" else None
    if resident is None:
        inputs = torch.from_numpy(table.pixels[rows]).to(device)
    else:
        inputs = resident[torch.from_numpy(rows).to(device)]
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, torch.from_numpy(table.labels[rows]).to(device, torch.float32)


@lru_cache(maxsize=2)
def _resident(table: ImageTable, device: torch.device) -> torch.Tensor | None:
    """All inputs on the GPU, if they fit a quarter of its free memory: so it never waits for the next batch."""
    if table.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 4:
        return None
    return torch.from_numpy(np.array(table.pixels)).to(device)
