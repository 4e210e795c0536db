"""One training with a caller's own steps: its logdir, its epochs, and the test of the best one."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import matthews_corrcoef

from common.cli import NonFiniteLossError, UserError
from common.data.decoding import as_png
from common.data.folding import Fold
from common.evaluation.predictions import predictions_table
from common.params.best_epoch import BestEpoch
from common.params.board import Board
from common.params.configurable import Preparation
from common.params.image_parts import ImagePart
from common.params.kept_model import classifier_of
from common.params.keys import OF_NETWORK
from common.params.logdirs import choose_logdir, identity_of, logdirs_in
from common.params.plain import start_plain
from common.params.seeding import undisturbed
from common.params.step_results import Means, checked, in_one_line
from common.seeds import Stream
from common.tracking.records import FitRun
from common.tracking.runs import Run
from common.training.checkpoints import SavedModels
from common.training.engine import batches_of, test_model, train_one_epoch
from common.training.loop import run_epochs
from common.training.optimizers import Schedules, make_optimizer
from common.training.precision import set_up


class OwnTraining:
    """What one call of :func:`common.params.train` does."""

    def __init__(self, read, config, model, steps, parts, folder, kwargs):
        self.read, self.config, self.kwargs, self.parts = read, config, kwargs, parts
        self.compute = set_up(read.device, config=config)
        self.model = model.to(self.compute.device)
        self.train_step, self.test_step = steps
        self.table, self.rows = parts["train"]
        if len(self.table.classes) != read.n_classes:
            found = len(self.table.classes)
            raise UserError(f"params.n_classes: expected {found}, as the images have, found {read.n_classes}")
        sizes = {name: getattr(read, name) for name in OF_NETWORK if name != "net_arch"}
        self.preparation = Preparation(**sizes).to(self.compute.device)
        self.metrics = {part: kwargs.get(f"{part}_torchmetrics") for part in ("train", "test")}
        for metric in filter(None, self.metrics.values()):
            metric.to(self.compute.device)
        self.stream = Stream(read.manual_seed).at("training")
        self.every = {"epoch": 0, "batch": 1}.get(read.eval_metric_compute_freq, read.eval_metric_compute_freq)
        self.size = config.eval_batch_size or config.batch_size
        self.val_batches = math.ceil(len(parts["val"].rows) / self.size)
        data = {part: table.fingerprint for part, (table, _) in parts.items()}
        things = {"train_step": steps[0], "test_step": steps[1], **kwargs}
        self.identity = identity_of(read, data, model, things, self.compute)
        self.known = logdirs_in(folder)
        self.place = choose_logdir(self.known, self.identity, may_begin=read.mode != "test")
        self.folder = self.place.folder
        self.saved, self.best = SavedModels(self.folder / "models"), BestEpoch(self.model, self.folder / "models")

    def run(self, params: Mapping[str, Any]) -> bool:
        """Train to the end, or go on to it; False where the loss was not finite any more."""
        epochs, state = self.read.num_epochs, self.saved.load()
        before = state["epoch"] if state else 0
        if state:
            try:
                self.model.load_state_dict(state["network"])
            except RuntimeError as error:
                raise UserError(
                    f"{self.saved.path}: of another model; expected another logdir, or this model"
                ) from error
            if state["stopper"]:
                self.best.load_state_dict(state["stopper"])
        if self.read.mode == "test":
            return self._test_only(before)
        if min(before, self.place.finished) >= epochs:
            self.best.restore_best()
            print(f"{self.folder}: trained for {before} epochs already")
            return True
        self._try_test_step()
        optimizer = make_optimizer(self.model, self.config.optimizer, self.config.learning_rate, 0.0)
        schedules = Schedules(self.model, optimizer, self.config)
        self.place.note(identity=self.identity)
        name = f"{self.table.root.parent.name} {type(self.model).__name__}"
        about = (name, "train", dict(params), self.identity, self.table, self.compute, self.stream, self.place.key)
        others = [place.key for place in self.known if place.key != self.place.key]
        with (
            Board(self.folder, before, *self._batches_before(before)) as board,
            start_plain(*about, others, epochs=epochs) as run,
            run.phase("training") as phase,
        ):
            print(f"{self.folder}: run {run.run_id}, from epoch {before + 1} of {epochs}")
            run.text(str(self.model), f"model_summary_{run.run_id}.txt")

            def on_save(path: Path) -> None:
                phase.event("model_saved", path.name, {"file": str(path)})
                self.best.save()

            def log(metrics: dict[str, float], step: int) -> None:
                board.scalars(metrics, step)
                phase.log(metrics, step)
                if not all(name.startswith("batch_") for name in metrics):
                    print(in_one_line(f"epoch {step:{len(str(epochs))}d}/{epochs}", metrics), flush=True)

            self.saved.on_save = on_save
            if not state:
                board.begin(self.model, self._first_inputs(), params, ["train/loss", "val/loss", "test/loss"])

            train, validate = partial(self._train, optimizer, log), partial(self._validate, log)
            parts = (self.model, optimizer, schedules, self.saved, range(1, epochs + 1), train, validate, log)
            try:
                run_epochs(*parts, self.best, self.config.eval_every, self.config.save_every)
            except NonFiniteLossError as error:
                print(f"stopped: {error}", file=sys.stderr)
                run.tags(error=str(error))
                return False
            self._end(run, phase, board, max(before, epochs))
        self.place.note(finished=max(before, epochs))
        print(f"done: {epochs} epochs, {self.folder} (run {run.run_id})")
        return True

    def _end(self, run: Run, phase: FitRun, board: Board, epochs: int) -> None:
        """The test, and the model, of the best epoch."""
        self.best.save()
        self.best.restore_best()
        metrics = {"best_epoch": float(self.best.epoch), **self._evaluate("test")}
        try:
            network = classifier_of(self.model, self.config, len(self.table.classes), self.table.pixels)
        except UserError as error:
            print(f"the model is in {self.best.file} alone, not in MLflow: {error}", file=sys.stderr)
        else:
            table, rows = self.parts["test"]
            found = test_model(network, table, rows)
            run.text(json.dumps(self.table.classes), "classes.json")
            fold, threshold = Fold(0, 0, self.rows, rows[:0], rows), 0.5 if found.ndim == 1 else math.nan
            tested = predictions_table(table, fold, found[:0], found, threshold)
            metrics.setdefault("test_mcc", float(matthews_corrcoef(tested["label"], tested["prediction"])))
            run.table(tested, "predictions.csv")
            run.text(as_png(self.table.pixels[self.rows[0]]), "example.png")
            phase.model(network)
        board.scalars(metrics, epochs)
        run.log(metrics, epochs)
        print(in_one_line(f"best epoch {self.best.epoch}", {k: v for k, v in metrics.items() if k != "best_epoch"}))

    def _batches_before(self, epoch: int) -> tuple[int, int | None]:
        in_epoch = math.ceil(len(self.rows) / self.config.batch_size)
        evaluated = epoch // self.config.eval_every * self.val_batches if self.every else None
        return epoch * in_epoch, evaluated

    def _test_only(self, epoch: int) -> bool:
        if not epoch:
            raise UserError(f"{self.saved.folder}: no saved model; expected one from params with mode 'train'")
        if self.best.epoch:
            self.best.restore_best()
        print(in_one_line(f"epoch {self.best.epoch or epoch}", self._evaluate("test")))
        return True

    def _first_inputs(self) -> torch.Tensor:
        images, _ = next(batches_of(self.model, self.table, self.rows[:16], 16))
        with torch.no_grad():
            return self._prepared(images, training=False)

    def _prepared(self, images: torch.Tensor, training: bool) -> torch.Tensor:
        return self.preparation.train(training)(images.float() / 255)

    def _train(self, optimizer: torch.optim.Optimizer, log: Callable, epoch: int) -> dict[str, float]:
        means = Means()

        def step(images: torch.Tensor, labels: torch.Tensor) -> float:
            result = self.train_step(self._prepared(images, True), labels, self.model, optimizer, **self.kwargs)
            loss, values = checked(result, "train_step")
            means.add(loss, values, len(labels))
            return loss

        settings = (epoch, self.config.batch_size, self.stream, log, None, self.config.shuffle, step)
        train_one_epoch(self.model, self.table, self.rows, optimizer, *settings)
        return means.metrics("train", self.metrics["train"])

    def _validate(self, log: Callable, epoch: int) -> tuple[dict[str, float], float, float]:
        before = (math.ceil(epoch / self.config.eval_every) - 1) * self.val_batches

        def log_batch(metrics: dict[str, float], number: int) -> None:
            if self.every and (number + 1) % self.every == 0:
                log({f"batch_val_{name}": value for name, value in metrics.items()}, before + number)

        metrics = self._evaluate("val", log_batch)
        loss = metrics["val_loss"]
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss of validation is {loss} after epoch {epoch}; expected a finite loss")
        self.best.now = epoch
        return metrics, loss, -loss

    @torch.no_grad()
    def _evaluate(self, part: str, log_batch: Callable = lambda *_: None) -> dict[str, float]:
        self.model.eval()
        means = Means()
        for number, (images, labels) in enumerate(self._batches_of(self.parts[part])):
            loss, values = self._test(images, labels)
            means.add(loss, values, len(labels))
            log_batch({"loss": loss, **values}, number)
        return means.metrics(part, self.metrics["test"])

    def _batches_of(self, part: ImagePart) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return batches_of(self.model, part.table, part.rows, self.size)

    def _test(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, dict[str, float]]:
        result = self.test_step(self._prepared(images, False), labels, self.model, **self.kwargs)
        return checked(result, "test_step")

    @torch.no_grad()
    def _try_test_step(self) -> None:
        """See what it returns before hours of training, and leave everything as it was."""
        was_training = self.model.training
        with undisturbed():
            self.model.eval()
            self._test(*next(self._batches_of(self.parts["val"])))
        self.model.train(was_training)
        if self.metrics["test"] is not None:
            self.metrics["test"].reset()
