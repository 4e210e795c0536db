"""Runs a step's script on tiny pictures, away from the project's state, and sees which images it reads, and when."""

import ast
import importlib.util
import inspect
import shutil
import sys
import time
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

import common.data.cache
import common.data.images
import common.data.sources
import common.data.splits
import common.tracking.outbox
import common.tracking.runs
from common import cli, training
from common.search import studies  # noqa: F401  imported before PROJECT is another one for a while
from common.seeds import Stream
from common.training import engine
from conftest import PROJECT, make_tiny_pets

READERS = {"train_one_epoch": "train", "validate_one_epoch": "dev", "test_model": "predict"}
"""Functions of the engine through which a network sees images, and what for."""


@dataclass
class Reading:
    """A network, known by its head, has read images."""

    use: str
    network: object
    files: list[str]
    time: float
    stream: str
    """What training draws from; nothing where nothing is drawn."""
    weights: bytes
    """Of the head, before."""


@dataclass
class Outcome:
    """What one call of `main` left."""

    returned: object
    readings: list[Reading]
    folder: Path
    client: MlflowClient

    @cached_property
    def tree(self):
        """The MLflow runs of the call by run id, the root first."""
        if self.returned["run_id"] is None:
            return {}
        root = self.client.get_run(self.returned["run_id"])
        found = self.client.search_runs([root.info.experiment_id], order_by=["attributes.start_time"], max_results=9999)
        tree = {root.info.run_id: root}
        for _ in range(5):  # levels
            tree |= {run.info.run_id: run for run in found if run.data.tags.get("mlflow.parentRunId") in tree}
        return tree

    def artifacts(self, run):
        """The files of a run by their name."""
        root = Path(run.info.artifact_uri.removeprefix("file://"))
        return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}

    @cached_property
    def predictions(self):
        return self._table("predictions.csv")

    @cached_property
    def results(self):
        return self._table("results.csv")

    def _table(self, name):
        if self.returned["run_id"] is None:
            found = dict.fromkeys([name], next(iter(sorted(self.folder.rglob(name))), None))
        else:
            found = self.artifacts(self.tree[self.returned["run_id"]])
        if found.get(name) is None:
            hint = f'Store the table in the root run while it is open: run.table(…, "{name}").'
            own = "" if self.returned["run_id"] is None else f"\nHint: {hint}"
            pytest.fail(f"the run left no {name}{own}", pytrace=False)
        return pd.read_csv(found[name])

    @cached_property
    def searches(self):
        """For each root split: when its run started, and when its last trial ended (ms)."""
        roots = {key: run for key, run in self.tree.items() if run.data.tags.get("run_level") == "root_split"}
        ends = {}
        for run in self.tree.values():
            parent = roots.get(run.data.tags.get("mlflow.parentRunId"))
            if parent and run.data.tags.get("run_level") == "trial":
                split = int(parent.data.tags["root_split"])
                ends[split] = (parent.info.start_time, max(run.info.end_time, ends.get(split, (0, 0))[1]))
        return ends

    @cached_property
    def after_search(self):
        """The readings that were not made in a search; of several models of a config, those of the last."""
        spans = self.searches.values()
        begun = min((start for start, _ in spans), default=0)
        return [r for r in self.readings if r.time >= begun and not any(start <= r.time < end for start, end in spans)]

    @cached_property
    def models(self):
        """The tested models: (where, their rows of the predictions table, the network that made them)."""
        found = []
        for (root, inner), rows in self.predictions.groupby(["root_split", "inner_split"]):
            where = f"root split {root}, inner split {inner}"
            dev, test = (set(rows.file[rows.part == part]) for part in ("dev", "test"))
            readings = [r for r in self.after_search if r.use == "predict" and test & set(r.files)]
            if not readings:
                lacking = "no test image was predicted with training.test_model, so what the model read cannot be told"
                pytest.fail(f"{where}: {lacking}", pytrace=False)
            network = max((r.network for r in readings), key=partial(self._agreement, dev, test))
            found.append((where, rows, network))
        return found

    @cached_property
    def stored(self):
        """The files ``model.safetensors`` by root split and inner split of their runs, texts; None of the root run."""
        found = {}
        for run in self.tree.values():
            if file := self.artifacts(run).get("model.safetensors"):
                found[run.data.tags.get("root_split"), run.data.tags.get("inner_split")] = file
        return found

    def _agreement(self, dev, test, network):
        seen, read = self.files_of(network, "dev"), self.files_of(network, "predict")
        return len(test & read) + len(dev & read) + len(dev & seen)

    def files_of(self, network, *uses):
        return {file for r in self.readings if r.network is network and r.use in uses for file in r.files}

    def weights_of(self, network):
        """The weights of a network's head as it read for the first time, and for the last."""
        found = [r.weights for r in self.readings if r.network is network]
        return found[0], found[-1]

    def streams_of(self, network):
        return {r.stream for r in self.readings if r.network is network and r.use == "train"}


class StepRuns:
    """The runs of one step's folder; `state` is a folder that all share, `project` one of its own."""

    def __init__(self, folder, step, state, project):
        self.step, self.state, self.project = step, state, project
        self.folder = project / folder.name
        shutil.copytree(folder, self.folder, ignore=shutil.ignore_patterns("outputs", "__pycache__", "*.ipynb"))
        self.client = None
        self._readings, self._halve, self._module = [], False, None
        self._watched = {name: self._watch(use, getattr(engine, name)) for name, use in READERS.items()}

    @cached_property
    def first(self):
        """The first call, or the error that ended it."""
        try:
            return self.run(seed=1)
        except (Exception, SystemExit) as error:
            return error

    @cached_property
    def second(self):
        """A call with the first one's seed, and what it changed of what was there before."""
        first = self.first
        before = self._traces(first)
        second = self.run(seed=1)
        after = self._traces(first)
        return second, [name for name in before if after.get(name) != before[name]]

    @cached_property
    def other_seed(self):
        """A call with another seed, for one model only."""
        return self.run(seed=2, folds=1)

    @cached_property
    def halved(self):
        """A call with the first one's seed, in which every probability but those of dev images is half as high."""
        self._halve = True
        try:
            return self.run(seed=1)
        finally:
            self._halve = False

    def run(self, seed, folds=2):
        flags = ["--data", self.state / "contract_pets", "--backbone", "small_cnn", "--weights", "DEFAULT", "--fast"]
        flags += ["--device", "cpu", "--seed", seed]
        if self.step >= 3:
            flags += ["--root-splits", folds, "--inner-splits", folds, "--n-jobs", 1]
        if self.step >= 4:
            flags += ["--n-trials", folds]
        if self.step >= 5:
            own = self.folder / "config.py"
            flags.append(own if own.exists() else PROJECT / "step_5" / "config.py")
        self._readings = []
        with pytest.MonkeyPatch.context() as patch:
            self._isolate(patch)
            if self._module is None:
                self._module = self._load()
            returned = self._module.main([str(flag) for flag in flags])
            if self.client is None:
                self.client = MlflowClient(f"sqlite:///{self.state / 'mlflow.db'}")
        return Outcome(returned, self._readings, self.folder.parent, self.client)

    def _isolate(self, patch):
        """State goes to the test's folders, and the engine tells what it reads."""
        patch.chdir(self.project)
        patch.setattr(cli, "PROJECT", self.project)
        keep_data_in(self.state, patch)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.state / 'mlflow.db'}")
        patch.setenv("OPTUNA_STORAGE", f"sqlite:///{self.state / 'optuna.db'}")
        patch.delenv("REPROAI_NETWORKS", raising=False)
        if self.step >= 4:
            patch.setattr("common.plots.visualizer.MOST", 1)  # of a search, plots would take as long as all else
        patch.syspath_prepend(str(self.folder))
        for name, watched in self._watched.items():
            patch.setattr(training, name, watched)
            patch.setattr(engine, name, watched)

    def _load(self):
        name = f"contract_{self.folder.name}_train"
        spec = importlib.util.spec_from_file_location(name, self.folder / "train.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    def _watch(self, use, function):
        signature = inspect.signature(function)

        @wraps(function)
        def watched(*args, **kwargs):
            given = signature.bind(*args, **kwargs).arguments
            network, table = given["network"].head, given["table"]
            files = [table.files[row] for row in given["rows"]]
            read = Reading(use, network, files, time.time() * 1000, str(given.get("stream", "")), head_weights(network))
            self._readings.append(read)
            result = function(*args, **kwargs)
            if use == "predict" and self._halve:
                dev = {f for r in self._readings if r.use == "dev" and r.network is network for f in r.files}
                result = [p if file in dev else p / 2 for p, file in zip(result, files, strict=True)]
                result = pd.array(result, "float64").to_numpy()
            return result

        return watched

    def _traces(self, outcome):
        """What is there of a run, and of files in the project: content and time of writing, by a name for people."""
        files = {str(path.relative_to(self.project)): path for path in self.project.rglob("*") if path.is_file()}
        found = {}
        for run_id in outcome.tree:
            run = self.client.get_run(run_id)
            name = f"run {run.info.run_name} ({run_id})"
            found[name] = repr(run.to_dictionary())
            files |= {f"{artifact} of {name}": path for artifact, path in outcome.artifacts(run).items()}
        kept = {name: path for name, path in files.items() if "__pycache__" not in path.parts}
        return found | {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in kept.items()}


def head_weights(head):
    return b"".join(weights.detach().float().cpu().numpy().tobytes() for weights in head.parameters())


def make_state(state):
    """40 pictures of 20 animals, and their splits."""
    pets = make_tiny_pets(state / "contract_pets", n_per_class=20)
    files = sorted(path.name for path in (pets / "images").iterdir())
    groups = [f"images/{f},{f.split('_')[0]} {(int(Path(f).stem.split('_')[1]) + 1) // 2}" for f in files]
    (pets / "groups.csv").write_text("\n".join(["files,group", *groups, ""]))
    with pytest.MonkeyPatch.context() as patch:
        keep_data_in(state, patch)
        table = common.data.sources.load_images(str(pets), 32)
        splits = common.data.splits.make_splits(table, Stream(0), root_folds=2, nested_folds=2)
        common.data.splits.save_splits(splits, common.data.splits.splits_file(table))
    return table


def keep_data_in(state, patch):
    patch.setenv("REPROAI_STATE", str(state))


def step_of(script):
    """The N of `train_parser(__doc__, step=N)` in a script."""
    try:
        calls = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call)]
    except (SyntaxError, UnicodeDecodeError) as error:
        pytest.fail(f"{script}: not a Python file ({error})", pytrace=False)
    for call in calls:
        if getattr(call.func, "attr", getattr(call.func, "id", "")) == "train_parser":
            for given in [keyword.value for keyword in call.keywords if keyword.arg == "step"] + call.args[1:2]:
                if isinstance(given, ast.Constant) and isinstance(given.value, int):
                    return given.value
    pytest.fail(f"{script}: no train_parser(__doc__, step=N) in it; say which step it is with --step N", pytrace=False)
