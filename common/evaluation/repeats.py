"""The same experiment from several root seeds; a light room, as each script opens it before its first fit."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

from common import progress
from common.cli import UserError

Experiment = Callable[[argparse.Namespace], dict[str, object]]
"""Takes the flags, and returns what :func:`common.evaluation.conclude` does."""


def repeat(run_experiment: Experiment, args: argparse.Namespace) -> dict[str, object]:
    """Run an experiment once, or with ``--repeats K`` from K root seeds: ``--seed`` and those that follow it.

    With ``--resplit`` each further seed also runs on splits of its own. A run that has finished before is not run
    again, unless ``--fresh``: so a killed command goes on, and a higher K adds to what is there.

    Returns
    -------
    dict
        That of the one run; else what ``--json`` prints: ``run_id`` of the first, ``test_roc_auc`` (mean of the seeds
        on the same splits), ``spread`` (a :class:`common.evaluation.spread.Spread` of it) and ``runs``.

    Raises
    ------
    UserError
        When there are fewer than K seeds, when a model should be registered, or when splits cannot be drawn again.
    """
    progress.before_fits(_prepare_search if hasattr(args, "n_trials") else _prepare_start)
    progress.meanwhile(_import_what_ends_a_run)
    for flag in ("repeats", "resplit"):
        if getattr(args, "register", None) and getattr(args, flag):
            raise UserError(
                f"--{flag}: a model is registered by a run without it; expected no --register, nor one in the config"
            )
    if args.repeats is None:
        return run_experiment(args)
    if args.seed + args.repeats > 2**63:
        raise UserError(f"--seed {args.seed}: expected at most {2**63 - args.repeats} with --repeats {args.repeats}")
    if args.resplit:
        from common.data import check_drawn

        check_drawn(args.data)
    from common.evaluation.spread import conclude_repeats, run_seed

    seeds = range(args.seed, args.seed + args.repeats)
    wanted = [(seed, False) for seed in seeds] + [(seed, True) for seed in seeds[1:] if args.resplit]
    return conclude_repeats([run_seed(run_experiment, args, *one) for one in wanted], args.json)


def _prepare_start() -> None:
    from common.tracking.starting import prepare_start  # MLflow takes seconds to import

    prepare_start()


def _prepare_search() -> None:
    _prepare_start()
    importlib.import_module("common.search.studies")


def _import_what_ends_a_run() -> None:
    importlib.import_module("torch")  # what fits return needs it
    importlib.import_module("common.evaluation.ending")
    importlib.import_module("common.evaluation.metrics")
