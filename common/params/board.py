"""What a training shows in TensorBoard: scalars by epoch and batch, images, the graph and the hyper-parameters."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

SHOWN = 16
"""Images."""


class Board:
    """Writes TensorBoard's files into a folder; a context manager.

    Scalars of epochs are ``train/...``, ``val/...``, ``test/...`` and ``learning_rate``; those of batches,
    ``batch/...``, lie in the folder's subfolders ``batches`` and ``val_batches``, by the number of the batch.

    Parameters
    ----------
    folder : Path
    epoch, batches, val_batches : int
        How many epochs and batches were done before, in an interrupted training that goes on: what was written after
        these is not shown any more. Without `val_batches` nothing of these is shown.
    """

    def __init__(self, folder: Path, epoch: int = 0, batches: int = 0, val_batches: int | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self._epochs = SummaryWriter(folder, purge_step=epoch + 1 if epoch else None)
        self._batches = {
            name: SummaryWriter(folder / name, purge_step=done if epoch else None)
            for name, done in (("batches", batches), ("val_batches", val_batches))
            if done is not None
        }

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in (self._epochs, *self._batches.values()):
            writer.close()

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics named as in :func:`common.training.train`; they can be read when this returns."""
        is_batch = all(name.startswith("batch_") for name in metrics)
        for name, value in metrics.items():
            group, _, rest = name.partition("_")
            part = "val_batches" if rest.startswith("val_") else "batches"
            writer = self._batches[part] if is_batch else self._epochs
            writer.add_scalar(f"{group}/{rest}" if group in ("train", "val", "test", "batch") else name, value, step)
        if not is_batch:
            self._epochs.flush()

    def begin(
        self, model: torch.nn.Module, inputs: torch.Tensor, params: Mapping[str, object], names: list[str]
    ) -> None:
        """Images as the network takes them, its graph, and the hyper-parameters beside the scalars of some names."""
        low, high = inputs.amin(), inputs.amax()
        self._epochs.add_images("images", (inputs[:SHOWN] - low) / (high - low).clamp(min=1e-6), 0)
        was_training = model.training
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # TensorBoard's way to a graph is an old one
                self._epochs.add_graph(model.eval(), inputs[:2])
        except Exception as error:  # not every network can be traced
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"TensorBoard shows no graph of this network ({reason})", file=sys.stderr)
        finally:
            model.train(was_training)
        self._hparams(params, names)
        self._epochs.flush()

    def _hparams(self, params: Mapping[str, object], names: list[str]) -> None:
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in params.items()
        }
        for summary in hparams(plain, dict.fromkeys(names, 0.0)):
            self._epochs.file_writer.add_summary(summary)
