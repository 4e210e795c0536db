"""`train(...)`: a caller's own steps of training and evaluation, in the loop that the workshop's steps use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from common.cli import UserError
from common.config.places import find_spaces
from common.locks import holder_of, locked
from common.params.experiment import from_params
from common.params.image_parts import image_parts
from common.params.keys import announce, read_params
from common.params.logdirs import logdir_path
from common.params.own_training import OwnTraining
from common.seeds import Stream

Step = Callable[..., tuple[float, Mapping[str, Any] | None]]


def train(
    params: Mapping[str, Any],
    model: torch.nn.Module,
    train_step: Step,
    test_step: Step,
    datadir: str | Path,
    logdir: str | Path,
    **kwargs: Any,
) -> bool:
    """Train a network with one's own steps, as `params` say; an interrupted call goes on from the last saved state.

    Where `logdir` holds another training, of which a setting, the data or the code differs, it works in ``run_2`` in
    it, or ``run_3``, and says what differs. More epochs, with all else the same, go on.

    Validation steers schedules and the choice of the best epoch, that of the lowest loss; the test images are read
    once, at the end, with that epoch's weights.

    Metrics, learning rate, images, the graph and the hyper-parameters are in `logdir` for TensorBoard. Metrics and
    settings are in MLflow too (experiment ``train``), with the best epoch's network as ``model.safetensors``, which
    ``python -m common.production.registry`` registers. Messages go to the brokers that `params` or the environment
    name.

    Parameters
    ----------
    params : dict
        See :class:`common.params.keys.Params`; without search spaces.
    model : nn.Module
        Such as ``build_classifier(params)``. It is left with the weights of the best epoch.
    train_step : callable
        ``train_step(x, y, model, optim, **kwargs)`` for a batch: images, as `params` prepare them, float32 (B, C, H,
        W), and labels, int64 (B,). It makes the step of the optimizer, and returns the loss and a dict of metrics, or
        None in its place.
    test_step : callable
        ``test_step(x, y, model, **kwargs)``, likewise, in evaluation and without gradients: of validation, and of
        the test at the end. It is tried on one batch before the first epoch.
    datadir : str or Path
        With ``train/`` and, where there are, ``val/`` and ``test/``, each with an ``info.csv`` (``files,type``) or as
        :func:`common.data.load_images` takes folders; or with the four idx files. A fifth of the training images is
        held out in place of a part that is missing.
    logdir : str or Path
        Saved states are in ``models/epoch-00001.pt`` and so on, the best epoch in ``models/best.pt``: under ``network``
        the model's ``state_dict``.
    **kwargs
        Handed to both steps. ``train_torchmetrics`` and ``test_torchmetrics``, metrics or collections of torchmetrics
        that the steps call, are moved to the device, and computed and reset after each epoch.

    Returns
    -------
    bool
        Whether it was trained to the end; False where the loss was not finite any more.

    Raises
    ------
    UserError
        When `params`, the images or what a step returns are not as expected, or another process works in `logdir`.
    """
    read, config = read_params(params), from_params(params)
    spaces = find_spaces(config)
    if spaces:
        raise UserError(f"params: {next(iter(spaces))}: expected a value, found a search space; step 5 searches")
    announce(read)
    parts = image_parts(Path(datadir).expanduser(), config.image_size, Stream(read.manual_seed))
    folder = logdir_path(logdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".training", timeout=0):
            return OwnTraining(read, config, model, (train_step, test_step), parts, folder, kwargs).run(params)
    except Timeout as error:
        also = "wait for it, or name another folder"
        raise UserError(f"{folder}: another process trains there{holder_of(error)}; {also}") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
