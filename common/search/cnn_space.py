"""Convolutional networks that a search builds: the space of them, in a config or with Optuna alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna import TrialPruned
from optuna.trial import FixedTrial, FrozenTrial

from common.cli import UserError
from common.config.places import resolve
from common.config.spaces import Space
from common.model.cnn import ACTIVATIONS, CNN, NORMS, POOLS

if TYPE_CHECKING:
    import optuna
    from torch import nn

MAX_FLAT = 4096
"""Most values that are flattened before the fully connected layers: more of them are averaged over the picture."""


@dataclass(frozen=True, repr=False)
class CNNSpace(Space):
    """A network of class :class:`common.model.cnn.CNN`, with depth, widths, kernels, pooling, normalisation,
    activation, dropout and fully connected layers to be searched; for the field `model` of a config.

    No network is suggested that cannot be built: a picture of n pixels has at most log2(n / 2) blocks, each of which
    halves it.

    Parameters
    ----------
    min_blocks, max_blocks : int
        Fewest and most blocks.
    min_width, max_width : int
        Fewest and most channels of a block.
    max_dense : int
        Most hidden fully connected layers.
    kernels : tuple of int
        Odd kernel sizes to choose from.
    norms : tuple of str
        Normalisations to choose from: ``none``, ``batch``, ``instance``.
    image_size : int, optional
        Pixels; a config sets its own.
    name : str, optional
        What the names of the parameters begin with; by default the place in the config.
    """

    max_blocks: int = 4
    max_width: int = 64
    max_dense: int = 2
    _: KW_ONLY
    min_blocks: int = 1
    min_width: int = 8
    kernels: tuple[int, ...] = (3, 5, 7)
    norms: tuple[str, ...] = tuple(NORMS)
    image_size: int | None = None
    name: str | None = None

    def for_image_size(self, image_size: int) -> CNNSpace:
        """The space for images of that size."""
        return replace(self, image_size=image_size)

    def problem(self) -> str | None:
        """What is wrong with the bounds."""
        sizes = (self.min_blocks, self.max_blocks, self.min_width, self.max_width, self.max_dense, *self.kernels)
        if not all(isinstance(size, int) and not isinstance(size, bool) for size in sizes):
            return "expected whole numbers"
        if not 1 <= self.min_blocks <= self.max_blocks:
            return "expected 1 <= min_blocks <= max_blocks"
        if not 1 <= self.min_width <= self.max_width or self.max_dense < 0:
            return "expected 1 <= min_width <= max_width and max_dense of at least 0"
        if not self.kernels or any(size < 1 or size % 2 == 0 for size in self.kernels):
            return "expected odd sizes as kernels"
        if not self.norms or not set(self.norms) <= set(NORMS):
            return f"expected norms of {', '.join(NORMS)}"
        return None if (self.image_size or 16) >= 4 else "expected images of at least 4 pixels"

    def extremes(self) -> list[tuple[str, Any]]:
        """A network; all of them are of one kind."""
        return [("network", partial(CNN))]

    def suggest(self, trial: Any, name: str) -> partial[CNN]:
        """A :class:`CNN` that lacks only ``input_shape`` and ``n_classes``."""
        if self.image_size is None:
            raise UserError("CNNSpace: expected image_size, which a config sets for its field `model`")
        deepest = min(self.max_blocks, max(1, (self.image_size // 2).bit_length() - 1))
        n_blocks = trial.suggest_int(f"{name}.n_blocks", min(self.min_blocks, deepest), deepest)
        widths = [
            trial.suggest_int(f"{name}.block_{i}.width", self.min_width, self.max_width, log=True)
            for i in range(n_blocks)
        ]
        kernels = [trial.suggest_categorical(f"{name}.block_{i}.kernel", self.kernels) for i in range(n_blocks)]
        n_dense = trial.suggest_int(f"{name}.n_dense", 0, self.max_dense)
        dense = [trial.suggest_int(f"{name}.dense_{i}.units", 16, 128, log=True) for i in range(n_dense)]
        flat = widths[-1] * (self.image_size >> n_blocks) ** 2
        return partial(
            CNN,
            widths=tuple(widths),
            kernels=tuple(kernels),
            dense=tuple(dense),
            norm=trial.suggest_categorical(f"{name}.norm", self.norms),
            activation=trial.suggest_categorical(f"{name}.activation", tuple(ACTIVATIONS)),
            pool=trial.suggest_categorical(f"{name}.pool", tuple(POOLS)),
            global_pool=trial.suggest_categorical(f"{name}.global_pool", (True, False)) or flat > MAX_FLAT,
            dropout=float(trial.suggest_float(f"{name}.dropout", 0.0, 0.5)),
        )


def optuna_cnn(
    trial: optuna.Trial | FrozenTrial | FixedTrial,
    in_channels: int,
    image_size: int,
    n_classes: int,
    space: CNNSpace | None = None,
    name: str = "model",
) -> nn.Module:
    """The :class:`CNN` that a trial suggests, with weights that depend on its parameters alone.

    Parameters
    ----------
    trial : optuna Trial, FrozenTrial or FixedTrial
    in_channels, image_size, n_classes : int
        Channels and pixels of the images, and how many classes there are.
    space : CNNSpace, optional
    name : str
        What the names of the parameters begin with.

    Returns
    -------
    nn.Module
        From float images (B, `in_channels`, `image_size`, `image_size`) to logits (B, 1) for two classes, else
        (B, `n_classes`).
    """
    import torch

    made = (space or CNNSpace()).for_image_size(image_size).suggest(trial, name)
    digest = hashlib.sha256(json.dumps(made.keywords, sort_keys=True).encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:8], "big"))
        return made((in_channels, image_size, image_size), n_classes)


def create_cnn_from_trial(
    trial: optuna.Trial | FrozenTrial,
    in_channels: int,
    image_size: int,
    n_classes: int,
    space: CNNSpace | None = None,
    name: str = "model",
) -> nn.Module:
    """The module of :func:`optuna_cnn`, again, from a live, frozen or stored trial: the same layers and weights.

    Raises
    ------
    UserError
        When the trial did not suggest such a network.
    """
    try:
        return optuna_cnn(FixedTrial(trial.params), in_channels, image_size, n_classes, space, name)
    except ValueError as error:
        raise UserError(f"trial {trial.number}: no CNN of {image_size} pixels in its parameters ({error})") from error


Fit = Callable[[Any, Callable[[float, int], None]], tuple[Any, float]]


def cnn_objective(trial: optuna.Trial, config: Any, fit: Fit) -> float:
    """The dev score of the network, optimizer, learning rate, schedule and batch size that a trial suggests.

    Parameters
    ----------
    config : dataclass
        Settings with spaces, such as ``step_5/configs/brain_cnn.py`` has them.
    fit : callable
        ``fit(config, report)`` trains with settings without spaces, calls ``report(score, epoch)`` after each epoch,
        and returns the network and its dev score; :func:`common.training.fit_on` makes one.

    Raises
    ------
    optuna.TrialPruned
        When the study's pruner says so after an epoch.
    """

    def report(score: float, epoch: int) -> None:
        trial.report(score, epoch)
        if trial.should_prune():
            raise TrialPruned(f"epoch {epoch}: {score:.3f}")

    return fit(resolve(config, trial), report)[1]


def retrain_and_eval(
    trial: FrozenTrial, config: Any, fit: Fit, test: Callable[[Any], dict[str, float]]
) -> tuple[Any, dict[str, float]]:
    """The winning settings trained once more, on train and dev sets together, and tested once.

    There is no dev set left to stop by: it trains for as many epochs as gave the best dev score.

    Parameters
    ----------
    trial : FrozenTrial
        Such as ``study.best_trial``.
    config : dataclass
        As for :func:`cnn_objective`.
    fit : callable
        As for :func:`cnn_objective`, on all that is not for testing, with an empty dev set.
    test : callable
        From the network to its test scores.

    Returns
    -------
    network, scores
    """
    scores = trial.intermediate_values
    epochs = max(scores, key=lambda epoch: scores[epoch]) if scores else config.epochs
    network, _ = fit(replace(resolve(config, FixedTrial(trial.params)), epochs=epochs), lambda score, epoch: None)
    return network, test(network)
