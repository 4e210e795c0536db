"""MLflow runs in a lesson: as a table, and what their phases logged."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from common.tracking.finding import find_run
from common.tracking.runs import PARENT


def runs_table(step: int, filter_string: str = "", run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """The MLflow runs of a step, oldest first, a row for each.

    Parameters
    ----------
    step : int
        From 2.
    filter_string : str
        In MLflow's search syntax, such as ``params.seed = '0'``.
    run_ids : sequence of str, optional
        Root runs: only they and the runs below them.

    Returns
    -------
    DataFrame
        Indexed by run id, with the columns ``name``, ``status``, ``parent`` (run id or None) and, as
        :func:`mlflow.search_runs` names them, ``tags.…``, ``params.…`` and ``metrics.…``.
    """
    client, experiment_id = _experiment(step)
    found = client.search_runs([experiment_id], filter_string, max_results=50000, order_by=["attributes.start_time"])
    rows = {}
    for run in found:
        parent = run.data.tags.get(PARENT)
        rows[run.info.run_id] = {"name": run.info.run_name, "status": run.info.status, "parent": parent}
        for kind, values in (("tags", run.data.tags), ("params", run.data.params), ("metrics", run.data.metrics)):
            rows[run.info.run_id] |= {f"{kind}.{name}": values[name] for name in sorted(values)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run_id")
    if run_ids is None or table.empty:
        return table
    kept = table.index.isin(list(run_ids))
    while (below := table["parent"].isin(table.index[kept]).to_numpy() & ~kept).any():
        kept |= below
    return table[kept]


def history(step: int, run_id: str) -> list[tuple[dict[str, float], int]]:
    """What the phases right below an MLflow run logged by epoch, for :func:`learning_curves`."""
    client, experiment_id = _experiment(step)
    below = f"tags.`{PARENT}` = '{run_id}' and tags.run_level = 'phase'"
    logged = []
    for phase in client.search_runs([experiment_id], below, order_by=["attributes.start_time"]):
        epochs: dict[int, dict[str, float]] = {}
        for name in ("train_loss", "dev_loss", "dev_roc_auc"):
            for metric in client.get_metric_history(phase.info.run_id, name):
                epochs.setdefault(metric.step, {})[name] = metric.value
        logged += [(epochs[epoch], epoch) for epoch in sorted(epochs)]
    return logged


def _experiment(step: int):
    run = find_run(f"step_{step}")
    return run.client, run.experiment_id
