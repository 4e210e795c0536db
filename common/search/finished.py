"""A finished study: its trials as a table, and how much each hyper-parameter mattered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from common.cli import UserError, masked
from common.search.kept import study_names
from common.search.studies import count_fits, storage_url

if TYPE_CHECKING:
    from common.tracking.runs import Run


def load_study(name: str) -> optuna.Study:
    """The study of that name, such as ``<run id> root 0``.

    Raises
    ------
    UserError
        When there is none, or the database cannot be used.
    """
    try:
        return optuna.load_study(study_name=name, storage=storage_url())
    except KeyError:
        raise UserError(f"study {name}: there is none at {storage_url()}") from None
    except Exception as error:  # each database has errors of its own
        raise UserError(f"studies at {storage_url()} cannot be used: {str(error).splitlines()[0]}") from None


def studies_of(run: Run, root_splits: Iterable[int]) -> list[optuna.Study]:
    """The studies of a run's outer folds; a line says so where they are not there any more."""
    there = set(study_names())
    names = [f"{run.run_id} root {root}" for root in sorted(set(root_splits))]
    found = [load_study(name) for name in names if name in there]
    if len(found) < len(names):
        where = masked(storage_url())
        print(f"{len(found)} of {len(names)} studies of run {run.run_id} are at {where}; others have no plots")
    return found


def fits_of(run_id: str) -> int:
    """Networks that all searches of a root run fitted: those of its outer folds, and that on all images."""
    return sum(count_fits(load_study(name)) for name in study_names() if name.startswith(f"{run_id} "))


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """A row per trial, in order.

    Returns
    -------
    DataFrame
        Index ``trial``; columns ``state`` (complete, pruned, fail), ``value`` (mean dev score over all folds; NaN
        unless complete), ``fold 0``, ``fold 1``, … (dev scores; NaN where the fold was not reached), and the
        hyper-parameters by name.
    """
    trials = study.get_trials(deepcopy=False)
    return pd.DataFrame(
        [
            {
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state.name == "COMPLETE" else float("nan"),
                **{f"fold {fold}": score for fold, score in sorted(trial.intermediate_values.items())},
                **trial.params,
            }
            for trial in trials
        ],
        index=pd.Index([trial.number for trial in trials], name="trial"),
    )


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of each hyper-parameter in what told the better trials from the rest; they sum to 1.

    It is Optuna's PED-ANOVA (Watanabe et al., 2023). From a handful of trials it is little more than chance; while
    fewer than two trials completed, all shares are 0.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(complete) < 2:
        return dict.fromkeys((name for trial in complete for name in trial.params), 0.0)
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
