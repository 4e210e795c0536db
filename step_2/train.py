"""Step 2: the same training, seeded and tracked with MLflow."""

import time

from common import cli, data, evaluation, tracking, training
from common.config import TrainingConfig
from common.seeds import Stream

CONFIG = TrainingConfig(
    hidden_dim=64,
    dropout_rate=0.2,
    warmup_epochs=5,
    warmup_learning_rate=1e-4,
    warmup_weight_decay=1e-2,
    epochs=10,
    learning_rate=1e-4,
    weight_decay=1e-2,
)


def load(args, config, stream):
    """The images, and one random split of them."""
    table = data.load_images(args.data, config.image_size, args.skip_unreadable, not args.no_cache)
    return table, data.random_fold(table, stream.at("split"))


def warm_up(network, table, fold, config, stream, log, checkpoint=None):
    """Phase 1: train the head alone; the backbone stays as it is."""
    network.freeze_backbone()
    optimizer = training.make_optimizer(
        network, config.optimizer, config.warmup_learning_rate, config.warmup_weight_decay
    )
    return training.train_and_validate_model(
        network, table, fold, optimizer, config.warmup_epochs, config, stream, log, checkpoint=checkpoint
    )


def fine_tune(network, table, fold, config, stream, log, checkpoint=None):
    """Phase 2: train everything, on augmented images."""
    network.freeze_backbone(False)
    optimizer = training.make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
    return training.train_and_validate_model(
        network, table, fold, optimizer, config.epochs, config, stream, log, config.augmentation, checkpoint
    )


def run_fold(table, fold, config, compute, stream, run):
    """Fit one network in two phases, each with a run of its own; returns it with its dev ROC AUC."""
    network = training.new_model(config, table, compute, stream.at("model"))
    with run.phase("warm-up") as phase:
        warm_up(network, table, fold, config, stream.at("warm-up"), phase.log, phase.checkpoint)
    with run.phase("fine-tuning") as phase:
        score = fine_tune(network, table, fold, config, stream.at("fine-tuning"), phase.log, phase.checkpoint)
    return network, score


def test_fold(network, table, fold, run):
    """Choose the threshold on the dev set, then predict the test set; keep the predictions and the network."""
    dev = training.test_model(network, table, fold.dev)
    threshold = evaluation.youden_threshold(table.labels[fold.dev], dev)
    test = training.test_model(network, table, fold.test)
    predictions = evaluation.predictions_table(table, fold, dev, test, threshold)
    run.table(predictions, "predictions.csv")
    run.model(network)
    return predictions


def main(argv=None):
    args = cli.train_parser(__doc__, step=2).parse_args(argv)
    started = time.perf_counter()
    config = training.configure(CONFIG, args)
    compute = training.set_up_for(config, args)
    stream = Stream(args.seed)
    table, fold = load(args, config, stream)
    with tracking.start(2, args, 1, table, fold, config, compute, stream) as run:
        network, _ = run_fold(table, fold, config, compute, stream, run)
        predictions = test_fold(network, table, fold, run)
        results = evaluation.results_of(predictions, [fold])
        run.table(results, "results.csv")
        run.log(evaluation.mean_scores(results), 0)
    return evaluation.conclude(2, args, predictions, results, started, run)


if __name__ == "__main__":
    cli.run(main)
