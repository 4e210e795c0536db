"""Versions of a registered model: the best one, by its nested test score, is in production at every moment."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModel
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from common.cli import MODEL_NAME, UserError
from common.tracking.store import open_tracking, reason_of

STAGE, PRODUCTION, ARCHIVED, ALIAS, SCORE = "stage", "Production", "Archived", "production", "test_mcc"


def create_version(
    uri: str, name: str, source: str, tags: Mapping[str, str], run_id: str | None = None, model_id: str | None = None
) -> int:
    """Make a version of a registered model, and put it into production if it is the best.

    In a database this is one transaction: whoever reads finds either nothing of it or all. A tracking server takes one
    change after another; what a process that was killed has left undone is done by the next call, from anywhere.

    Parameters
    ----------
    uri : str
        The tracking store.
    source : str
        Where the model's files are, as MLflow has it.
    tags : mapping
        With ``test_mcc``: a number, as text.
    run_id, model_id : str, optional
        MLflow's ids of where it comes from.
    """
    check_name(name)
    tags = [ModelVersionTag(key, value) for key, value in {**tags, STAGE: ARCHIVED}.items()]
    with registry_at(uri, writes=True) as store:
        if _registered(store, name) is None:
            with contextlib.suppress(*[] if isinstance(store, SqlAlchemyStore) else [MlflowException]):
                store.create_registered_model(name)  # another client of a server may be first
        version = store.create_model_version(name, source, run_id, tags, model_id=model_id).version
        _settle(store, name)
    return int(version)


def production_version(name: str) -> int:
    """The version of a registered model that is in production.

    Raises
    ------
    UserError
        When there is no such model, or none of its versions is in production.
    """
    with registry_at(open_tracking()) as store:
        version = registered_model(store, name).aliases.get(ALIAS)
    if version is None:
        raise UserError(f"model {name}: no version is in production, as none has a {SCORE}")
    return int(version)


def is_production(name: str, version: int) -> bool:
    """Whether that version of a registered model is in production."""
    with registry_at(open_tracking()) as store:
        return int(registered_model(store, name).aliases.get(ALIAS) or 0) == version


def _settle(store, name: str) -> None:
    """Put the best version into production, again and again until that is so: on a server others do the same."""
    tries = 1 if isinstance(store, SqlAlchemyStore) else 10
    while overdue := _overdue(store, name):
        try:
            for change in overdue:
                change()
        except MlflowException:  # a server refuses one of two clients that change the same thing
            if (tries := tries - 1) == 0:
                raise
            time.sleep(random.random() / 5)


def _overdue(store, name: str) -> list[Callable[[], object]]:
    """What is to do for the best version, and it alone, to be in production: the alias first, which readers follow."""
    stages, scores = {}, {}
    for found in versions_of(store, name):
        number = int(found.version)
        stages[number] = found.tags.get(STAGE)
        with contextlib.suppress(ValueError, KeyError):
            if math.isfinite(score := float(found.tags[SCORE])):
                scores[number] = score
    best = max(scores, key=lambda number: (scores[number], -number), default=None)
    alias = store.get_registered_model(name).aliases.get(ALIAS)
    todo: list[Callable[[], object]] = []
    if best is None and alias is not None:
        todo.append(partial(store.delete_registered_model_alias, name, ALIAS))
    elif best is not None and (alias is None or int(alias) != best):
        todo.append(partial(store.set_registered_model_alias, name, ALIAS, best))
    for number in sorted(stages, key=lambda number: number == best):  # the best last: never are there two
        stage = PRODUCTION if number == best else ARCHIVED
        if stages[number] != stage:
            todo.append(partial(store.set_model_version_tag, name, number, ModelVersionTag(STAGE, stage)))
    return todo


@contextlib.contextmanager
def registry_at(uri: str, writes: bool = False) -> Iterator:
    """MLflow's registry at an address; where it is a database, `writes` are one transaction that excludes others."""
    with one_line_errors(uri):
        store = MlflowClient(uri)._get_registry_client().store
        if not (writes and isinstance(store, SqlAlchemyStore)):
            yield store
            return
        with store.ManagedSessionMaker(read_only=False) as session:
            # a write takes the lock, whether there is such a row or not, before anything is read
            table = SqlRegisteredModel.__table__
            session.execute(sqlalchemy.update(table).values(last_updated_time=table.c.last_updated_time))

            @contextlib.contextmanager
            def joined(read_only: bool = True) -> Iterator:
                yield session
                session.flush()
                session.expire_all()

            inside = copy.copy(store)
            inside.ManagedSessionMaker = joined
            yield inside


@contextlib.contextmanager
def one_line_errors(uri: str) -> Iterator[None]:
    """MLflow's errors, and those of the network and the disk, as a UserError."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise UserError(f"tracking at {uri}: {reason_of(error)}") from None


def versions_of(store, name: str) -> list:
    """All versions of a registered model, as MLflow's entities."""
    found, token = [], None
    while True:
        page = store.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += page
        if not (token := page.token):
            return found


def _registered(store, name: str):
    try:
        return store.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def registered_model(store, name: str):
    """A registered model, as MLflow's entity; a UserError names those there are when there is none of this name."""
    check_name(name)
    if (found := _registered(store, name)) is None:
        names = ", ".join(sorted(model.name for model in store.search_registered_models())) or "none"
        raise UserError(f"model {name}: not in the registry; registered are: {names}")
    return found


def check_name(name: str) -> None:
    """Refuse a name that could not stand in ``models:/NAME@production``."""
    if not re.fullmatch(MODEL_NAME, name, re.ASCII):
        raise UserError(f"model {name!r:.80}: expected up to 250 letters, digits, '_' and '-'")
