"""Studies as plain records, which go from one database into another, and studies that go for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, cast

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, with_config
from typing_extensions import TypedDict

from common.cli import UserError, reason_of
from common.search.studies import connect, storage_url
from common.state import state_folder

Record = dict[str, Any]
Step = Annotated[int, Field(ge=0, lt=1 << 31)]
"""As databases of Optuna hold it."""


@with_config(strict=True, extra="forbid")
class TrialRecord(TypedDict):
    """A trial of a study that is recorded; `reported` are steps with their values, `times` its start and end."""

    state: Literal["RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING"]
    values: tuple[float] | None
    params: dict[str, Any]
    distributions: dict[str, str]
    reported: list[tuple[Step, float]]
    attributes: dict[str, Any]
    system: dict[str, Any]
    times: tuple[str | None, str | None]


@with_config(strict=True, extra="forbid")
class StudyRecord(TypedDict):
    """A study that is recorded."""

    name: str
    direction: Literal["minimize", "maximize"]
    attributes: dict[str, Any]
    trials: list[TrialRecord]


def study_names() -> list[str]:
    """The names of all studies; of those that a run's search has made they begin with the run's id."""
    return sorted(study.study_name for study in _storage().get_all_studies()) if _is_there() else []


def study_records(root_id: str) -> list[Record]:
    """The studies of a root run with all their trials, as JSON can hold them."""
    if not _is_there():
        return []
    storage = _storage()
    return [
        {
            "name": study.study_name,
            "direction": study.directions[0].name.lower(),
            "attributes": storage.get_study_user_attrs(study._study_id),
            "trials": [_of_trial(trial) for trial in storage.get_all_trials(study._study_id, deepcopy=False)],
        }
        for study in storage.get_all_studies()
        if study.study_name.startswith(root_id)
    ]


def put_studies(records: Sequence[Record]) -> None:
    """Add studies that are not there as they are recorded; half of one, which was left on the way, is replaced."""
    there = {name for name in study_names()} if records else set()
    for record in records:
        if record["name"] in there:
            if _same(record):
                continue
            delete_studies([record["name"]])
        study = optuna.create_study(storage=_storage(), study_name=record["name"], direction=record["direction"])
        for name, value in record["attributes"].items():
            study.set_user_attr(name, value)
        study.add_trials([_to_trial(trial) for trial in record["trials"]])


def check_study(record: StudyRecord) -> StudyRecord:
    """The record; raises a ValueError, which names the trial, where Optuna would not take it."""
    for number, trial in enumerate(record["trials"]):
        try:
            _to_trial(cast(Record, trial))._validate()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{record['name']}: trial {number}: {reason_of(error)}") from None
    return record


def delete_studies(names: Sequence[str]) -> None:
    """Remove studies and their trials, those that are there."""
    there = {study.study_name: study._study_id for study in _storage().get_all_studies()} if _is_there() else {}
    for name in names:
        if name in there:
            _storage().delete_study(there[name])


def is_own() -> bool:
    """Whether the studies are in the project's own database, where nobody else's are."""
    return storage_url() == f"sqlite:///{state_folder() / 'optuna.db'}"


def _is_there() -> bool:
    return not is_own() or (state_folder() / "optuna.db").exists()


def _storage() -> RDBStorage:
    try:
        return connect()
    except Exception as error:  # each database has errors of its own
        raise UserError(f"studies at {storage_url()} cannot be used: {str(error).splitlines()[0]}") from None


def _same(record: Record) -> bool:
    return json.dumps(study_records(record["name"])) == json.dumps([record])


def _of_trial(trial: FrozenTrial) -> Record:
    return {
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {name: distribution_to_json(kind) for name, kind in trial.distributions.items()},
        "reported": sorted(trial.intermediate_values.items()),
        "attributes": trial.user_attrs,
        "system": trial.system_attrs,
        "times": [time and time.isoformat() for time in (trial.datetime_start, trial.datetime_complete)],
    }


def _to_trial(record: Record) -> FrozenTrial:
    start, end = (time and datetime.fromisoformat(time) for time in record["times"])
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState[record["state"]],
        value=None,
        values=record["values"],
        datetime_start=start,
        datetime_complete=end,
        params=record["params"],
        distributions={name: json_to_distribution(kind) for name, kind in record["distributions"].items()},
        user_attrs=record["attributes"],
        system_attrs=record["system"],
        intermediate_values={int(step): value for step, value in record["reported"]},
    )
