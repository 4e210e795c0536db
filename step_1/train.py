"""Step 1: fine-tune a network to tell cats from dogs, as such scripts usually begin."""

import time

from common import cli, data, evaluation, training
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
OUTPUTS = cli.PROJECT / "step_1" / "outputs"


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


def run_fold(table, fold, config, compute, stream):
    """Fit one network in two phases; returns it with its dev ROC AUC."""
    network = training.new_model(config, table, compute, stream.at("model"))
    print("warm-up")
    warm_up(network, table, fold, config, stream.at("warm-up"), training.print_epoch)
    print("fine-tuning")
    score = fine_tune(network, table, fold, config, stream.at("fine-tuning"), training.print_epoch)
    return network, score


def test_fold(network, table, fold):
    """Choose the threshold on the dev set, then predict the test set."""
    dev = training.test_model(network, table, fold.dev)
    threshold = evaluation.youden_threshold(table.labels[fold.dev], dev)
    test = training.test_model(network, table, fold.test)
    return evaluation.predictions_table(table, fold, dev, test, threshold)


def main(argv=None):
    args = cli.train_parser(__doc__, step=1).parse_args(argv)
    started = time.perf_counter()
    config = training.configure(CONFIG, args)
    compute = training.set_up_for(config, args)
    stream = Stream.unseeded() if args.seed is None else Stream(args.seed)
    table, fold = load(args, config, stream)
    network, _ = run_fold(table, fold, config, compute, stream)
    predictions = test_fold(network, table, fold)
    results = evaluation.results_of(predictions, [fold])
    OUTPUTS.mkdir(exist_ok=True)
    predictions.to_csv(OUTPUTS / "predictions.csv", index=False)
    results.to_csv(OUTPUTS / "results.csv", index=False)
    return evaluation.conclude(1, args, predictions, results, started)


if __name__ == "__main__":
    cli.run(main)
