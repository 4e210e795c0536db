"""What is computed once: the caches of pixels and features, and that results do not depend on them."""

import os
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from common import progress
from common.cli import KilledError, UserError
from common.config import TrainingConfig
from common.data import Fold, cache, load_images
from common.data.cache import cached_array
from common.seeds import Stream
from common.training import (
    Compute,
    features,
    frozen_features,
    jobs,
    make_optimizer,
    new_model,
    run_fits,
    run_jobs,
    set_up,
    train_and_validate_model,
    train_one_epoch,
    validate_one_epoch,
)
from common.training.local import Running
from common.training.workers import pickled

CONFIG = TrainingConfig(image_size=32, batch_size=8, patience=9, hidden_dim=8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache, and one thread."""
    set_up("cpu", "fp32", 1000)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    cache._checksum_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def table(tiny_pets, home):
    return load_images(str(tiny_pets), 32)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": flip_a_byte,
    "a truncated file": lambda path: os.truncate(path, path.stat().st_size // 2),
    "no array": lambda path: path.unlink(),
    "no notes": lambda path: path.with_suffix(".json").unlink(),
    "torn notes": lambda path: path.with_suffix(".json").write_text('{"checksum": 12'),
    "other notes": lambda path: path.with_suffix(".json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_partial_cache_is_made_again(damage, table, tiny_pets, home):
    expected = np.array(table.pixels)
    (path,) = home.glob("images-*.npy")
    DAMAGES[damage](path)
    cache._checksum_once.cache_clear()  # another process
    assert (load_images(str(tiny_pets), 32).pixels == expected).all()
    cache._checksum_once.cache_clear()
    before = path.stat().st_mtime_ns
    assert (load_images(str(tiny_pets), 32).pixels == expected).all()
    assert path.stat().st_mtime_ns == before


def test_without_the_cache_nothing_is_written_or_read_and_all_is_the_same(table, tiny_pets, home):
    network = new_model(CONFIG, table, Compute("cpu", "fp32", 1), Stream(0))
    expected = np.array(frozen_features(network, table))
    for path in home.iterdir():
        path.unlink()
    uncached = load_images(str(tiny_pets), 32, cached=False)
    assert (uncached.pixels == table.pixels).all()
    assert (frozen_features(network, uncached) == expected).all()
    assert list(home.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_file_and_the_way_out(home, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"x\.npy: No space left on device; --no-cache"):
        cached_array("x", lambda new: (new((10, 10), "uint8"), {}))
    assert [path.name for path in home.iterdir()] == ["x.npy.lock"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_trained_on_cached_features_is_the_head_trained_through_the_frozen_backbone(precision, table):
    config, compute = replace(CONFIG, epochs=3), Compute("cpu", precision, 1)
    fold = Fold(0, 0, *np.split(np.random.default_rng(0).permutation(24), [14, 20]))

    def start():
        network = new_model(config, table, compute, Stream(0))
        network.freeze_backbone()
        return network, make_optimizer(network, config.optimizer, 1e-2, 1e-2)

    network, optimizer = start()
    scores = []
    best = train_and_validate_model(
        network, table, fold, optimizer, 3, config, Stream(0), lambda metrics, _: scores.append(metrics.get("dev_loss"))
    )
    through, optimizer = start()
    expected, states = [], []
    for epoch in range(4):
        if epoch:
            train_one_epoch(through, table, fold.train, optimizer, epoch, 8, Stream(0), lambda *_: None)
        metrics = validate_one_epoch(through, table, fold.dev, 8)
        expected.append((metrics["dev_loss"], metrics["dev_roc_auc"]))
        states.append({name: value.clone() for name, value in through.head.state_dict().items()})
    winner = int(np.argmax([score for _, score in expected]))
    assert best == expected[winner][1]
    assert [loss for loss in scores if loss is not None] == pytest.approx([loss for loss, _ in expected], abs=1e-6)
    assert len({round(loss, 4) for loss, _ in expected}) == 4
    for name, value in network.head.state_dict().items():
        assert torch.allclose(value, states[winner][name], atol=1e-6), name


def test_features_are_computed_once_and_again_when_what_they_depend_on_changes(table, tiny_pets, monkeypatch):
    computed = []
    of = features.Classifier.features
    monkeypatch.setattr(features.Classifier, "features", lambda *a: computed.append(1) or of(*a))

    def count(network, images):
        computed.clear()
        frozen_features(network, images)
        return len(computed)

    network = new_model(CONFIG, table, Compute("cpu", "fp32", 1), Stream(0))
    assert count(network, table) == 1
    assert count(new_model(CONFIG, table, Compute("cpu", "fp32", 1), Stream(7)), table) == 0  # another head
    assert count(network, load_images(str(tiny_pets), 40)) == 1
    assert count(new_model(replace(CONFIG, weights="none"), table, Compute("cpu", "fp32", 1), Stream(0)), table) == 1
    network.precision = "bf16"
    assert count(network, table) == 1
    network.precision = "fp32"
    torch.set_num_threads(2)
    assert count(network, table) == 1
    with torch.no_grad():
        next(network.backbone.parameters())[0] += 1e-3
    assert count(network, table) == 1
    assert count(network, table) == 0


def slowly(folder, at_once, number):
    (started := folder / f"{number} started").touch()
    if number < 2:
        if not started.read_text():
            started.write_text(str(os.getpid()))
        while len(list(folder.glob("[01] started"))) < at_once:  # ends only when so many run at once
            time.sleep(0.05)
    else:
        time.sleep(10)
    (folder / f"{number} ended").touch()
    return number * 10


def first_two(folder, at_once, name):
    found, fit = [], partial(slowly, folder / name, at_once)
    for result in run_fits(fit, [0, 1, 2, 3]):
        found.append(result)
        if len(found) == 2:
            break
    return found, list(run_fits(fit, [0, 1]))


@pytest.mark.parametrize("n_jobs", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 6))])
def test_processes_are_filled_and_fits_that_are_not_asked_for_are_interrupted(n_jobs, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    at_once, args = 1 if n_jobs == 1 else 2, Namespace(n_jobs=n_jobs, engine="local")
    found = run_jobs(partial(first_two, tmp_path, at_once), ["a", "b"], set_up("cpu", "fp32", 1000), args, 4)
    assert found == [([0, 10], [0, 10])] * 2
    assert not {"2 ended", "3 ended"} & {path.name for path in tmp_path.rglob("* ended")}
    assert (len({path.read_text() for path in tmp_path.rglob("[01] started")}) > 1) == (n_jobs > 1)
    not_needed = {path.name for path in tmp_path.rglob("[23] started")}
    assert n_jobs == 4 or bool(not_needed) == (n_jobs == 6)  # by processes that have nothing better to do


def wait_for(path):
    while not path.exists():
        time.sleep(0.05)
    return path.name


def test_what_comes_later_is_imported_while_fits_are_computed(tmp_path):
    progress.meanwhile((tmp_path / "imported").touch)
    args = Namespace(n_jobs=2, engine="local")
    run = lambda item: list(run_fits(wait_for, [item]))  # noqa: E731
    assert run_jobs(run, [tmp_path / "imported"], set_up("cpu", "fp32", 1000), args, 1) == [["imported"]]


class Content(bytes):
    """A result that is counted while somebody keeps it."""

    alive = 0

    def __init__(self, _):
        Content.alive += 1

    def __del__(self):
        Content.alive -= 1


class Growing:
    """An engine of one thread that becomes two, and that is gone in the end."""

    slots, most, left = 1, 2, 20

    def __init__(self):
        self.pool = ThreadPoolExecutor(2)

    def submit(self, call, hear):
        self.left -= 1
        if self.left < 0:
            raise KilledError("the engine is gone")
        return Running(self.pool.submit(lambda: Content(pickled(call()))), lambda: None)


def test_an_engine_may_grow_or_be_gone_and_results_that_were_taken_are_not_kept(monkeypatch):
    engine, met = Growing(), threading.Barrier(2)
    monkeypatch.setattr(jobs, "engine_for", lambda *_: nullcontext(engine))

    def meet(number):
        engine.slots = 2  # which nothing but a look at it tells
        if number < 2:
            met.wait(20)
        return number

    def take(n_fits):
        return [(result, Content.alive) for result in run_fits(meet, range(n_fits))]

    (found,) = run_jobs(take, [20], Compute("cpu", "fp32", 1), Namespace(), 20)
    assert [result for result, _ in found] == list(range(20))
    assert found[-1][1] <= 1
    with pytest.raises(KilledError, match="the engine is gone"):
        run_jobs(take, [1, 1], Compute("cpu", "fp32", 1), Namespace(), 2)
