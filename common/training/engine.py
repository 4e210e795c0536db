"""The training loop: epochs over batches, early stopping on the dev set, and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import matthews_corrcoef, roc_auc_score
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from common.cli import NonFiniteLossError
from common.config.settings import Augmentation, TrainingConfig
from common.data.folding import Fold
from common.data.images import ImageTable
from common.model.classifier import Classifier, HeadOnly
from common.model.module_steps import ModuleSteps
from common.seeds import Stream
from common.training.ahead import one_ahead
from common.training.augmentation import N_DRAWS, augment
from common.training.checkpoints import Checkpoint
from common.training.features import frozen_features
from common.training.loop import Log, run_epochs
from common.training.optimizers import Schedules
from common.training.stopping import EarlyStopper

Step = Callable[[torch.Tensor, torch.Tensor], "torch.Tensor | float"]
LOG_EVERY = 50
"""Batches from one whose loss is logged to the next, over all epochs; the epoch's mean has all of them."""


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
    shuffle: bool = True,
    step: Step | None = None,
) -> float:
    """One pass over some rows of the table, in an order and with augmentation and dropout of this epoch's stream.

    A backbone with ``training_step(batch)``, as Lightning's modules have it, computes its own loss.

    Parameters
    ----------
    epoch : int
        From 1.
    log : callable
        Gets ``{"batch_loss": loss}`` and the step, counted over all epochs from 0.
    shuffle : bool
        Without it the rows keep their order.
    step : callable, optional
        Gets a batch's images, as they come, and labels, updates the weights and returns the loss; by default with the
        gradient of the network's own loss.

    Returns
    -------
    float
        Mean loss (cross-entropy, nats) over the images.

    Raises
    ------
    NonFiniteLossError
    """
    stream = stream.at(f"epoch {epoch}")
    order = stream.at("shuffle").numpy().permutation(len(rows)) if shuffle else np.arange(len(rows))
    draws = stream.at("augmentation").numpy().random((len(rows), N_DRAWS))
    batches = np.array_split(order, math.ceil(len(rows) / batch_size))
    network.train()
    losses = []
    step = step or (ModuleSteps(network, optimizer).train if _has(network, "training_step") else None)

    def inputs(batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = _to_device(network, table, rows[batch])
        return images if augmentation is None else augment(images, draws[batch], augmentation), labels

    with torch.random.fork_rng():
        torch.manual_seed(stream.at("dropout").integer())
        made = map(inputs, batches) if augmentation is None else one_ahead(inputs, batches)
        for images, labels in tqdm(made, f"epoch {epoch}", len(batches), unit="batch", leave=False, disable=None):
            if step is not None:
                losses.append(torch.as_tensor(step(images, labels)))
                continue
            loss = cross_entropy(network(images), labels)
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
    network: Classifier, table: ImageTable, rows: np.ndarray, batch_size: int, score: str = "roc_auc"
) -> dict[str, float]:
    """``dev_loss`` (cross-entropy, nats) over some rows of the table, ``dev_accuracy`` (of the more probable class),
    ``dev_roc_auc``, and the score that is asked for.

    A backbone with ``validation_step(batch)`` computes its own loss, and its other numbers are there as ``dev_<name>``.
    """
    own = ModuleSteps(network) if _has(network, "validation_step") else None
    logits, labels = _predict_logits(network, table, rows, batch_size, own)
    found = own.means("dev") if own else {}
    loss = found.get("dev_loss", cross_entropy(logits, labels).item())
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the loss is {loss} on the dev set")
    predicted = logits > 0 if logits.ndim == 1 else logits.argmax(1)
    accuracy = float((predicted == labels).float().mean())
    ours = {"dev_loss": loss, "dev_accuracy": accuracy, "dev_roc_auc": _roc_auc(logits, labels)}
    found = ours | {name: value for name, value in found.items() if name not in ("dev_loss", "dev_roc_auc")}
    if score == "mcc":
        found["dev_mcc"] = float(matthews_corrcoef(labels.numpy(), predicted.numpy()))
    return found


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy, in nats: binary for logits (B,), else over classes for (B, K)."""
    if logits.ndim == 1:
        return binary_cross_entropy_with_logits(logits, labels.float())
    return functional.cross_entropy(logits, labels)


def _roc_auc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    if logits.ndim == 1:
        return float(roc_auc_score(labels.numpy(), logits.numpy()))
    probabilities, classes = torch.softmax(logits.double(), 1).numpy(), np.arange(logits.shape[1])
    return float(roc_auc_score(labels.numpy(), probabilities, multi_class="ovr", labels=classes))


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
    checkpoint: Path | None = None,
) -> float:
    """One phase: train for at most `epochs`, stop early on the dev score, and leave the best weights in the network.

    The weights before the first epoch count as a candidate, so a phase never makes the dev score worse. Where the
    backbone is frozen and images are not augmented, its features are computed once and the head is trained on them,
    with the results that training through the backbone gives.

    Parameters
    ----------
    log : callable
        Gets ``batch_loss`` of each 50th step, and by epoch ``train_loss``, ``dev_loss``, ``dev_accuracy`` and
        ``dev_roc_auc`` (and ``dev_mcc``, where that is the score, ``learning_rate``, where it changes, and what a
        network's own steps return); epoch 0 is before training and has no ``train_loss``.
    checkpoint : Path, optional
        A file in which the phase keeps where it stands, and from which it goes on: to the same weights and score,
        without logging again what was logged before the last epoch kept.

    Returns
    -------
    float
        Best dev score: ``config.score``.
    """
    head, whole, schedules = HeadOnly(network), network, Schedules(network, optimizer, config)
    is_frozen = network.backbone_frozen and augmentation is None
    if is_frozen:
        network, table = head, replace(table, pixels=frozen_features(whole, table))
    stopper, kept = EarlyStopper(network, config.patience), Checkpoint(checkpoint)

    def log_some(metrics: dict[str, float], step: int) -> None:
        if step % LOG_EVERY == 0:
            log(metrics, step)

    def train(epoch: int) -> dict[str, float]:
        own = ModuleSteps(network, optimizer) if _has(network, "training_step") else None
        settings = (epoch, config.batch_size, stream, log_some, augmentation, config.shuffle, own and own.train)
        loss = train_one_epoch(network, table, fold.train, optimizer, *settings)
        return {**(own.means("train") if own else {}), "train_loss": loss}

    def evaluate(epoch: int) -> tuple[dict[str, float], float, float]:
        trained = network, table
        if epoch == 0 and not is_frozen and whole.has_head:
            trained = head, replace(table, pixels=frozen_features(whole, table))
        try:
            metrics = validate_one_epoch(*trained, fold.dev, config.eval_batch_size or config.batch_size, config.score)
        except NonFiniteLossError as error:
            rate = optimizer.param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"{error} in {stream} after epoch {epoch}, at learning rate {rate:g}; "
                "expected a finite loss: try a smaller learning rate"
            ) from error
        return metrics, metrics["dev_loss"], metrics[f"dev_{config.score}"]

    phase = (network, optimizer, schedules, kept, range(epochs + 1), train, evaluate, log, stopper)
    if run_epochs(*phase, config.eval_every, config.save_every) < epochs:
        kept.save(lambda: {"epoch": epochs, "stopper": stopper.state_dict()}, always=True)
    stopper.restore_best()
    return stopper.best_score


def test_model(network: Classifier, table: ImageTable, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Probabilities for some rows of the table, float64, in [0, 1].

    Returns
    -------
    ndarray
        Shape (n,), of the positive class; with three or more classes (n, K), of each.
    """
    logits = _predict_logits(network, table, rows, batch_size)[0].double()
    return (torch.sigmoid(logits) if logits.ndim == 1 else torch.softmax(logits, 1)).numpy()


test_model.__test__ = False  # pytest would take it for a test


@torch.no_grad()
def _predict_logits(
    network: Classifier | HeadOnly, table: ImageTable, rows: np.ndarray, batch_size: int, own: ModuleSteps | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    network.eval()
    logits, labels = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a network that draws numbers when it predicts draws the same ones each time
        for images, batch_labels in batches_of(network, table, rows, batch_size):
            logits.append(network(images).cpu())
            labels.append(batch_labels.cpu())
            if own:
                own.validate(images, batch_labels)
    return torch.cat(logits), torch.cat(labels)


def _has(network: torch.nn.Module, step: str) -> bool:
    return hasattr(getattr(network, "backbone", None), step)


def batches_of(
    network: torch.nn.Module, table: ImageTable, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images, as they come, and labels of some rows, in their order, on the network's device."""
    for start in range(0, len(rows), batch_size):
        yield _to_device(network, table, rows[start : start + batch_size])


def _to_device(network: Classifier | HeadOnly, table: ImageTable, rows: np.ndarray):
    device = next(network.parameters()).device
    resident = _resident(table, device) if device.type == "cuda" else None
    if resident is None:
        inputs = torch.from_numpy(table.pixels[rows]).to(device)
    else:
        inputs = resident[torch.from_numpy(rows).to(device)]
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, torch.from_numpy(table.labels[rows]).to(device)


@lru_cache(maxsize=2)
def _resident(table: ImageTable, device: torch.device) -> torch.Tensor | None:
    """All inputs on the GPU, if they fit a quarter of its free memory: so it never waits for the next batch."""
    if table.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 4:
        return None
    return torch.from_numpy(np.array(table.pixels)).to(device)
