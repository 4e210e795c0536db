"""Versions of a registered model, of which one is in production: a better one, or one for which a reason is given.

Each version is decided upon once, in the order of their numbers, against the one in production at that moment: see
:mod:`common.production.deciding`. The tag ``promotion`` says how it was decided. All else follows from these tags.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from common.cli import MODEL_NAME, UserError
from common.locks import locked
from common.production.deciding import REASON, RULE, SCORE, decide
from common.state import work_folder
from common.tracking.store import open_tracking, why

STAGE, PRODUCTION, ARCHIVED, ALIAS = "stage", "Production", "Archived", "production"
DECISION, OPEN, PROMOTED = "promotion", "not decided yet", re.compile(r"promotion (\d+): ")
"""A tag: how it was decided upon the version. Of the versions that were promoted the last one is in production."""


def create_version(
    uri: str,
    name: str,
    source: str,
    tags: Mapping[str, str],
    run_id: str | None = None,
    model_id: str | None = None,
    check: Callable[[MlflowClient], None] | None = None,
    rule: str = "paired",
    reason: str | None = None,
) -> int:
    """Make a version of a registered model, and decide whether it goes into production.

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
    check : callable, optional
        Given the registry; its errors come before there is a version.
    rule : {"paired", "highest"}
    reason : str, optional
        Why it goes into production, whatever its score.
    """
    check_name(name)
    alone = locked(work_folder("registry"))  # on this machine; clients of a server try again
    with registry_at(uri) as registry, alone:
        if check:
            check(registry)
        with contextlib.suppress(MlflowException):  # there is one already
            registry.create_registered_model(name)
        tags = {**tags, STAGE: ARCHIVED, DECISION: OPEN, RULE: rule, **({REASON: reason} if reason else {})}
        made = registry.create_model_version(name, source, run_id, tags, model_id=model_id)
        _settle(registry, name)
    return int(made.version)


def promote(name: str, version: int, reason: str) -> None:
    """Put a version into production for a reason, which its tags keep.

    Raises
    ------
    UserError
        When there is no such version.
    """
    with registry_at(open_tracking()) as registry, locked(work_folder("registry")):
        known = sorted(int(found.version) for found in versions_of(registry, registered_model(registry, name).name))
        if version not in known:
            raise UserError(
                f"model {name}: no version {version}; expected one of {', '.join(map(str, known)) or 'none'}"
            )
        registry.set_model_version_tag(name, str(version), REASON, reason)
        registry.set_model_version_tag(name, str(version), DECISION, OPEN)
        _settle(registry, name)


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
    """Whether that version of a registered model is in production, and why."""
    with registry_at(open_tracking()) as registry:
        alias = registered_model(registry, name).aliases.get(ALIAS)
        why = registry.get_model_version(name, str(version)).tags.get(DECISION, "")
    stage = "in production" if alias is not None and int(alias) == version else "archived"
    return f"{stage}: {PROMOTED.sub('', why)}"


def _settle(registry: MlflowClient, name: str) -> None:
    """Decide upon what is not decided yet and put that into production, until nothing is left: others do the same."""
    tries = 10
    while True:
        try:
            if not (overdue := _overdue(registry, name)):
                return
            for change in overdue:
                change()
        except MlflowException:  # a server refuses one of two clients that change the same thing
            if (tries := tries - 1) == 0:
                raise
            time.sleep(random.random() / 5)


def _overdue(registry: MlflowClient, name: str) -> list[Callable[[], object]]:
    """What is to do next: a decision; else the alias first, which readers follow, and then the tags."""
    versions = {int(found.version): found for found in versions_of(registry, name)}
    alias = registry.get_registered_model(name).aliases.get(ALIAS)
    promoted = {
        int(found[1]): number
        for number, version in versions.items()
        if (found := PROMOTED.match(version.tags.get(DECISION, "")))
    }
    champion = promoted[max(promoted)] if promoted else int(alias) if alias is not None else None
    for number in sorted(versions):
        if versions[number].tags.get(DECISION) == OPEN:
            scored = sum(version.tags.get(SCORE, "nan") != "nan" for version in versions.values())
            goes, why = decide(registry, versions[number], versions.get(champion or 0), scored)
            why = f"promotion {max(promoted, default=0) + 1}: {why}" if goes else why
            return [partial(registry.set_model_version_tag, name, str(number), DECISION, why)]
    todo: list[Callable[[], object]] = []
    if champion is not None and (alias is None or int(alias) != champion):
        todo.append(partial(registry.set_registered_model_alias, name, ALIAS, str(champion)))
    for number in sorted(versions, key=lambda number: number == champion):  # last: never are there two
        stage = PRODUCTION if number == champion else ARCHIVED
        if versions[number].tags.get(STAGE) != stage:
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
        raise UserError(f"tracking at {uri}: {why(error)}") from None


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
