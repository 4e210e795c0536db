"""What a filter in MLflow's search syntax finds among runs that are described, not stored."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Param, Run as Entity, RunData, RunInfo, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchUtils

from common.cli import UserError, reason_of


def found_by(filter_string: str, runs: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[str]:
    """The names of the runs that a filter finds, as ``search_runs`` would.

    Parameters
    ----------
    filter_string : str
    runs : mapping from name to {"attributes": {"status": ...}, "params": {...}, "tags": {...}}

    Raises
    ------
    UserError
        When MLflow cannot read the filter.
    """
    entities = {}
    for name, run in runs.items():
        info = RunInfo(name, "0", "me", run["attributes"]["status"], 0, 1, "active", run_name=name)
        tags = [RunTag(key, value) for key, value in {**run["tags"], "mlflow.runName": name}.items()]
        data = RunData(params=[Param(key, value) for key, value in run["params"].items()], tags=tags)
        entities[name] = Entity(info, data)
    try:
        return [run.info.run_id for run in SearchUtils.filter(list(entities.values()), filter_string)]
    except (MlflowException, AttributeError, TypeError, ValueError, IndexError) as error:
        raise UserError(reason_of(error)) from error
