"""Early stopping: when a phase no longer gains, and the best weights that it had."""

from __future__ import annotations

import copy
import math

import torch


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

    def state_dict(self) -> dict:
        """All of it but the network as it is."""
        return {name: vars(self)[name] for name in ("best_score", "epochs_without_gain", "_best_state")}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` gave."""
        vars(self).update(state)

    def restore_best(self) -> None:
        """Put the best weights back into the network."""
        self.network.load_state_dict(self._best_state)
