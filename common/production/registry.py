"""The model registry: versions of a model, of which one is in production.

Which one that is says :mod:`common.production.promotion`. Steps register theirs with ``--register``; that of a run of
:func:`common.params.train` becomes a version by ``python -m common.production.registry --run-id RUN_ID --model NAME``,
and ``--version N --promote REASON`` there puts a version into production by hand.

A version has the tag ``stage``, Production or Archived, and one in production has the alias ``production`` too. What is
registered is an MLflow pyfunc model that takes raw image files and carries a copy of ``common`` with it, so it loads
wherever its requirements are installed; a process that has imported the project's own ``common`` already uses that. The
modules of one's own that its networks come from travel along; what else these import must be installed there. A model
is code, which runs with the rights of whoever loads it: load those of people you trust.

A model that was trained on arrays takes arrays, float32 of shape (n, ...), as ``{"inputs": [...]}`` over HTTP.

To serve it over HTTP, with the project's environment active (MLflow starts ``uvicorn`` by its name)::

    export MLFLOW_TRACKING_URI=sqlite:///mlflow.db    # in the project folder
    mlflow models serve -m models:/pets@production --env-manager local -p 5001
    printf '{"dataframe_split": {"columns": ["image"], "data": [["%s"]]}}' "$(base64 < cat.jpg | tr -d '\\n')" |
        curl -H 'Content-Type: application/json' -d @- http://127.0.0.1:5001/invocations
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, infer_signature

from common import cli
from common.cli import UserError, escaped, reason_of
from common.model.classifier import load_classifier
from common.moved import MODULES
from common.production import ensemble as ensembles
from common.production.deciding import SCORE
from common.production.estimate import estimate_of
from common.production.own_modules import copy_own_code, own_modules_of
from common.production.promotion import (
    check_name,
    create_version,
    one_line_errors,
    production_version,
    promote,
    registered_model,
    registry_at,
    standing,
    versions_of,
)
from common.production.scope import CLASSES, Data, StoredData, check_classes_of
from common.state import PROJECT
from common.tracking.finding import find_run
from common.tracking.outbox import outbox_of
from common.tracking.runs import Run
from common.tracking.store import open_tracking

NEEDED = ["filelock", "lazy-loader", "mlflow", "numpy", "pandas", "pillow", "safetensors", "torch", "torchvision"]
NEEDED += ["tqdm"]
"""Packages that a model needs to predict."""


def register_version(
    run: Run,
    name: str,
    ensemble,
    estimate: Mapping[str, object],
    data: Data,
    rule: str = "paired",
    reason: str | None = None,
) -> int:
    """Store a model with its run and make it a version of a registered model, unless this run has one already.

    Parameters
    ----------
    run : Run
        Not finished yet. Its ``predictions.csv`` is what the version is compared by.
    name : str
        Of the registered model, made if there is none.
    ensemble : common.production.ensemble.Ensemble
    estimate : mapping
        Becomes tags of the version, see :func:`common.production.final.estimate_of`: with ``test_mcc``. A version
        whose score is NaN is not put into production by itself.
    data : common.data.ImageTable, or what :class:`common.production.scope.Data` says of one
        What it was trained on. Its first image is stored as the model's input example.
    rule, reason
        As for :func:`common.production.promotion.create_version`.

    Returns
    -------
    int
        The version.

    Raises
    ------
    UserError
        When the classes are not those of the registered model.
    """
    check_name(name)
    tags = {key: value if isinstance(value, str) else repr(value) for key, value in estimate.items()}
    tags |= {"run_id": run.run_id, "data_fingerprint": data.fingerprint}
    tags[CLASSES] = json.dumps(list(map(cli.escaped, data.classes)))
    if SCORE not in tags:
        raise ValueError(f"estimate: expected {SCORE} in it, found {', '.join(estimate) or 'nothing'}")
    with registry_at(run.uri) as registry:
        for known in versions_of(registry, name):
            if known.tags.get("run_id") == run.run_id:
                return int(known.version)
    example = data.example()
    images = pd.DataFrame({"image": [example]}) if isinstance(example, bytes) else example
    with one_line_errors(run.uri), run._fluent(), tempfile.TemporaryDirectory() as folder:
        ensemble.save(saved := Path(folder) / "ensemble")
        (code := Path(folder) / "code").mkdir()
        copy_own_code(ensemble.networks, code)
        logged = Model.log(
            None,
            mlflow.pyfunc,
            name=name,
            run_id=run.run_id,
            loader_module=type(ensemble).__module__,
            data_path=str(saved),
            code_paths=[str(PROJECT / "common"), *map(str, sorted(code.iterdir()))],
            pip_requirements=[f"{package}=={installed(package)}" for package in NEEDED],
            signature=_signature(images, ensemble.predict(images)),
            input_example=images,
        )
        check = partial(check_classes_of, name=name, data=data)
        outbox_of(run.uri).drain()  # predictions.csv, which versions are compared by
        of = (tags, run.run_id, logged.model_id, check, rule, reason)
        version = create_version(run.uri, name, logged.model_uri, *of)
        link = json.dumps([{"name": name, "version": version}])  # where MLflow's pages look for it
        run.client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
    return version


def _signature(images: pd.DataFrame, answers: pd.DataFrame) -> ModelSignature:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that integers cannot be missing: a version never is
        return infer_signature(images, answers)


def register_trained(run_id: str, name: str, rule: str = "paired", reason: str | None = None) -> int:
    """Make the model of a finished run of :func:`common.params.train` a version; returns it.

    Where it is one already, that. A child run keeps its files.

    Raises
    ------
    UserError
        When there is no such run, or its model was not kept in MLflow.
    """
    check_name(name)
    run = find_run("train", run_id)
    known = run.client.get_run(run_id).data.params
    with tempfile.TemporaryDirectory() as folder:
        try:
            predictions = run.read_table("predictions.csv")
            network, classes, example = (
                Path(run.client.download_artifacts(run_id, artifact, folder))
                for artifact in ("model.safetensors", "classes.json", "example.png")
            )
        except UserError as error:
            raise UserError(f"--run-id {run_id}: its model is not in MLflow ({error})") from None
        labels = tuple(json.loads(classes.read_text()))
        data = StoredData(known["data_name"], labels, known["data_fingerprint"], example.read_bytes())
        ensemble = ensembles.Ensemble([load_classifier(network)], [0.5], list(map(escaped, data.classes)))
        trained = Run(run.uri, run.experiment_id, run_id, {"root_run_id": run_id}, resumed=True)
        with trained.child(f"registration {name}", run_level="registration") as child:
            child.table(predictions, "predictions.csv")
            return register_version(child, name, ensemble, estimate_of(predictions), data, rule, reason)


def load_production(name: str) -> mlflow.pyfunc.PyFuncModel:
    """The model in production; errors as for :func:`production_version`."""
    return load_version(name, production_version(name))


def load_version(name: str, version: int) -> mlflow.pyfunc.PyFuncModel:
    """A version of a registered model: its ``predict`` takes and gives what :class:`Ensemble`'s does.

    Raises
    ------
    UserError
        When there is no such model or version, or its files are gone.
    """
    uri = open_tracking()
    with registry_at(uri) as registry:
        registered_model(registry, name)
        versions = sorted(int(known.version) for known in versions_of(registry, name))
        if version not in versions:
            listed = ", ".join(map(str, versions)) or "none"
            raise UserError(f"model {name}: no version {version}; expected one of: {listed}")
        source = registry.get_model_version_download_uri(name, version)
    try:
        for former, now in MODULES.items():
            if now == ensembles.__name__:  # where models of an earlier version look
                sys.modules.setdefault(former, ensembles)
        with tempfile.TemporaryDirectory() as folder:
            found = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=uri)
            Path(found, ensembles.NOTE).write_text(f"model_version: '{version}'\n")
            with own_modules_of(Path(found)):
                return mlflow.pyfunc.load_model(found)
    except (MlflowException, OSError) as error:
        raise UserError(f"model {name}, version {version}: cannot be loaded ({reason_of(error)})") from error


def main(argv: list[str] | None = None) -> None:
    """The command: ``python -m common.production.registry``."""
    flags = cli.parser(__doc__)
    flags.add_argument("--model", required=True, metavar="NAME", help="registered model, made if there is none")
    what = flags.add_mutually_exclusive_group(required=True)
    what.add_argument("--run-id", metavar="ID", help="register the model of that run of common.params.train")
    what.add_argument("--version", type=cli.whole_number(1), metavar="N", help="a version, to put into production")
    cli.promotion_flags(flags)
    args = flags.parse_args(argv)
    if args.run_id:
        version = register_trained(args.run_id, args.model, args.promotion, args.promote)
        print(f"registered: version {version} of {args.model}, {standing(args.model, version)}")
    elif not args.promote:
        flags.error("--version: expected --promote REASON too")
    else:
        promote(args.model, args.version, args.promote)
        print(f"version {args.version} of {args.model}, {standing(args.model, args.version)}")


if __name__ == "__main__":
    cli.run(main)
