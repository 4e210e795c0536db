"""Step 4: hyper-parameters searched with Optuna, in each outer fold on its own."""

import time
from dataclasses import replace
from functools import partial

from common import cli, data, evaluation, search, tracking, training
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
N_TRIALS = 5


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


def suggest(config, trial):
    """The settings that a trial tries."""
    return replace(
        config,
        hidden_dim=trial.suggest_int("hidden_dim", 16, 256, log=True),
        dropout_rate=trial.suggest_float("dropout_rate", 0.0, 0.6),
        warmup_learning_rate=trial.suggest_float("warmup_learning_rate", 1e-4, 1e-2, log=True),
        warmup_weight_decay=trial.suggest_float("warmup_weight_decay", 1e-4, 1e-1, log=True),
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
    )


def run_inner_split(table, config, compute, stream, run, fold):
    """Fit a network for one inner fold; returns it with its dev ROC AUC."""
    with run.fold(fold) as fold_run:
        return run_fold(table, fold, config, compute, stream.at(f"inner {fold.inner_split}"), fold_run)


def test_inner(table, compute, run, fold, network):
    """Test a network of one inner fold."""
    with run.fold(fold) as fold_run:
        return test_fold(network.to(compute.device), data.decode(table, network.image_size), fold, fold_run)


def run_trial(table, compute, stream, run, folds, trial, config):
    """Fit a network for each inner fold with a trial's settings, unless it is pruned; the test set stays unread."""
    networks, scores = [], []
    with run.trial(trial.number) as trial_run:
        trial_run.params(config)
        run_inner = partial(run_inner_split, table, config, compute, stream, trial_run)
        for fold, (network, score) in zip(folds, training.run_fits(run_inner, folds), strict=False):
            networks.append(network)
            scores.append(score)
            trial.report(score, fold.inner_split)
            if trial.should_prune():
                break
        trial_run.log({"mean_dev_roc_auc": sum(scores) / len(scores), "folds": len(scores)}, 0)
    return networks, scores


def run_search(table, config, compute, stream, n_trials, lag, run, folds):
    """A study on the inner folds; returns it, its best trial, and that trial's networks."""
    stream = stream.at(f"root {folds[0].root_split}")
    study = search.create_study(run.study_name, len(folds), config.n_startup_trials, lag)
    objective = partial(run_trial, table, compute, stream, run, folds)
    best, networks = search.optimize(study, partial(suggest, config), objective, n_trials, stream, run.checkpoint)
    run.params({"best_trial": best.number, **best.params})
    return study, best, networks


def run_root_split(table, config, compute, stream, run, n_trials, lag, folds):
    """Search on the inner folds of one outer fold, then test the best trial's networks and their mean prediction."""
    with run.root_split(folds[0].root_split) as root_run:
        study, best, networks = run_search(table, config, compute, stream, n_trials, lag, root_run, folds)
        tested = evaluation.join(training.run_tests(partial(test_inner, table, compute, root_run), folds, networks))
        root_run.record(tested)
        root_run.log(evaluation.ensemble_scores(tested), 0)
    return tested, best.params, study


def run_experiment(args):
    """Nested cross-validation from one root seed: a root run."""
    started = time.perf_counter()
    config = training.configure(CONFIG, args)
    compute = training.set_up_for(config, args)
    stream = Stream(args.seed)
    table, roots = load(args, config)
    n_trials = args.n_trials or (2 if args.fast else N_TRIALS)
    n_fits = len(roots) * args.inner_splits * n_trials
    with tracking.start(4, args, n_fits, table, roots, config, compute, stream) as run:
        run_root = partial(run_root_split, table, config, compute, stream, run, n_trials, args.lag)
        tables, chosen, studies = zip(*training.run_jobs(run_root, roots, compute, args, n_fits), strict=True)
        predictions = evaluation.join(tables)
        results = evaluation.results_of(predictions, [fold for folds in roots for fold in folds])
        run.table(predictions, "predictions.csv")
        run.table(results, "results.csv")
        run.log(evaluation.mean_scores(results), 0)
        if args.register:
            from common.production import register

            search_all = partial(run_search, table, config, compute, stream, n_trials, args.lag)
            register(args, run, table, predictions, compute, n_trials, search_all)
    return evaluation.conclude(4, args, predictions, results, started, run, studies, chosen)


def main(argv=None):
    args = cli.train_parser(__doc__, step=4).parse_args(argv)
    return evaluation.repeat(run_experiment, args)


if __name__ == "__main__":
    cli.run(main)
