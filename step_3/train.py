"""Step 3: the same training in nested cross-validation."""

import time
from functools import partial

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


def load(args, config):
    """The images, and for each outer fold its inner folds, from the splits file."""
    table = data.load_images(args.data, config.image_size, args.skip_unreadable, not args.no_cache)
    splits = data.load_splits(table, args.seed if args.resplit else None)
    return table, [data.folds_of(splits, root, args.inner_splits) for root in cli.root_splits(args)]


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


def run_inner_split(table, config, compute, stream, run, fold):
    """Fit and test a network for one inner fold."""
    with run.fold(fold) as fold_run:
        network, _ = run_fold(table, fold, config, compute, stream.at(f"inner {fold.inner_split}"), fold_run)
        return test_fold(network, table, fold, fold_run)


def run_root_split(table, config, compute, stream, run, folds):
    """Fit and test a network for each inner fold of one outer fold."""
    stream = stream.at(f"root {folds[0].root_split}")
    with run.root_split(folds[0].root_split) as root_run:
        run_inner = partial(run_inner_split, table, config, compute, stream, root_run)
        return evaluation.join(training.run_fits(run_inner, folds))


def run_experiment(args):
    """Nested cross-validation from one root seed: a root run."""
    started = time.perf_counter()
    config = training.configure(CONFIG, args)
    compute = training.set_up_for(config, args)
    stream = Stream(args.seed)
    table, roots = load(args, config)
    n_fits = len(roots) * args.inner_splits
    with tracking.start(3, args, n_fits, table, roots, config, compute, stream) as run:
        run_root = partial(run_root_split, table, config, compute, stream, run)
        predictions = evaluation.join(training.run_jobs(run_root, roots, compute, args, n_fits))
        results = evaluation.results_of(predictions, [fold for folds in roots for fold in folds])
        run.table(predictions, "predictions.csv")
        run.table(results, "results.csv")
        run.log(evaluation.mean_scores(results), 0)
    return evaluation.conclude(3, args, predictions, results, started, run)


def main(argv=None):
    args = cli.train_parser(__doc__, step=3).parse_args(argv)
    return evaluation.repeat(run_experiment, args)


if __name__ == "__main__":
    cli.run(main)
