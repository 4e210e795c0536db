"""Trees of runs, as MLflow's client reads them; a server of MLflow gives ids of its own, and marks what is deleted."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, ViewType

from common.cli import UserError
from common.results.trees import (
    ADDING,
    DELETING,
    ORIGIN,
    ROOT,
    KeptModel,
    KeptRun,
    Line,
    RootRun,
    Tree,
    Trees,
    datasets_of,
    in_order,
    kept_model,
    plain_dataset,
    with_ids,
)
from common.tracking.runs import PARENT

AT_ONCE = 1000
"""Metrics, and runs, in one request."""
NEWEST = ["attributes.start_time DESC"]


class ServerTrees(Trees):
    """See :class:`Trees`."""

    def _search(self, which: str, experiments: Sequence[str], kind: int = ViewType.ACTIVE_ONLY) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(list(experiments), which, kind, AT_ONCE, NEWEST, token)
            found += page
            if not (token := page.token):
                return found

    def roots(self, level: str = ROOT, all_params: bool = False) -> list[RootRun]:
        names = {experiment.experiment_id: experiment.name for experiment in self.client.search_experiments()}
        roots = {
            run.info.run_id: RootRun(
                *(run.info.run_id, names[run.info.experiment_id], run.info.status, run.info.start_time),
                *(run.info.end_time, run.data.tags, run.data.params, run.data.metrics),
            )
            for run in self._search(f"tags.run_level = '{level}'", list(names))
        }
        if level != ROOT:
            return list(roots.values())
        fits = "tags.phase = 'fine-tuning' and attributes.status = 'FINISHED'"
        for run in self._search(fits, list(names)):
            if (root_id := run.data.tags.get("root_run_id")) in roots:
                roots[root_id].fits += 1
        for run in self._search("tags.run_level = 'reproduction'", list(names))[::-1]:
            if (root_id := run.data.tags.get("root_run_id")) in roots and "verdict" in run.data.tags:
                roots[root_id].verdicts.append(run.data.tags["verdict"])
        return list(roots.values())

    def members(self) -> dict[str, str]:
        everywhere = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self._search("attributes.start_time > 0", everywhere, ViewType.ALL)
        roots = {run.info.run_id for run in found if run.data.tags.get("run_level") in (ROOT, ADDING, DELETING)}
        of = {run.info.run_id: run.data.tags.get("root_run_id", "") for run in found}
        return of | {run_id: run_id for run_id in roots}

    def below(self, root_id: str) -> tuple[list[str], list[str]]:
        runs = self._runs(root_id, ViewType.ALL)
        return [run.info.run_id for run in runs], [model.model_id for model in self._models(runs)]

    def _runs(self, root_id: str, kind: int = ViewType.ACTIVE_ONLY) -> list[Any]:
        """The runs of a tree, the root first."""
        root = self.client.get_run(root_id)
        experiment = [root.info.experiment_id]
        found = {run.info.run_id: run for run in self._search(f"tags.root_run_id = '{root_id}'", experiment, kind)}
        level = [root_id]
        while level:  # runs of an earlier version may only say what is above them
            below = [run for each in level for run in self._search(f"tags.`{PARENT}` = '{each}'", experiment, kind)]
            level = [run.info.run_id for run in below if run.info.run_id not in found]
            found |= {run.info.run_id: run for run in below}
        return [root, *(run for run_id, run in found.items() if run_id != root_id)]

    def _models(self, runs: Sequence[Any]) -> list[Any]:
        """Those that are not marked as deleted."""
        ids = {output.model_id for run in runs for output in _outputs(run)}
        found = []
        for model_id in sorted(ids):
            try:
                found.append(self.client.get_logged_model(model_id))
            except UserError as error:
                if "not found" not in str(error):
                    raise
        return found

    def _histories(self, runs: Sequence[Any]) -> dict[str, list[Line]]:
        wanted = [(run.info.run_id, name) for run in runs for name in run.data.metrics]
        with ThreadPoolExecutor(8) as pool:
            histories = list(pool.map(lambda one: self.client.get_metric_history(*one), wanted))
        lines: dict[str, list[Line]] = defaultdict(list)
        for (run_id, _), history in zip(wanted, histories, strict=True):
            lines[run_id] += [(each.key, each.value, each.timestamp, each.step) for each in history]
        return lines

    def tree(self, root_id: str) -> Tree:
        found = self._runs(root_id)
        lines, models = self._histories(found), self._models(found)
        known = {model.model_id for model in models}
        runs = [
            KeptRun(
                *(run.info.run_id, run.info.run_name, run.info.user_id, run.info.status),
                *(run.info.start_time, run.info.end_time, dict(run.data.tags), dict(run.data.params)),
                sorted(lines.get(run.info.run_id, ()), key=lambda line: (line[2], line[3], line[0], str(line[1]))),
                [plain_dataset(each) for each in (run.inputs.dataset_inputs if run.inputs else ())],
                [(each.model_id, each.step) for each in _outputs(run) if each.model_id in known],
            )
            for run in found
        ]
        experiment = self.client.get_experiment(found[0].info.experiment_id).name
        return Tree(experiment, in_order(runs, root_id), [kept_model(model) for model in models])

    def free(self, ids: Iterable[str]) -> set[str]:
        return set()

    def add(self, tree: Tree, experiment_id: str) -> dict[str, str]:
        new: dict[str, str] = {}
        for run in tree.runs:
            tags = {key: with_ids(value, new) for key, value in run.tags.items()}
            tags[ORIGIN] = run.tags.get(ORIGIN, run.run_id)
            made = self.client.create_run(experiment_id, start_time=run.start, tags=tags, run_name=run.name)
            new[run.run_id] = made.info.run_id
        for run in tree.runs:
            run_id = new[run.run_id]
            self._in_batches(run_id, "params", [Param(*item) for item in run.params.items()], 100)
            self._in_batches(run_id, "metrics", [Metric(*line) for line in run.metrics], AT_ONCE)
            if run.inputs:
                self.client.log_inputs(run_id, datasets=datasets_of(run))
        self._delete_doubles(experiment_id, tree, set(new.values()))
        for model in tree.models:
            new[model.model_id.removeprefix("m-")] = self._add_model(model, experiment_id, new).removeprefix("m-")
        for run in tree.runs:
            if run.outputs:
                outputs = [LoggedModelOutput(with_ids(model_id, new), step) for model_id, step in run.outputs]
                self.client.log_outputs(new[run.run_id], outputs)
            if run.status != "RUNNING":
                self.client.set_terminated(new[run.run_id], run.status, run.end)
        return new

    def _delete_doubles(self, experiment_id: str, tree: Tree, kept: set[str]) -> None:
        """Delete runs that the server made twice: MLflow's client repeats a request whose answer was lost."""
        for run in tree.runs:
            origin = run.tags.get(ORIGIN, run.run_id)
            level = run.tags.get("run_level", "")
            for found in self._search(f"tags.{ORIGIN} = '{origin}'", [experiment_id]):
                if found.info.run_id not in kept and found.data.tags.get("run_level", "") == level != ROOT:
                    self.client.delete_run(found.info.run_id)

    def _in_batches(self, run_id: str, what: str, entities: Sequence[Any], size: int) -> None:
        for start in range(0, len(entities), size):
            self.client.log_batch(run_id, **{what: entities[start : start + size]})

    def _add_model(self, model: KeptModel, experiment_id: str, new: dict[str, str]) -> str:
        made = self.client.create_logged_model(
            experiment_id,
            model.name,
            new[model.run_id],
            {key: with_ids(value, new) for key, value in model.tags.items()},
            model.params,
            model.kind,
        )
        if model.status in ("READY", "FAILED"):
            self.client.finalize_logged_model(made.model_id, LoggedModelStatus(model.status))
        return made.model_id

    def remove(self, run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
        for delete, ids in ((self.client.delete_logged_model, model_ids), (self.client.delete_run, run_ids)):
            for each in ids:
                with contextlib.suppress(UserError):  # it is marked already
                    partial(delete, each)()


def _outputs(run: Any) -> Sequence[Any]:
    """The models that a run logged."""
    return run.outputs.model_outputs if run.outputs else ()
