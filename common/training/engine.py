"""The training loop: epochs over batches, early stopping on the dev set, and prediction."""

from __future__ import annotations

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
from common.training.checkpoints import Checkpoint
from common.training.config import SGD, AdamW, Augmentation, TrainingConfig
from common.training.features import frozen_features
from common.training.stopping import EarlyStopper

Log = Callable[[dict[str, float], int], None]


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the message says in which stream, epoch and batch, at which learning rate."""


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
        training and has no ``train_loss``. If it has an attribute `checkpoint`, the path of a file, the phase goes on
        from there: to the same weights and score, without logging again what was logged before the last epoch kept.

    Returns
    -------
    float
        Best dev ROC AUC.
    """
    head, whole = HeadOnly(network), network
    is_frozen = network.backbone_frozen and augmentation is None
    if is_frozen:
        network, table = head, replace(table, pixels=frozen_features(whole, table))
    stopper, checkpoint = EarlyStopper(network, config.patience), Checkpoint(log)
    saved = checkpoint.load() or {"epoch": -1}
    if "stopper" in saved:
        stopper.load_state_dict(saved["stopper"])
    if "optimizer" in saved:
        optimizer.load_state_dict(saved["optimizer"])
        network.load_state_dict(saved["network"])
    for epoch in range(saved["epoch"] + 1, epochs + 1):
        if stopper.should_stop:
            break
        metrics = {}
        trained = network, table
        if epoch > 0:
            metrics["train_loss"] = train_one_epoch(
                network, table, fold.train, optimizer, epoch, config.batch_size, stream, log, augmentation
            )
        elif not is_frozen:
            trained = head, replace(table, pixels=frozen_features(whole, table))
        try:
            metrics["dev_loss"], metrics["dev_roc_auc"] = validate_one_epoch(*trained, fold.dev, config.batch_size)
        except NonFiniteLossError as error:
            rate = optimizer.param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"{error} in {stream} after epoch {epoch}, at learning rate {rate:g}; "
                "expected a finite loss: try a smaller learning rate"
            ) from error
        log(metrics, epoch)
        stopper.update(metrics["dev_roc_auc"])
        checkpoint.save(
            lambda epoch=epoch: {
                "epoch": epoch,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "stopper": stopper.state_dict(),
            }
        )
    if saved["epoch"] < epochs:
        checkpoint.save(lambda: {"epoch": epochs, "stopper": stopper.state_dict()}, always=True)
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
