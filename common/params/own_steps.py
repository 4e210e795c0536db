"""`train(...)`: a caller's own steps of training and evaluation, in the loop that the workshop's steps use."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout

from common.cli import UserError
from common.config.places import find_spaces
from common.data.images import ImageTable, check_classes, decode
from common.data.sources import find_images
from common.data.splits import random_fold
from common.params.board import Board
from common.params.configurable import Preparation
from common.params.experiment import from_params
from common.params.idx import load_idx
from common.params.idx_files import FILES, files_of
from common.params.keys import OF_NETWORK, announce, read_params
from common.params.plain import start_plain
from common.params.step_results import Means, checked
from common.seeds import Stream
from common.state import locked
from common.tracking.seam import tell
from common.training.checkpoints import SavedModels
from common.training.engine import NonFiniteLossError, batches_of, train_one_epoch
from common.training.loop import run_epochs
from common.training.optimizers import Schedules, make_optimizer
from common.training.precision import set_up

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

    Metrics, learning rate, images, the graph and the hyper-parameters are in `logdir` for TensorBoard, and metrics and
    settings in MLflow (experiment ``train``); messages go to the brokers that `params` or the environment name.

    Parameters
    ----------
    params : dict
        See :class:`common.params.keys.Params`; without search spaces.
    model : nn.Module
        Such as ``make_classifier(params)``. It is left with the weights of the last epoch.
    train_step : callable
        ``train_step(x, y, model, optim, **kwargs)`` for a batch: images, as `params` prepare them, float32 (B, C, H,
        W), and labels, int64 (B,). It makes the step of the optimiser, and returns the loss and a dict of metrics, or
        None in its place.
    test_step : callable
        ``test_step(x, y, model, **kwargs)``, likewise, in evaluation and without gradients. It is tried on one batch
        before the first epoch.
    datadir : str or Path
        With ``train/`` and, for `test_step`, ``test/``, each with an ``info.csv`` (``files,type``) or as
        :func:`common.data.load_images` takes folders; or with the four idx files. Without ``test/`` a fifth of the
        training images is held out.
    logdir : str or Path
        Saved states are in ``models/epoch-00001.pt`` and so on, under ``network`` the model's ``state_dict``.
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
    tables = _tables(Path(datadir).expanduser(), config.image_size, Stream(read.manual_seed))
    folder = Path(logdir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".training", timeout=0):
            return _Training(read, config, model, (train_step, test_step), tables, folder, kwargs).run(params)
    except Timeout:
        raise UserError(f"{folder}: another process trains there; wait for it, or name another folder") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error


class _Training:
    def __init__(self, read, config, model, steps, tables, folder, kwargs):
        self.read, self.config, self.folder, self.kwargs = read, config, folder, kwargs
        self.compute = set_up(read.device, config=config)
        self.model = model.to(self.compute.device)
        self.train_step, self.test_step = steps
        (self.table, self.rows), (self.test_table, self.test_rows) = tables
        if len(self.table.classes) != read.n_classes:
            found = len(self.table.classes)
            raise UserError(f"params.n_classes: expected {found}, as the images have, found {read.n_classes}")
        sizes = {name: getattr(read, name) for name in OF_NETWORK if name != "net_arch"}
        self.preparation = Preparation(**sizes).to(self.compute.device)
        self.metrics = {part: kwargs.get(f"{part}_torchmetrics") for part in ("train", "test")}
        for metric in filter(None, self.metrics.values()):
            metric.to(self.compute.device)
        self.stream = Stream(read.manual_seed).at("training")
        self.saved = SavedModels(folder / "models")
        self.every = {"epoch": 0, "batch": 1}.get(read.eval_metric_compute_freq, read.eval_metric_compute_freq)
        self.test_batches = math.ceil(len(self.test_rows) / self._test_size)

    def run(self, params: Mapping[str, Any]) -> bool:
        epochs, state = self.read.num_epochs, self.saved.load()
        before = state["epoch"] if state else 0
        if state:
            try:
                self.model.load_state_dict(state["network"])
            except RuntimeError as error:
                raise UserError(
                    f"{self.saved.path}: of another model; expected another logdir, or this model"
                ) from error
        if self.read.mode == "test":
            return self._test_only(before)
        if before >= epochs:
            print(f"{self.folder}: trained for {before} epochs already")
            return True
        self._try_test_step()
        optimizer = make_optimizer(self.model, self.config.optimizer, self.config.learning_rate, 0.0)
        schedules = Schedules(self.model, optimizer, self.config)
        name, note = f"{self.table.root.parent.name} {type(self.model).__name__}", self.folder / "run_id"
        goes_on = note.read_text() if state and note.exists() else None
        with (
            Board(self.folder, before, *self._batches_before(before)) as board,
            start_plain(
                name, "train", dict(params), self.table, self.compute, self.stream, goes_on, epochs=epochs
            ) as run,
        ):
            note.write_text(run.run_id)
            run.text(str(self.model), f"model_summary_{run.run_id}.txt")
            self.saved.on_save = lambda path: tell(run, "model_saved", path.name, file=str(path))

            def log(metrics: dict[str, float], step: int) -> None:
                board.scalars(metrics, step)
                run.log(metrics, step)

            if not state:
                board.begin(self.model, self._first_inputs(), params, ["train/loss", "test/loss"])

            def train(epoch: int) -> dict[str, float]:
                return self._train(epoch, optimizer, log)

            def evaluate(epoch: int) -> tuple[dict[str, float], float, float]:
                return self._evaluate(epoch, log)

            parts = (self.model, optimizer, schedules, self.saved, range(1, epochs + 1), train, evaluate, log)
            try:
                run_epochs(*parts, None, self.config.eval_every, self.config.save_every)
            except NonFiniteLossError as error:
                print(f"stopped: {error}", file=sys.stderr)
                run.tags(error=str(error))
                return False
        print(f"done: {epochs} epochs, {self.folder} (run {run.run_id})")
        return True

    def _batches_before(self, epoch: int) -> tuple[int, int | None]:
        in_epoch = math.ceil(len(self.rows) / self.config.batch_size)
        in_tests = epoch // self.config.eval_every * self.test_batches if self.every else None
        return epoch * in_epoch, in_tests

    def _test_only(self, epoch: int) -> bool:
        if not epoch:
            raise UserError(f"{self.saved.folder}: no saved model; expected one from params with mode 'train'")
        metrics, *_ = self._evaluate(epoch, lambda *_: None)
        print("  ".join([f"epoch {epoch}", *(f"{name} {value:.4g}" for name, value in metrics.items())]))
        return True

    def _first_inputs(self) -> torch.Tensor:
        images, _ = next(batches_of(self.model, self.table, self.rows[:16], 16))
        with torch.no_grad():
            return self._prepared(images, training=False)

    def _prepared(self, images: torch.Tensor, training: bool) -> torch.Tensor:
        return self.preparation.train(training)(images.float() / 255)

    def _train(self, epoch: int, optimizer: torch.optim.Optimizer, log: Callable) -> dict[str, float]:
        means = Means()

        def step(images: torch.Tensor, labels: torch.Tensor) -> float:
            result = self.train_step(self._prepared(images, True), labels, self.model, optimizer, **self.kwargs)
            loss, values = checked(result, "train_step")
            means.add(loss, values, len(labels))
            return loss

        settings = (epoch, self.config.batch_size, self.stream, log, None, self.config.shuffle, step)
        train_one_epoch(self.model, self.table, self.rows, optimizer, *settings)
        return means.metrics("train", self.metrics["train"])

    @property
    def _test_size(self) -> int:
        return self.config.eval_batch_size or self.config.batch_size

    @torch.no_grad()
    def _evaluate(self, epoch: int, log: Callable) -> tuple[dict[str, float], float, float]:
        self.model.eval()
        means, before = Means(), (math.ceil(epoch / self.config.eval_every) - 1) * self.test_batches
        for number, (images, labels) in enumerate(self._batches_of_test()):
            loss, values = self._test(images, labels)
            means.add(loss, values, len(labels))
            if self.every and (number + 1) % self.every == 0:
                named = {f"batch_test_{name}": value for name, value in values.items()}
                log({"batch_test_loss": loss, **named}, before + number)
        metrics = means.metrics("test", self.metrics["test"])
        return metrics, metrics["test_loss"], math.nan

    def _batches_of_test(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return batches_of(self.model, self.test_table, self.test_rows, self._test_size)

    def _test(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, dict[str, float]]:
        result = self.test_step(self._prepared(images, False), labels, self.model, **self.kwargs)
        return checked(result, "test_step")

    @torch.no_grad()
    def _try_test_step(self) -> None:
        """See what it returns before hours of training, and leave everything as it was."""
        was_training, states = self.model.training, (random.getstate(), np.random.get_state())
        try:
            with torch.random.fork_rng():
                self.model.eval()
                self._test(*next(self._batches_of_test()))
        finally:
            self.model.train(was_training)
            random.setstate(states[0])
            np.random.set_state(states[1])
            if self.metrics["test"] is not None:
                self.metrics["test"].reset()


def _tables(folder: Path, image_size: int, stream: Stream) -> list[tuple[ImageTable, np.ndarray]]:
    """The images of training and of testing, with the rows that count."""
    tables = {part: _table(folder, part, image_size) for part in ("train", "test")}
    table, test = tables["train"], tables["test"]
    if table is None:
        raise UserError(f"{folder}: expected a folder train/ in it, or the four idx files such as {FILES['train'][0]}")
    if test is None:
        fold = random_fold(table, stream.at("held out"))
        return [(table, np.sort(np.concatenate([fold.train, fold.dev]))), (table, fold.test)]
    if test.classes != table.classes:
        raise UserError(f"{test.root}: expected the classes of train/, {table.classes}, found {test.classes}")
    return [(one, np.arange(len(one))) for one in (table, test)]


def _table(folder: Path, part: str, image_size: int) -> ImageTable | None:
    if (folder / part).is_dir():
        table = decode(find_images(str(folder / part)), image_size)
    elif files_of(folder, part)[0].exists():
        table = load_idx(folder, part, image_size)
    else:
        return None
    return check_classes(table) if part == "train" else table
