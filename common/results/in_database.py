"""Trees of runs in an SQLite or PostgreSQL database of MLflow, where ids can be given and rows deleted for good."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sql
from mlflow.entities import LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common.results.database_rows import latest_rows, metric_row, model_rows, output_rows, run_row
from common.results.on_server import ServerTrees
from common.results.trees import ADDING, DELETING, MARKED, ROOT, Line, RootRun, Tree, datasets_of, line_key
from common.tracking.store import one_line

rows: Any = models
AT_ONCE = 500
"""Ids in one query: every database takes so many."""
PARAMS = ("data_name", "data_fingerprint", "data_version", "backbone", "git_commit", "git_dirty")


class DatabaseTrees(ServerTrees):
    """See :class:`Trees`; lists and histories are read in few queries."""

    def __init__(self, uri: str, store: SqlAlchemyStore):
        super().__init__(uri)
        self.store = store

    @contextmanager
    def _session(self, write: bool = False) -> Iterator[Session]:
        try:
            with self.store.ManagedSessionMaker(read_only=not write) as session:
                yield session
        except (SQLAlchemyError, MlflowException) as error:
            raise one_line(self.uri, error) from None

    def roots(self, level: str = ROOT, all_params: bool = False) -> list[RootRun]:
        run, tag = rows.SqlRun, rows.SqlTag
        stage = LifecycleStage.DELETED if level == MARKED else LifecycleStage.ACTIVE
        level = ROOT if level == MARKED else level
        is_root = sql.select(tag.run_uuid).where(tag.key == "run_level", tag.value == level)
        columns = (run.run_uuid, rows.SqlExperiment.name, run.status, run.start_time, run.end_time)
        joined = sql.select(*columns).join(rows.SqlExperiment, run.experiment_id == rows.SqlExperiment.experiment_id)
        which = (run.run_uuid.in_(is_root), run.lifecycle_stage == stage)
        with self._session() as session:
            found = session.execute(joined.where(*which).order_by(run.start_time.desc()))
            roots = {row[0]: RootRun(*row) for row in found}
            for kind, where, into in (
                (tag, tag.key.not_like("mlflow.%"), "tags"),
                (rows.SqlParam, sql.true() if all_params else rows.SqlParam.key.in_(PARAMS), "params"),
                (rows.SqlLatestMetric, rows.SqlLatestMetric.is_nan.is_(False), "metrics"),
            ):
                of_roots = sql.select(kind.run_uuid, kind.key, kind.value).where(kind.run_uuid.in_(is_root), where)
                for run_id, key, value in session.execute(of_roots):
                    if run_id in roots:
                        getattr(roots[run_id], into)[key] = value
            self._count(session, roots)
        return list(roots.values())

    def _count(self, session: Session, roots: dict[str, RootRun]) -> None:
        """Fits and verdicts below the roots."""
        of, what, run = sql.orm.aliased(rows.SqlTag), sql.orm.aliased(rows.SqlTag), rows.SqlRun
        below = sql.select(of.value, what.value).join(what, of.run_uuid == what.run_uuid)
        below = below.join(run, run.run_uuid == of.run_uuid).where(of.key == "root_run_id")
        fits = below.where(what.key == "phase", what.value == "fine-tuning", run.status == "FINISHED").subquery()
        for root_id, count in session.execute(sql.select(fits.c[0], sql.func.count()).group_by(fits.c[0])):
            if root_id in roots:
                roots[root_id].fits = count
        for root_id, verdict in session.execute(below.where(what.key == "verdict").order_by(run.start_time)):
            if root_id in roots:
                roots[root_id].verdicts.append(verdict)

    def members(self) -> dict[str, str]:
        tag = rows.SqlTag
        with self._session() as session:
            found = dict.fromkeys(session.scalars(sql.select(rows.SqlRun.run_uuid)), "")
            found |= dict(session.execute(sql.select(tag.run_uuid, tag.value).where(tag.key == "root_run_id")).all())
            is_root = sql.select(tag.run_uuid).where(tag.key == "run_level", tag.value.in_((ROOT, ADDING, DELETING)))
            found |= {run_id: run_id for run_id in session.scalars(is_root)}
            model = rows.SqlLoggedModel
            of = session.execute(sql.select(model.model_id, model.source_run_id)).all()
            return found | {model_id: found.get(run_id or "", "") for model_id, run_id in of}

    def below(self, root_id: str) -> tuple[list[str], list[str]]:
        runs = self._runs(root_id, ViewType.ALL)
        return [run.info.run_id for run in runs], [model.model_id for model in self._models(runs, deleted=True)]

    def model_files(self, model_id: str) -> ArtifactRepository:
        found = self.store.get_logged_model(model_id, allow_deleted=True)
        return get_artifact_repository(found.artifact_location, self.uri)

    def _models(self, runs: Sequence[Any], deleted: bool = False) -> list[Any]:
        """Those of runs too whose rows that name them are gone; also those marked as deleted, if they are asked for."""
        model, ids = rows.SqlLoggedModel, [run.info.run_id for run in runs]
        with self._session() as session:
            found = [
                m
                for some in in_parts(ids)
                for m in session.scalars(sql.select(model).where(model.source_run_id.in_(some)))
                if deleted or m.lifecycle_stage == LifecycleStage.ACTIVE
            ]
            return sorted((each.to_mlflow_entity() for each in found), key=lambda each: each.model_id)

    def _histories(self, runs: Sequence[Any]) -> dict[str, list[Line]]:
        metric, lines = rows.SqlMetric, defaultdict(list)
        with self._session() as session:
            for some in in_parts([run.info.run_id for run in runs]):
                for line in session.scalars(sql.select(metric).where(metric.run_uuid.in_(some))):
                    value = math.nan if line.is_nan else line.value
                    lines[line.run_uuid].append((line.key, value, line.timestamp, line.step))
        return lines

    def free(self, ids: Iterable[str]) -> set[str]:
        ids = set(ids)
        with self._session() as session:
            for some in in_parts(sorted(ids)):
                ids -= {*session.scalars(sql.select(rows.SqlRun.run_uuid).where(rows.SqlRun.run_uuid.in_(some)))}
                model = rows.SqlLoggedModel.model_id
                taken = session.scalars(sql.select(model).where(model.in_([f"m-{each}" for each in some])))
                ids -= {each.removeprefix("m-") for each in taken}
        return ids

    def add(self, tree: Tree, experiment_id: str) -> dict[str, str]:
        place = self.client.get_experiment(experiment_id).artifact_location
        number = int(experiment_id)
        with self._session(write=True) as session:
            session.execute(sql.insert(rows.SqlRun), [run_row(run, number, place) for run in tree.runs])
            for kind, pairs in (
                (rows.SqlTag, [(r.run_id, *item) for r in tree.runs for item in r.tags.items()]),
                (rows.SqlParam, [(r.run_id, *item) for r in tree.runs for item in r.params.items()]),
            ):
                found = [dict(zip(("run_uuid", "key", "value"), line, strict=True)) for line in pairs]
                if found:
                    session.execute(sql.insert(kind), found)
            for run in tree.runs:
                lines = [metric_row(run.run_id, *line) for line in dict.fromkeys(map(line_key, run.metrics))]
                if lines:
                    session.execute(sql.insert(rows.SqlMetric), lines)
                    session.execute(sql.insert(rows.SqlLatestMetric), latest_rows(lines))
            for model in tree.models:
                session.add_all(model_rows(model, number, place))
            for run in tree.runs:
                session.add_all(output_rows(run))
        for run in tree.runs:
            if run.inputs:
                self.store.log_inputs(run.run_id, datasets_of(run))
        return {}

    def remove(self, run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
        its, dataset = rows.SqlInput, rows.SqlDataset
        with self._session(write=True) as session:
            for some in in_parts([*run_ids, *model_ids]):
                which = sql.or_(its.source_id.in_(some), its.destination_id.in_(some))
                found = session.scalars(sql.select(its).where(which)).all()
                sources = [each.source_id for each in found]
                inputs = [each.input_uuid for each in found]
                session.execute(sql.delete(rows.SqlInputTag).where(rows.SqlInputTag.input_uuid.in_(inputs)))
                session.execute(sql.delete(its).where(its.input_uuid.in_(inputs)))
                used = sql.select(its.source_id).where(its.source_type == "DATASET")
                unused = (dataset.dataset_uuid.in_(sources), dataset.dataset_uuid.not_in(used))
                session.execute(sql.delete(dataset).where(*unused))
        with self._session() as session:
            there = {*session.scalars(sql.select(rows.SqlLoggedModel.model_id))} & {*model_ids}
        for model_id in there:
            self.store._hard_delete_logged_model(model_id)
        gone = self.free(run_ids)
        for run_id in (run_id for run_id in run_ids if run_id not in gone):
            self.store._hard_delete_run(run_id)


def in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids, so many at once as every database takes."""
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
