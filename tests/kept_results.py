"""Root runs as a search leaves them, made without training, in stores of their own; and all that a folder keeps."""

import dataclasses
import hashlib
import json
import math
import random
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import optuna
import pandas as pd
from mlflow import MlflowClient
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from common.results.opening import open_trees
from common.results.trees import KeptModel, KeptRun, Tree, with_ids
from common.search.kept import connect, study_records
from common.state import cache_folder, state_folder, work_folder
from common.tracking.runs import PARENT, Run
from common.tracking.store import open_store

START = 1_790_000_000_000
COLUMNS = "root_split,inner_split,n_train,n_dev,n_test,threshold,dev_roc_auc,test_roc_auc"
COLUMNS += ",test_balanced_accuracy,test_mcc,test_brier"
DEV, TEST = [0.1, 0.4, 0.35, 0.8], [(number * 7 % 20 + 6 * (number % 2)) / 26 for number in range(40)]


def make_run(seed=0, data="pets", fits=2, network=2000, model=False, study=True, score=0.9, **tags):
    """Add a finished root run with one outer fold, `fits` fits in it, artifacts, a study, and what is cached for it."""
    rng = random.Random(seed)
    root_id = uuid.UUID(int=rng.getrandbits(128)).hex
    runs = [_run(rng, root_id, "root", None, root_id, **tags)]
    runs[0].params |= {"data_name": data, "data_fingerprint": fingerprint_of(data), "backbone": "small_cnn"}
    runs[0].metrics += [(name, value, START + 9, 0) for name, value in _scores(score).items()]
    outer = _run(rng, root_id, "root_split", root_id, root_split="0")
    runs.append(outer)
    for inner in range(fits):
        fold = _run(rng, root_id, "fold", outer.run_id, root_split="0", inner_split=str(inner))
        phase = _run(rng, root_id, "phase", fold.run_id, root_split="0", inner_split=str(inner), phase="fine-tuning")
        phase.metrics += [("dev_loss", rng.random(), START + step, step) for step in range(3)]
        phase.metrics += [("dev_mcc", float("nan"), START + 3, 3)]
        runs += [fold, phase]
    models = [_model(rng, root_id)] if model else []
    if model:
        runs[0].outputs = [(models[0].model_id, 0)]
    tree = Tree("step_5", runs, models)
    trees = open_trees()
    trees.add(tree, open_store("step_5")[1])
    _put_artifacts(trees, tree, network)
    if study:
        _put_study(f"{root_id} root 0", fits)
    for name in (f"images-{fingerprint_of(data)[:24]}-32-pillow-1", f"audit-2-{fingerprint_of(data)[:24]}-x"):
        cache_folder().mkdir(parents=True, exist_ok=True)
        (cache_folder() / f"{name}.npy").write_bytes(b"pixels of " + data.encode())
    path = state_folder() / "models" / f"model_summary_{root_id}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("layers")
    return root_id


def fingerprint_of(data):
    return hashlib.sha256(data.encode()).hexdigest()


def register(run_id):
    """Make the run's model the version of `pets` that is in production."""
    trees = open_trees()
    client = MlflowClient(trees.uri)
    _, (model_id,) = trees.below(run_id)
    with Run(trees.uri, client.get_run(run_id).info.experiment_id, run_id)._fluent():
        client.create_registered_model("pets")
        made = client.create_model_version(
            "pets", f"models:/{model_id}", run_id, {"test_mcc": "0.5"}, model_id=model_id
        )
    client.set_registered_model_alias("pets", "production", made.version)


def leave_checkpoint(run_id, size=1000):
    path = work_folder("checkpoints") / run_id / "root 0 inner 0 fine-tuning.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))


def everything():
    """All that the state folder keeps: files by their content, and rows of both databases, without numbers of rows."""
    found = {}
    for path in sorted(state_folder().rglob("*")):
        name = path.relative_to(state_folder()).as_posix()
        if path.is_file() and not name.endswith((".lock", ".db", "-wal", "-shm")) and "/removed/" not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found | rows_of("mlflow.db") | rows_of("optuna.db")


def rows_of(database):
    path = state_folder() / database
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
    return {f"{database} {name} {row}": 1 for name, found in rows.items() for row in found}


def of_run(names, run_ids):
    """Those names of :func:`everything` that are of some runs."""
    return {name for name in names if any(run_id in name for run_id in run_ids)}


def content_of(run_id, new=None):
    """All of a tree but where it is: rows, histories, artifacts, studies; ids as `new` says they were."""
    trees = open_trees()
    tree = trees.tree(run_id).renamed(new or {})
    for run in tree.runs:
        run.tags = {name: value for name, value in run.tags.items() if name != "origin"}
        run.tags.pop("mlflow.user", None)
        run.inputs = [dict(sorted(each.items())) for each in run.inputs]
        run.metrics = sorted((n, "nan" if math.isnan(v) else v, *rest) for n, v, *rest in run.metrics)
    tree.runs.sort(key=lambda run: run.run_id)
    old = {now: before for before, now in (new or {}).items()}
    files = {}
    for kind, ids, of in (
        ("run", [run.run_id for run in tree.runs], trees.artifacts),
        ("model", [model.model_id for model in tree.models], trees.model_files),
    ):
        for each in ids:
            top = Path(of(with_ids(each, old)).artifact_dir)
            for path in top.rglob("*"):
                if path.is_file():
                    files[f"{kind} {each} {path.relative_to(top)}"] = with_ids(
                        path.read_text(errors="replace"), new or {}
                    )
    studies = with_ids(json.dumps(study_records(run_id)), new or {})
    return dataclasses.asdict(tree), files, studies


def _run(rng, root_id, level, parent, run_id=None, **tags):
    run_id = run_id or uuid.UUID(int=rng.getrandbits(128)).hex
    its = {"run_level": level, "mlflow.runName": f"a {level}", **tags}
    if parent is None:
        its |= {"step": "step_5", "fingerprint": root_id[:16], "command": json.dumps(["step_5/train.py", "--fast"])}
        parts = {"settings.--root-splits": "1", "settings.--inner-splits": "2"}
        its |= {"identity": json.dumps(parts), **tags}
    else:
        its |= {PARENT: parent, "root_run_id": root_id}
    inputs = []
    if parent is None:
        inputs = [
            {"name": "pets", "digest": "0123", "source_type": "local", "source": "{}", "schema": None, "profile": "{}"}
            | {"tags": {"mlflow.data.context": "training"}}
        ]
    return KeptRun(
        run_id, f"a {level}", "ann", "FINISHED", START, START + 10, its, {"learning_rate": "0.1"}, [], inputs, []
    )


def _model(rng, run_id):
    model_id = f"m-{uuid.UUID(int=rng.getrandbits(128)).hex}"
    return KeptModel(model_id, run_id, "pets", "", "READY", START, START, {"a": "b"}, {"width": "3"}, [])


def _scores(score):
    return {"test_roc_auc": score, "test_roc_auc_low": score - 0.1, "test_roc_auc_high": min(1, score + 0.05)}


def _put_artifacts(trees, tree, network):
    for run in tree.runs:
        files = Path(trees.artifacts(run.run_id).artifact_dir)
        files.mkdir(parents=True)
        (files / "notes.txt").write_text(f"of {run.run_id}")
        if run.tags["run_level"] == "fold":
            inner = int(run.tags["inner_split"])
            (files / "model.safetensors").write_bytes(bytes([inner]) * network)
            predictions(inner).to_csv(files / "predictions.csv", index=False)
        if run.tags["run_level"] == "root":
            (files / "results.csv").write_text(f"{COLUMNS}\n0,0,9,4,40,0.5,0.5,0.75,0.7,0.5,0.2\n")
            predictions(0).to_csv(files / "predictions.csv", index=False)
    for model in tree.models:
        files = Path(trees.model_files(model.model_id).artifact_dir)
        files.mkdir(parents=True)
        (files / "MLmodel").write_text(f"run_id: {model.run_id}\nmodel_id: {model.model_id}\n")


def predictions(inner):
    """Of a fit; that of the higher inner split ranks the dev images better."""
    dev = DEV if inner else DEV[::-1]
    rows = [("dev", f"d{i}.png", i % 2, p) for i, p in enumerate(dev)]
    rows += [("test", f"t{i}.png", i % 2, p) for i, p in enumerate(TEST)]
    found = pd.DataFrame(rows, columns=["part", "file", "label", "probability"])
    found["class"] = ["cat" if label == 0 else "dog" for label in found["label"]]
    more = {
        "threshold": 0.5,
        "prediction": (found["probability"] >= 0.5).astype(int),
        "group": "",
        "digest": found["file"].map(fingerprint_of),
    }
    return found.assign(root_split=0, inner_split=inner, outer_fold=0, **more)


def _put_study(name, trials):
    study = optuna.create_study(storage=connect(), study_name=name, direction="maximize")
    study.set_user_attr("lag", 1)
    kind = {"rate": FloatDistribution(0.001, 1.0, log=True)}
    for number in range(trials):
        reported = {0: 0.5 + number / 10, 1: 0.25}
        study.add_trial(
            create_trial(
                params={"rate": 0.1 + number / 10}, distributions=kind, value=0.5, intermediate_values=reported
            )
        )
    pruned = {"rate": 0.5}, kind, TrialState.PRUNED, {0: 0.125}
    params, distributions, state, values = pruned
    study.add_trial(create_trial(params=params, distributions=distributions, state=state, intermediate_values=values))
