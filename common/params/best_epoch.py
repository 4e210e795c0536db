"""The best epoch of a training: its weights are in the states from which one goes on, and in a file of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from common.training.checkpoints import Checkpoint
from common.training.stopping import EarlyStopper


class BestEpoch(EarlyStopper):
    """Remembers the weights of the epoch with the best score, and never stops.

    Parameters
    ----------
    network : Module
    folder : Path
        For ``best.pt``: the ``epoch``, and under ``network`` its weights.
    """

    def __init__(self, network: torch.nn.Module, folder: Path):
        super().__init__(network, sys.maxsize)
        self.now = self.epoch = 0
        self.file = folder / "best.pt"

    def update(self, score: float) -> bool:
        """As :class:`EarlyStopper` does; the score is of the epoch `now`."""
        is_best = super().update(score)
        self.epoch = self.now if is_best else self.epoch
        return is_best

    def state_dict(self) -> dict:
        """All of it but the network as it is."""
        return {**super().state_dict(), "epoch": self.epoch}

    def save(self) -> None:
        """Write the file."""
        if self.epoch:
            Checkpoint(self.file).save(lambda: {"epoch": self.epoch, "network": self._best_state}, always=True)
