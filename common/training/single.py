"""One fit by itself, without phases, runs or files: for a search of one's own."""

from __future__ import annotations

from collections.abc import Callable

from common.config.settings import TrainingConfig
from common.data.folding import Fold
from common.data.images import ImageTable
from common.model.classifier import Classifier
from common.seeds import Stream
from common.training.compute import Compute
from common.training.engine import train_and_validate_model, train_one_epoch
from common.training.networks import new_model
from common.training.optimizers import Schedules, make_optimizer

Report = Callable[[float, int], None]


def fit_on(
    table: ImageTable, fold: Fold, compute: Compute, stream: Stream
) -> Callable[[TrainingConfig, Report], tuple[Classifier, float]]:
    """A function that trains a whole network on a fold, for :func:`common.search.cnn_space.cnn_objective`.

    ``fit(config, report)`` calls ``report(dev_score, epoch)`` after each epoch, stops early, and returns the network
    with its best weights and its best dev score. On a fold with an empty dev set it trains for ``config.epochs``, and
    the score is NaN.
    """

    def fit(config: TrainingConfig, report: Report) -> tuple[Classifier, float]:
        network = new_model(config, table, compute, stream.at("model"))
        optimizer = make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)

        def log(metrics: dict[str, float], step: int) -> None:
            if f"dev_{config.score}" in metrics:
                report(metrics[f"dev_{config.score}"], step)

        here, augmentation = stream.at("training"), config.augmentation
        if len(fold.dev):
            score = train_and_validate_model(
                network, table, fold, optimizer, config.epochs, config, here, log, augmentation
            )
            return network, score
        schedules = Schedules(network, optimizer, config)
        for epoch in range(1, config.epochs + 1):
            loss = train_one_epoch(
                network, table, fold.train, optimizer, epoch, config.batch_size, here, log, augmentation
            )
            schedules.step(loss)
        return network, float("nan")

    return fit
