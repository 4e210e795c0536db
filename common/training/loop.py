"""The epochs of a phase: train, evaluate, log, schedule, keep where it stands; each phase brings its own steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from common.training.checkpoints import Checkpoint
from common.training.optimizers import Schedules
from common.training.stopping import EarlyStopper

Log = Callable[[dict[str, float], int], None]


def run_epochs(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedules: Schedules,
    checkpoint: Checkpoint,
    epochs: range,
    train: Callable[[int], dict[str, float]],
    evaluate: Callable[[int], tuple[dict[str, float], float, float]],
    log: Log,
    stopper: EarlyStopper | None = None,
    eval_every: int = 1,
    save_every: int | None = None,
) -> int:
    """Go through the epochs, from where the checkpoint stands.

    Parameters
    ----------
    epochs : range
        From 0, where an evaluation comes before training, or from 1.
    train : callable
        Gets the epoch, from 1, and returns what to log of it.
    evaluate : callable
        Gets the epoch and returns what to log, the loss for ``ReduceLROnPlateau``, and the score for the stopper.
    log : callable
        Gets all of it once an epoch.
    eval_every : int
        Epochs between two evaluations; the last epoch has one too.
    save_every : int, optional
        Epochs between two checkpoints, and one at the end; without it they come as often as they cost little.

    Returns
    -------
    int
        The epoch that the checkpoint held; -1 if there was none.
    """
    saved = checkpoint.load() or {"epoch": -1}
    if stopper and "stopper" in saved:
        stopper.load_state_dict(saved["stopper"])
    if "optimizer" in saved:
        optimizer.load_state_dict(saved["optimizer"])
        network.load_state_dict(saved["network"])
        schedules.load_state_dict(saved["schedules"])
    for epoch in range(max(saved["epoch"] + 1, epochs.start), epochs.stop):
        if stopper and stopper.should_stop:
            break
        is_last = epoch == epochs.stop - 1
        metrics = {"learning_rate": optimizer.param_groups[0]["lr"]} if schedules.schedulers else {}
        loss = None
        if epoch > 0:
            metrics |= train(epoch)
        if epoch % eval_every == 0 or is_last:
            evaluated, loss, score = evaluate(epoch)
            metrics |= evaluated
            if stopper:
                stopper.update(score)
        log(metrics, epoch)
        if epoch > 0:
            schedules.step(loss)
        checkpoint.save(
            lambda epoch=epoch: {
                "epoch": epoch,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedules": schedules.state_dict(),
                "stopper": stopper.state_dict() if stopper else None,
            },
            always=save_every is not None and (is_last or epoch % save_every == 0),
        )
    return saved["epoch"]
