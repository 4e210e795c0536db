"""The model registry: the best version, and it alone, is in production, and a registered model takes image files."""

import io
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
import torch
from mlflow import MlflowClient
from PIL import Image
from registering import (
    CLASSES,
    a_run,
    an_ensemble,
    an_own_network,
    check_any_moment,
    check_production,
    create_versions,
    register_pets,
    register_tested,
)
from serving import Server, free_port, predictions, wait_for
from sklearn.metrics import matthews_corrcoef

from common.cli import UserError
from common.data import find_images
from common.data.decoding import read_image
from common.data.made.phantoms import make_phantoms
from common.production.deciding import mcc_difference
from common.production.ensemble import Ensemble, UnreadableImage
from common.production.promotion import create_version, production_version, promote, registry_at, standing
from common.production.registry import load_production, load_version, register_version
from common.production.scope import StoredData, check_scope
from common.tracking.upkeep import store_uri
from conftest import PROJECT, copy_code
from step_4 import train

PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["pytest", "common.production.ensemble", "common.model.classifier", "common.production.registry"]
PROCESSES.set_forkserver_preload(PRELOADED)


@pytest.fixture(scope="module")
def empty(empty_stores):
    """A new database."""
    return empty_stores / "mlflow.db"


@pytest.fixture
def database(empty, tmp_path, monkeypatch):
    """The store of a project of its own."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copy(empty, tmp_path))


@pytest.fixture(scope="module")
def pets(empty, tiny_pets, tmp_path_factory):
    """A project with the model `pets` in production: three networks, the last of which is of somebody's own modules."""
    folder = tmp_path_factory.mktemp("a project")
    database = Path(shutil.copy(empty, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        photos = sorted((tiny_pets / "images").iterdir())
        networks = an_ensemble().networks
        with pytest.MonkeyPatch.context() as imports:
            imports.syspath_prepend(own := tmp_path_factory.mktemp("own"))
            networks.append(an_own_network(own).eval())
            version = register_pets(tiny_pets, Ensemble(networks, [0.2, 0.3, 0.58], CLASSES), test_roc_auc=0.75)
        for name in ("lite0", "parts", "parts.mean"):
            del sys.modules[name]
        yield SimpleNamespace(database=database, photos=photos, version=version, networks=networks, own=own)


@pytest.mark.slow
def test_one_version_is_in_production_at_every_moment_and_the_best_one_in_the_end_while_processes_register(database):
    rng = random.Random(0)
    scores = [*(repr(rng.choice([0.1, 0.2, 0.3, rng.random() * 0.8 - 0.4])) for _ in range(8)), *["nan"] * 2]
    rng.shuffle(scores)
    scores = ["nan", "nan", *scores, *["0.8125"] * 4]  # the best ones are ties
    parts = [scores[start::4] for start in range(4)]
    uri = store_uri(database)
    workers = [PROCESSES.Process(target=create_versions, args=(uri, part)) for part in parts]
    for worker in workers:
        worker.start()
    seen = []
    while any(worker.is_alive() for worker in workers):
        seen.append(check_any_moment(database))
    assert [worker.exitcode for worker in workers] == [0] * 4
    found, best = check_production(database)
    assert sorted(map(repr, found)) == sorted(scores)
    assert found[best - 1] == 0.8125 and best == found.index(0.8125) + 1
    assert seen == sorted(seen) and len(seen) > 10, "production never gets worse"
    assert production_version("pets") == best


@pytest.mark.hostile("a killed registration leaves one version in production, and the next one puts all right")
@pytest.mark.parametrize("share", [0.8, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.5, 0.95))])
def test_what_a_killed_registration_has_left_undone_the_next_one_does(share, database, statements):
    uri = store_uri(database)
    create_versions(uri, ["0.25", "nan"])
    worker = PROCESSES.Process(target=_create_and_die, args=(uri, "0.5", round(share * statements)))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert check_any_moment(database) in (0.25, 0.5)
    create_versions(uri, ["0.1"])
    scores, best = check_production(database)
    assert scores[best - 1] == max(score for score in scores if math.isfinite(score))


@pytest.fixture(scope="module")
def statements(empty, tmp_path_factory):
    """How many SQL statements a registration executes."""
    uri = store_uri(shutil.copy(empty, tmp_path_factory.mktemp("counted")))
    create_versions(uri, ["0.25", "nan"])
    with PROCESSES.Pool(1) as pool:
        return pool.apply(_create_and_die, (uri, "0.5", None))


def _create_and_die(uri, score, statement):
    executed = []
    with registry_at(uri) as registry:  # connects, which is many statements
        registry.search_registered_models()

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def die(*_):
        executed.append(1)
        if len(executed) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    create_versions(uri, [score])
    return len(executed)


def test_a_version_without_a_score_is_archived_and_never_in_production(database):
    create_versions(store_uri(database), ["nan", "nan"])
    assert check_production(database)[1] is None
    with pytest.raises(UserError, match="no version is in production"):
        load_production("pets")
    create_versions(store_uri(database), ["-0.5"])
    assert production_version("pets") == 3


def test_what_others_changed_is_put_right_by_the_next_registration(database):
    create_versions(store_uri(database), ["0.1", "0.3", "0.2"])
    client = MlflowClient(store_uri(database))
    client.set_registered_model_alias("pets", "production", 3)
    client.set_model_version_tag("pets", 1, "stage", "Production")
    client.delete_model_version_tag("pets", 2, "stage")
    create_versions(store_uri(database), ["nan"])
    assert check_production(database)[1] == 2


def test_a_name_that_is_none_is_one_line(pets):
    with pytest.raises(UserError, match="model 'a/b': expected up to 250 letters"):
        create_version(store_uri(pets.database), "a/b", "/no/files", {"test_mcc": "0.5"})


def test_a_registered_model_says_where_it_comes_from_and_what_it_takes(pets):
    client = MlflowClient(store_uri(pets.database))
    version = client.get_model_version("pets", str(pets.version))
    expected = {"test_mcc": "0.5", "test_roc_auc": "0.75", "run_id": version.run_id, "stage": "Production"}
    data = find_images(str(pets.photos[0].parents[1])).fingerprint
    expected |= {"classes": '["cat", "dog"]', "data_fingerprint": data}
    expected |= {"promotion": "promotion 1: the first with a test_mcc", "promotion_rule": "highest"}
    assert version.tags == expected and version.aliases == ["production"]
    model = load_production("pets")
    assert [(c.name, c.type.name) for c in model.metadata.signature.inputs] == [("image", "binary")]
    outputs = {"prediction": "string", "probability_cat": "double", "probability_dog": "double"}
    outputs |= {"threshold": "double", "positive_class": "string", "model_version": "long"}
    assert {c.name: c.type.name for c in model.metadata.signature.outputs} == outputs
    assert model.input_example["image"][0] == pets.photos[0].read_bytes()
    files = sorted(path.name for path in pets.database.parent.rglob("*.safetensors") if "code" not in path.parts)
    assert files == ["0.safetensors", "1.safetensors", "2.safetensors"]


def test_modules_of_ones_own_travel_with_the_model_and_no_others_nor_where_they_lay(pets):
    (model,) = (path.parent for path in pets.database.parent.rglob("MLmodel"))
    files = [path for path in model.rglob("*") if path.is_file()]
    code = {path.relative_to(model / "code").as_posix() for path in files if path.is_relative_to(model / "code")}
    own = {name for name in code if not name.startswith("common/")}
    assert own == {"lite0.py", "parts/__init__.py", "parts/mean.py"}
    places = [str(path).encode() for path in (pets.own, PROJECT)]
    assert [path for path in files for place in places if place in path.read_bytes()] == []


def test_a_model_uses_its_own_modules_whatever_of_their_names_is_loaded(pets, monkeypatch):
    other = ModuleType("lite0")
    monkeypatch.setitem(sys.modules, "lite0", other)
    assert load_production("pets").predict({"image": [pets.photos[0].read_bytes()]}).shape[0] == 1
    assert sys.modules["lite0"] is other and "parts" not in sys.modules


def test_a_registered_model_gives_the_mean_of_its_networks_and_their_mean_threshold_decides(pets):
    path = list(sys.path)
    found = load_production("pets").predict(pd.DataFrame({"image": [photo.read_bytes() for photo in pets.photos]}))
    assert sys.path == path
    each = []
    for network in pets.networks:
        pixels = np.stack([read_image(photo, network.image_size) for photo in pets.photos])
        with torch.no_grad():
            each.append(torch.sigmoid(network(torch.from_numpy(pixels)).double()).numpy())
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(found["probability_dog"], mean, atol=1e-6)
    np.testing.assert_allclose(found["probability_cat"], 1 - mean, atol=1e-6)
    rule = found[["threshold", "positive_class", "model_version"]].round(9).drop_duplicates()
    assert rule.to_numpy().tolist() == [[0.36, "dog", 1]]
    assert found["prediction"].tolist() == [CLASSES[int(p >= 0.36)] for p in mean]
    assert set(found["prediction"]) == set(CLASSES)


def test_a_run_that_registers_again_keeps_its_version(database, tiny_pets):
    run, table = a_run(), find_images(str(tiny_pets))
    assert [register_version(run, "pets", an_ensemble(), {"test_mcc": 0.5}, table) for _ in range(2)] == [1, 1]


def image_tests(images, wrong, of_group=1):
    """Images that a model was tested on: numbers, of which it takes some for the other class."""
    return [(f"digest {i}", i % 2, 0.9 if (i % 2) ^ (i in wrong) else 0.1, f"g{i // of_group}") for i in images]


def tags_of(version):
    return MlflowClient().get_model_version("pets", str(version)).tags


def test_a_version_goes_into_production_when_it_is_better_on_the_images_that_both_were_tested_on(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(database))

    def register(images, wrong, **options):
        version = register_tested(a_run(), image_tests(images, wrong, 2), **options)
        return production_version("pets"), standing("pets", version)

    assert register(range(40), range(8)) == (1, "in production: the first with a test_mcc")
    assert tags_of(1)["test_mcc"] == "0.6" and float(tags_of(1)["test_mcc_low"]) < 0.6
    assert (tags_of(1)["test_images"], tags_of(1)["test_groups"], tags_of(1)["outer_folds"]) == ("40", "20", "1")
    production, why = register(range(60), range(36, 60))  # 4 of the 40 are wrong, of all more than before
    assert float(tags_of(2)["test_mcc"]) < 0.6 and production == 2
    said = (
        r"in production: test_mcc \+0.200 against version 1 on the 40 images that both were tested on, 95 % interval "
    )
    low, high = map(float, re.fullmatch(said + r"(-0\.\d+) to (\+0\.\d+)", why).groups())
    assert low < 0 < 0.4 < high  # by groups of two
    production, why = register(range(36), range(1))  # the highest test_mcc, but of images that version 2 all finds
    assert (production, tags_of(3)["test_mcc"] > tags_of(2)["test_mcc"]) == (2, True)
    assert "archived: test_mcc -0.05" in why
    _, why = register(range(100, 140), ())
    assert why == "archived: it cannot be compared with version 2: no image was tested with both"
    assert register(range(100, 140), (), reason="a new scanner") == (
        5,
        "in production: promoted on purpose: a new scanner",
    )
    assert tags_of(5)["promotion_reason"] == "a new scanner"
    promote("pets", 2, "the scanner went back")
    assert production_version("pets") == 2 and tags_of(2)["stage"] == "Production" != tags_of(5)["stage"]
    _, why = register(range(36), (), rule="highest")
    assert re.fullmatch(r"in production: test_mcc 1.000, that of version 2 0.\d+; highest of 6", why)
    _, why = register(range(36), range(3), rule="highest")
    assert re.search(r"highest of 7: were all as good, it would be 0\.\d+ too high on average$", why)
    with pytest.raises(UserError, match="model pets: no version 9; expected one of 1, 2, 3, 4, 5, 6, 7"):
        promote("pets", 9, "why not")


def test_the_difference_of_two_mcc_is_scikit_learns_and_widens_with_copies_of_patients():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=90)
    ours, theirs = (np.where(random.random(90) < share, labels, random.integers(3, size=90)) for share in (0.8, 0.5))
    found = mcc_difference(labels, ours, theirs, np.arange(90))
    assert found.value == pytest.approx(matthews_corrcoef(labels, ours) - matthews_corrcoef(labels, theirs))
    four = [np.repeat(values, 4) for values in (labels, ours, theirs, np.arange(90))]
    assert mcc_difference(*four).limits == pytest.approx(found.limits, abs=0.02)
    assert mcc_difference(*four[:3], np.arange(360)).low > found.low + 0.04
    assert mcc_difference(labels, ours, ours, np.arange(90)).missing


def test_data_of_other_classes_are_refused_under_a_name_before_and_after_training(database, tiny_pets):
    register_pets(tiny_pets)
    photo = next((tiny_pets / "images").iterdir()).read_bytes()
    stripes = StoredData("stripes", ("dark", "striped"), "", photo)
    line = (
        "--register pets: its versions tell cat, dog apart, the data stripes have the classes dark, striped; expected"
    )
    with pytest.raises(UserError, match=line):
        register_version(a_run(), "pets", an_ensemble(), {"test_mcc": 1.0}, stripes)
    with pytest.raises(UserError, match=line):
        check_scope(store_uri(database), "pets", stripes)
    check_scope(store_uri(database), "stripes", stripes)


class Brightness(torch.nn.Module):
    """Three logits of grey images: the mean of each third, from the top."""

    image_size, channels = 30, 1

    def forward(self, images):
        assert images.shape[1:] == (1, 30, 30) and images.dtype == torch.uint8
        return images.double().div(50).reshape(-1, 3, 300).mean(dim=2)


def test_three_classes_of_grey_images_and_an_image_that_is_none(tmp_path):
    contents = []
    for third in range(3):
        pixels = np.zeros((60, 60), np.uint8)
        pixels[20 * third : 20 * third + 20] = 200
        Image.fromarray(pixels).save(tmp_path / "image.png")
        contents.append((tmp_path / "image.png").read_bytes())
    model = Ensemble([Brightness(), Brightness()], [], ("top", "middle", "bottom"))
    found = model.predict({"image": contents * 30})
    assert found["prediction"].tolist() == ["top", "middle", "bottom"] * 30
    np.testing.assert_allclose(found.filter(like="probability_").sum(axis=1), 1)
    columns = ["prediction", *(f"probability_{name}" for name in model.classes), "model_version"]
    assert list(found) == columns
    with pytest.raises(UnreadableImage, match="image 70: not a readable image") as error:
        model.predict({"image": [*contents * 23, contents[0], contents[0][:60]]})
    assert error.value.row == 70
    assert list(model.predict({"image": []})) == columns


def test_images_of_other_classes_are_refused_under_a_name_before_anything_is_trained(pets, tmp_path, monkeypatch):
    make_phantoms(tmp_path / "heads", n_patients=24, n_slices=1, size=32)
    monkeypatch.setenv("REPROAI_STATE", str(pets.database.parent))
    with pytest.raises(UserError) as error:
        train.main(["--fast", "--data", str(tmp_path / "heads"), "--register", "pets"])
    assert str(error.value) == (
        "--register pets: its versions tell cat, dog apart, the data heads have the classes healthy, lesion; "
        "expected the same, or another name"
    )
    client = MlflowClient(store_uri(pets.database))
    assert client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.step = 'step_4'") == []


@contextmanager
def answering(uri, **environment):
    """``mlflow models serve`` of a model, on a free port of this machine, once it answers; its address."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_") and k != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])  # MLflow starts uvicorn by its name
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--port"]
    environment = {**kept, "PATH": path, **environment}
    server = subprocess.Popen([*command, str(port)], cwd="/", env=environment, start_new_session=True)
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.mark.slow
def test_a_server_without_the_project_and_another_clone_answer_image_files_as_the_model_does(pets, tmp_path):
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{pets.database}"}
    contents = [photo.read_bytes() for photo in pets.photos]
    with answering("models:/pets@production", **environment) as server:
        answer = predictions(server, contents)
        with pytest.raises(urllib.error.HTTPError) as refused:
            predictions(server, [b"no image"])
    expected = load_production("pets").predict(pd.DataFrame({"image": contents}))
    pd.testing.assert_frame_equal(pd.DataFrame(answer), expected, check_dtype=False, rtol=0, atol=1e-6)
    assert refused.value.code == 400 and "not a readable image" in refused.value.read().decode()
    clone = copy_code(tmp_path / "clone")
    command = [sys.executable, "-m", "common.production.predict", "--model", "pets", *pets.photos]
    environment |= {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "REPROAI_STATE")}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.StringIO(done.stdout)).drop(columns="file")
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_on_a_tracking_server_processes_agree_on_the_best_version(database, tiny_pets, monkeypatch):
    photo = next((tiny_pets / "images").iterdir()).read_bytes()
    with closing(Server(database.parent)) as server:
        scores = [["0.1", "0.4", "nan"], ["0.3", "0.4"]]
        workers = [PROCESSES.Process(target=create_versions, args=(server.uri, part)) for part in scores]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        found, best = check_production(database)
        assert len(found) == 5 and found[best - 1] == 0.4
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        MlflowClient(server.uri).delete_registered_model_alias("pets", "production")  # as if killed before it was set
        assert register_pets(tiny_pets, test_mcc=0.3) == 6
        assert production_version("pets") == best
        assert load_version("pets", 6).predict(pd.DataFrame({"image": [photo]}))["model_version"][0] == 6
