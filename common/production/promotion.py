"""Versions of a registered model: the best one of its data, by its nested test score, is in production."""

from __future__ import annotations

import contextlib
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from common.cli import MODEL_NAME, UserError, reason_of
from common.state import locked, work_folder
from common.tracking.store import open_tracking

STAGE, PRODUCTION, ARCHIVED, ALIAS, SCORE = "stage", "Production", "Archived", "production", "test_mcc"
LINE = "data_line"
"""Versions with the same tag can be compared: see :mod:`common.production.scope`."""
Scope = Callable[[MlflowClient], tuple[dict[str, str], str | None]]


def create_version(
    uri: str,
    name: str,
    source: str,
    tags: Mapping[str, str],
    run_id: str | None = None,
    model_id: str | None = None,
    scope: Scope | None = None,
) -> int:
    """Make a version of a registered model, and put it into production if it is the best that can be compared.

    Readers follow the alias, which moves from one version to the next at once; the tags follow it. What a process that
    was killed has left undone is done by the next call, from anywhere.

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
    scope : callable, optional
        Given the registry, it gives more tags, among them ``data_line``, and why the version cannot be compared with
        the one in production, which becomes its description; its errors come before there is a version.
    """
    check_name(name)
    alone = locked(work_folder("registry"))  # on this machine; clients of a server try again
    with registry_at(uri) as registry, alone:
        more, reason = scope(registry) if scope else ({}, None)
        with contextlib.suppress(MlflowException):  # there is one already
            registry.create_registered_model(name)
        tags = {**tags, **more, STAGE: ARCHIVED}
        description = reason and f"Not in production by itself: {reason}."
        made = registry.create_model_version(name, source, run_id, tags, None, description, model_id=model_id)
        _settle(registry, name)
    return int(made.version)


def production_version(name: str) -> int:
    """The version of a registered model that is in production.

    Raises
    ------
    UserError
        When there is no such model, or none of its versions is in production.
    """
    with registry_at(open_tracking()) as registry:
        version = registered_model(registry, name).aliases.get(ALIAS)
    if version is None:
        raise UserError(f"model {name}: no version is in production, as none has a {SCORE}")
    return int(version)


def standing(name: str, version: int) -> str:
    """Whether that version of a registered model is in production, and if not, why."""
    with registry_at(open_tracking()) as registry:
        alias = registered_model(registry, name).aliases.get(ALIAS)
        if alias is not None and int(alias) == version:
            return "in production"
        reason = registry.get_model_version(name, str(version)).description
        if alias is None or reason:
            return f"archived. {reason}" if reason else f"archived: it has no {SCORE}"
        return f"archived: version {alias} has the better {SCORE}"


def _settle(registry: MlflowClient, name: str) -> None:
    """Put the best version into production, again and again until that is so: other machines do the same."""
    tries = 10
    while overdue := _overdue(registry, name):
        try:
            for change in overdue:
                change()
        except MlflowException:  # a server refuses one of two clients that change the same thing
            if (tries := tries - 1) == 0:
                raise
            time.sleep(random.random() / 5)


def _overdue(registry: MlflowClient, name: str) -> list[Callable[[], object]]:
    """What is to do for the best version, and it alone, to be in production: the alias first, which readers follow.

    It is chosen among those of the line of data in production; if none of these has a score, of the oldest that has.
    """
    stages, scores, lines = {}, {}, {}
    for found in versions_of(registry, name):
        number = int(found.version)
        stages[number], lines[number] = found.tags.get(STAGE), found.tags.get(LINE)
        with contextlib.suppress(ValueError, KeyError):
            if math.isfinite(score := float(found.tags[SCORE])):
                scores[number] = score
    alias = registry.get_registered_model(name).aliases.get(ALIAS)
    of_line = [number for number in scores if alias is not None and lines[number] == lines.get(int(alias))]
    of_line = of_line or [number for number in scores if lines[number] == lines[min(scores)]]
    best = max(of_line, key=lambda number: (scores[number], -number), default=None)
    todo: list[Callable[[], object]] = []
    if best is None and alias is not None:
        todo.append(partial(registry.delete_registered_model_alias, name, ALIAS))
    elif best is not None and (alias is None or int(alias) != best):
        todo.append(partial(registry.set_registered_model_alias, name, ALIAS, str(best)))
    for number in sorted(stages, key=lambda number: number == best):  # the best last: never are there two
        stage = PRODUCTION if number == best else ARCHIVED
        if stages[number] != stage:
            todo.append(partial(registry.set_model_version_tag, name, str(number), STAGE, stage))
    return todo


@contextlib.contextmanager
def registry_at(uri: str) -> Iterator[MlflowClient]:
    """MLflow's registry at an address; its errors are one line."""
    with one_line_errors(uri):
        yield MlflowClient(uri)


@contextlib.contextmanager
def one_line_errors(uri: str) -> Iterator[None]:
    """MLflow's errors, and those of the network and the disk, as a UserError."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise UserError(f"tracking at {uri}: {reason_of(error)}") from None


def versions_of(registry: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model."""
    found, token = [], None
    while True:
        page = registry.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += page
        if not (token := page.token):
            return found


def registered_model(registry: MlflowClient, name: str) -> RegisteredModel:
    """A registered model; a UserError names those there are when there is none of this name."""
    check_name(name)
    try:
        return registry.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    names = ", ".join(sorted(model.name for model in registry.search_registered_models())) or "none"
    raise UserError(f"model {name}: not in the registry; registered are: {names}")


def check_name(name: str) -> None:
    """Refuse a name that could not stand in ``models:/NAME@production``."""
    if not re.fullmatch(MODEL_NAME, name, re.ASCII):
        raise UserError(f"model {name!r:.80}: expected up to 250 letters, digits, '_' and '-'")
