"""What a run of step 5 keeps of the best trial of an outer fold: its config, and its networks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from common import tracking
from common.cli import UserError

if TYPE_CHECKING:
    from common.model import Classifier


def best_config_file(run_id: str, root_split: int, folder: str | Path) -> Path:
    """Fetch ``best_config.py`` of one outer fold of a run of step 5 into a folder.

    Raises
    ------
    UserError
        When there is no such run or outer fold.
    """
    run, of_fold = _of_outer_fold(run_id, root_split)
    return Path(run.client.download_artifacts(of_fold, "best_config.py", str(folder)))


def tested_networks(run_id: str, root_split: int) -> list[Classifier]:
    """The networks that were tested on one outer fold in a run of step 5, in the order of its inner folds.

    Raises
    ------
    UserError
        When there is no such run or outer fold.
    """
    from common.model import load_classifier

    run, of_fold = _of_outer_fold(run_id, root_split)
    below = f"tags.`mlflow.parentRunId` = '{of_fold}' and tags.run_level = 'fold'"
    folds = run.client.search_runs([run.experiment_id], below)
    folds.sort(key=lambda one: int(one.data.tags["inner_split"]))
    with tempfile.TemporaryDirectory() as folder:
        return [
            load_classifier(Path(run.client.download_artifacts(one.info.run_id, "model.safetensors", folder)))
            for one in folds
        ]


def _of_outer_fold(run_id: str, root_split: int) -> tuple[tracking.Run, str]:
    run = tracking.find_run("step_5", run_id)
    below = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.root_split = '{root_split}'"
    found = run.client.search_runs([run.experiment_id], f"{below} and tags.run_level = 'root_split'")
    if not found:
        raise UserError(f"run {run_id}: it has no root split {root_split}")
    return run, found[0].info.run_id
