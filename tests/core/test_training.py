"""Training: repeatable to the bit, never worse on the dev set than before, and the same in any number of processes."""

import copy
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from common import cli
from common.cli import NonFiniteLossError, UserError
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.data.folding import Fold
from common.data.sources import load_images
from common.seeds import Stream
from common.state import PROJECT
from common.training import Compute, engine, make_optimizer, new_model, precision, set_up
from common.training.augmentation import N_DRAWS, augment
from common.training.beginning import configure, set_up_for
from common.training.compute import applied
from common.training.engine import (
    test_model,
    train_and_validate_model,
    train_one_epoch,
    validate_one_epoch,
)
from common.training.jobs import run_fits, run_jobs

CONFIG = TrainingConfig(weights="none", image_size=32, batch_size=8, warmup_epochs=1, epochs=2, learning_rate=3e-3)
NOTHING = Augmentation(0, 0, 0, 0, 0, 0, 0)
EVERYTHING = Augmentation(1, 180, 0.5, 0.9, 1, 1, 1)


@pytest.fixture(scope="module")
def table(tiny_pets, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(tmp_path_factory.mktemp("state")))
        return load_images(str(tiny_pets), 32)


@pytest.fixture(scope="module")
def fold():
    return Fold(0, 0, *np.split(np.random.default_rng(0).permutation(24), [14, 20]))


@pytest.fixture(autouse=True)
def on_cpu():
    return set_up("cpu", "fp32")


def fit(table, fold, stream, log=lambda metrics, step: None, config=CONFIG, precision="fp32"):
    """Both phases, as the steps train; returns the network and its best dev score."""
    network = new_model(config, table, Compute("cpu", precision, 1), stream.at("model"))
    network.freeze_backbone()
    optimizer = make_optimizer(network, config.optimizer, config.warmup_learning_rate, config.warmup_weight_decay)
    train_and_validate_model(network, table, fold, optimizer, config.warmup_epochs, config, stream.at("warm-up"), log)
    network.freeze_backbone(False)
    optimizer = make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
    score = train_and_validate_model(
        network, table, fold, optimizer, config.epochs, config, stream.at("fine-tuning"), log, config.augmentation
    )
    return network, score


def digest(network):
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in network.state_dict().values())).hexdigest()


def in_a_fit(function, item):
    (result,) = run_fits(function, [item])
    return result


def job(table, fold, folder, seed):
    """Keeps what came of a fit in a file; that of seed 2 fails."""
    config = replace(CONFIG, optimizer=SGD(), learning_rate=1e30) if seed == 2 else CONFIG
    network, score = fit(table, fold, Stream(seed), config=config)
    (folder / f"{seed}").write_text(f"{digest(network)} {score} {torch.get_num_threads()}")


@pytest.fixture(scope="module")
def fitted(table, fold):
    """The network of seed 0, its score, and what was logged of its fit."""
    calls = []
    set_up("cpu", "fp32")
    return *fit(table, fold, Stream(0), lambda metrics, step: calls.append((metrics, step))), calls


def test_a_fit_depends_on_its_stream_alone(table, fold, fitted):
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    before = torch.get_rng_state()
    again, score = fit(table, fold, Stream(0))
    assert (digest(again), score) == (digest(fitted[0]), fitted[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert digest(fit(table, fold, Stream(1))[0]) != digest(again)


@pytest.mark.parametrize("changed", ["shuffle", "augmentation", "dropout"])
def test_order_augmentation_and_dropout_each_have_a_stream_of_each_epoch(changed, table, fold, fitted, monkeypatch):
    used = []
    at = Stream.at

    def watched(stream, *names):
        used.append(place := at(stream, *names))
        return at(place, "other") if names == (changed,) else place

    monkeypatch.setattr(Stream, "at", watched)
    other = fit(table, fold, Stream(0))[0]
    assert digest(other) != digest(fitted[0])
    epochs = [s.place[:-1] for s in used if s.place[-1] == changed]
    assert epochs == [("warm-up", "epoch 1"), ("fine-tuning", "epoch 1"), ("fine-tuning", "epoch 2")]


def test_each_image_has_its_own_draws_in_each_epoch(table, fold, monkeypatch):
    used = []
    monkeypatch.setattr(engine, "augment", lambda *given: used.extend(given[1].tolist()) or augment(*given))
    fit(table, fold, Stream(0))
    assert len({tuple(draws) for draws in used}) == len(used) == 2 * len(fold.train)


@pytest.mark.parametrize("epochs", [0, 3])
def test_a_phase_never_makes_the_dev_score_worse(epochs, table, fold, fitted):
    network, score = copy.deepcopy(fitted[0]), fitted[1]
    mislabelled = replace(table, labels=np.where(np.isin(np.arange(24), fold.train), 1 - table.labels, table.labels))
    optimizer = make_optimizer(network, AdamW(), 1e-2, 0.0)
    scores = []
    log = lambda metrics, step: scores.extend(v for k, v in metrics.items() if k == "dev_roc_auc")  # noqa: E731
    after = train_and_validate_model(network, mislabelled, fold, optimizer, epochs, CONFIG, Stream(0), log)
    assert scores[0] == max(scores) == after == score == validate_one_epoch(network, table, fold.dev, 8)["dev_roc_auc"]
    assert (min(scores) < score) == (epochs > 0)
    assert digest(network) == digest(fitted[0])


def test_a_phase_stops_when_its_patience_is_over(table, fold, on_cpu):
    network = new_model(CONFIG, table, on_cpu, Stream(0))
    network.freeze_backbone()
    still = make_optimizer(network, SGD(), 1e-30, 0.0)
    config, epochs = TrainingConfig(image_size=32, patience=2), []
    log = lambda metrics, step: epochs.append(step) if len(metrics) > 1 else None  # noqa: E731
    train_and_validate_model(network, table, fold, still, 9, config, Stream(0), log)
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize(("images", "batch_size", "sizes"), [(33, 32, [17, 16]), (7, 3, [3, 2, 2])])
def test_no_batch_is_of_one_image_which_batch_normalisation_could_not_use(images, batch_size, sizes, table, on_cpu):
    network = new_model(CONFIG, table, on_cpu, Stream(0))
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    optimizer = make_optimizer(network, AdamW(), 1e-3, 0.0)
    rows = np.arange(images) % 24
    train_one_epoch(network, table, rows, optimizer, 1, batch_size, Stream(0), lambda metrics, step: None)
    assert seen == sizes


def test_a_loss_that_is_not_finite_says_where_it_came_from(table, fold, on_cpu, monkeypatch):
    monkeypatch.setattr(engine, "LOG_EVERY", 1)

    def broken(batch_size, place):
        network, losses = new_model(CONFIG, table, on_cpu, Stream(0)), []
        optimizer = make_optimizer(network, SGD(), 1e30, 0.0)
        config = replace(CONFIG, batch_size=batch_size)
        log = lambda metrics, step: losses.append(step) if "batch_loss" in metrics else None  # noqa: E731
        with pytest.raises(NonFiniteLossError) as error:
            train_and_validate_model(network, table, fold, optimizer, 2, config, Stream(0).at(place), log)
        assert isinstance(error.value, UserError)
        return str(error.value), losses

    where = r"seed 0 / fine-tuning / epoch (\d), batch (\d) \(step (\d)\), at learning rate 1e\+30;"
    said, losses = broken(5, "fine-tuning")
    epoch, batch, step = map(int, re.match(rf"the loss is (?:nan|inf) in {where}", said).groups())
    assert step == 3 * (epoch - 1) + batch == losses[-1] + 1
    assert re.search(r"dev set in seed 0 / warm-up.* epoch 1.* rate 1e\+30;", broken(14, "warm-up")[0])


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 0, 1, 2, 3]), (3, [0, 0, 3]), (50, [0, 0])])
def test_the_log_gets_one_batch_of_so_many_and_every_epoch_once(every, expected, table, fold, monkeypatch):
    monkeypatch.setattr(engine, "LOG_EVERY", every)
    calls = []
    fit(table, fold, Stream(0), lambda metrics, step: calls.append((metrics, step)))
    steps = [step for metrics, step in calls if list(metrics) == ["batch_loss"]]
    epochs = [(list(metrics), step) for metrics, step in calls if "batch_loss" not in metrics]
    assert steps == expected
    before = ["dev_loss", "dev_accuracy", "dev_roc_auc"]
    after = ["train_loss", *before]
    assert epochs == [(before, 0), (after, 1), (before, 0), (after, 1), (after, 2)]
    if every == 1:
        batches = [metrics["batch_loss"] for metrics, _ in calls[1:3]]
        assert calls[3][0]["train_loss"] == pytest.approx(np.mean(batches))
    assert all(type(value) is float for metrics, _ in calls for value in metrics.values())


def test_it_learns(table, fold):
    _, score = fit(table, fold, Stream(0), config=TrainingConfig(weights="none", image_size=32, batch_size=8, epochs=6))
    assert score > 0.9


def test_bf16_computes_in_16_bits_and_gives_finite_losses(table, fold):
    losses = []
    network, _ = fit(table, fold, Stream(0), lambda metrics, step: losses.extend(metrics.values()), precision="bf16")
    assert np.isfinite(losses).all()
    half = test_model(network, table, fold.test)
    network.precision = "fp32"
    full = test_model(network, table, fold.test)
    assert half.dtype == np.float64 and (half != full).any()
    assert half == pytest.approx(full, abs=0.05)


def test_probabilities_are_in_the_order_of_the_rows_and_do_not_depend_on_the_batches(table, fitted):
    network = fitted[0]
    rows = np.arange(24)
    probabilities = test_model(network, table, rows)
    assert probabilities.shape == (24,) and ((probabilities > 0) & (probabilities < 1)).all()
    assert test_model(network, table, rows[::-1], batch_size=5)[::-1] == pytest.approx(probabilities, abs=1e-6)


def test_the_optimizer_has_its_settings_and_only_what_is_not_frozen(table, on_cpu):
    network = new_model(CONFIG, table, on_cpu, Stream(0))
    network.freeze_backbone()
    (group,) = make_optimizer(network, SGD(momentum=0.5, nesterov=False), 0.1, 0.2).param_groups
    assert [group[k] for k in ("momentum", "nesterov", "lr", "weight_decay")] == [0.5, False, 0.1, 0.2]
    assert {id(p) for p in group["params"]} == {id(p) for p in network.head.parameters()}
    network.freeze_backbone(False)
    for own in (SGD(learning_rate=0.3), AdamW(learning_rate=0.3)):
        assert make_optimizer(network, own, 0.1, 0.2).param_groups[0]["lr"] == 0.3
    adam = make_optimizer(network, AdamW(beta1=0.8, beta2=0.9), 0.1, 0.2)
    (group,) = adam.param_groups
    assert [group[k] for k in ("betas", "lr", "weight_decay")] == [(0.8, 0.9), 0.1, 0.2]
    assert isinstance(adam, torch.optim.AdamW) and len(group["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize(("settings", "kind"), [(AdamW(), torch.optim.AdamW), (SGD(), torch.optim.SGD)])
def test_an_optimizer_without_pytorchs_compiler_steps_as_the_one_with_it_to_the_last_digit(settings, kind):
    torch.manual_seed(0)
    networks = [torch.nn.Linear(5, 1) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    options = {"betas": (settings.beta1, settings.beta2)} if kind is torch.optim.AdamW else {}
    options |= {} if options else {"momentum": settings.momentum, "nesterov": settings.nesterov}
    ours = make_optimizer(networks[0], settings, 0.1, 0.2)
    both = [(networks[0], ours), (networks[1], kind(networks[1].parameters(), lr=0.1, weight_decay=0.2, **options))]
    for inputs in torch.randn(3, 4, 5):
        for network, optimizer in both:
            optimizer.zero_grad()
            network(inputs).square().mean().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
    assert all(map(torch.equal, networks[0].parameters(), networks[1].parameters()))
    assert not any(weight.requires_grad for state in ours.state.values() for weight in state.values() if weight.ndim)


def uint8_images(n, size=20):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), np.uint8)), rng.random((n, N_DRAWS))


def test_augmentation_without_settings_leaves_images_as_they_are_and_mirrors_exactly():
    pixels, draws = uint8_images(6)
    assert torch.allclose(augment(pixels, draws, NOTHING), pixels / 255, atol=1e-5)
    draws[:, 0] = [0.0, 0.49, 0.5, 0.51, 0.9, 0.99]
    half = augment(pixels, draws, Augmentation(0.5, 0, 0, 0, 0, 0, 0))
    expected = torch.cat([pixels[:2].flip(3), pixels[2:]]) / 255
    assert torch.allclose(half, expected, atol=1e-5)


def test_augmentation_turns_and_shifts_by_what_its_settings_say():
    pixels, draws = uint8_images(2)
    draws[:] = 0.5
    draws[0, 1], draws[1, 1] = 1, 0
    turned = augment(pixels, draws, Augmentation(0, 90, 0, 0, 0, 0, 0))
    quarter = [torch.rot90(pixels[0], k, (1, 2)) / 255 for k in (1, 3)]
    k = 0 if torch.allclose(turned[0], quarter[0], atol=1e-4) else 1
    assert torch.allclose(turned[0], quarter[k], atol=1e-4)
    assert torch.allclose(turned[1], torch.rot90(pixels[1], (3, 1)[k], (1, 2)) / 255, atol=1e-4)
    draws[:] = 0.5
    draws[:, 3] = 1
    shifted = augment(pixels, draws, Augmentation(0, 0, 0.25, 0, 0, 0, 0))
    assert torch.allclose(shifted[..., :15], pixels[..., 5:] / 255, atol=1e-5)


def test_each_image_is_augmented_by_its_own_draws_and_stays_in_range():
    pixels, draws = uint8_images(6)
    for settings in (Augmentation(), EVERYTHING):
        together = augment(pixels, draws, settings)
        for i in range(6):
            alone = augment(pixels[i : i + 1], draws[i : i + 1], settings)
            assert torch.allclose(alone[0], together[i], atol=1e-6)
        assert together.dtype == torch.float32 and together.min() >= 0 and together.max() <= 1
        copies = augment(pixels[:1].expand(6, -1, -1, -1), draws, settings)
        assert len({copy.numpy().tobytes() for copy in copies}) == 6


@pytest.mark.slow
def test_results_and_errors_do_not_depend_on_the_number_of_processes(table, fold, tmp_path):
    found = []
    for n_jobs in (1, 2):
        folder = tmp_path / str(n_jobs)
        folder.mkdir()
        fits, args = partial(in_a_fit, partial(job, table, fold, folder)), Namespace(n_jobs=n_jobs, engine="local")
        run_jobs(fits, [0, 1], set_up("cpu", "fp32", 2), args, 2)
        with pytest.raises(NonFiniteLossError) as error:
            run_jobs(fits, [2], set_up("cpu", "fp32", 2), args, 1)
        found.append([str(error.value), *((folder / f"{seed}").read_text() for seed in (0, 1))])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_results_are_in_the_order_of_the_items(on_cpu):
    for n_jobs in (1, 2):
        args = Namespace(n_jobs=n_jobs, engine="local")
        assert run_jobs(partial(in_a_fit, str), [3, 1, 2], on_cpu, args, 3) == ["3", "1", "2"]
        assert run_jobs(str, [], on_cpu, args, 0) == []


def test_a_device_that_is_not_there_is_refused(monkeypatch, on_cpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: not available"):
        set_up("cuda", "auto")
    assert (on_cpu.device, on_cpu.precision) == ("cpu", "fp32")
    assert set_up("cpu", "auto").precision == "fp32"
    assert torch.are_deterministic_algorithms_enabled()


def test_fast_math_makes_another_machine_of_a_gpu_and_changes_nothing_on_a_cpu(on_cpu):
    flags = cli.train_parser(None, 2).parse_args(["--fast-math", "--device", "cpu", "--precision", "fp32"])
    assert set_up_for(CONFIG, flags) == set_up("cpu", "fp32")
    machines = {}
    for deterministic in (True, False):
        gpu = replace(on_cpu, device="mps", deterministic=deterministic)  # saying what it is needs none
        machine = applied(gpu).machine
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        machines[deterministic] = machine.split(", ")
    assert set(machines[False]) - set(machines[True]) == {"fast math"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_fast_math_on_a_gpu_is_what_its_fits_run_with():
    flags = cli.train_parser(None, 2).parse_args(["--fast-math", "--precision", "fp32"])
    compute = set_up_for(CONFIG, flags)
    assert (compute.device, compute.deterministic) == ("cuda", False)
    assert torch.backends.cudnn.benchmark and not torch.are_deterministic_algorithms_enabled()
    assert set_up("cuda", "fp32").deterministic and torch.are_deterministic_algorithms_enabled()


FIRST_FIT = """
import json, sys
from common import cli, training
from step_3 import train

def run_jobs(run_root, roots, compute, args, n_fits):
    print(json.dumps([{"torch", "torchvision"} & set(sys.modules) != set(), compute.machine, compute.precision]))
    raise cli.UserError("enough")

training.run_jobs = run_jobs
cli.run(train.main)
"""


@pytest.mark.slow
def test_with_processes_a_script_comes_to_its_fits_without_pytorch_and_a_process_says_the_same(few_pets, tmp_path):
    def first_fit(*flags):
        return subprocess.run(
            [sys.executable, "-c", FIRST_FIT, "--data", few_pets, "--inner-splits", "1", *flags],
            env={**os.environ, "REPROAI_STATE": str(tmp_path), "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )

    small = ("--backbone", "squeezenet1_1", "--weights", "none")
    (needed, *by_process), (alone, *by_itself) = (  # the first one finds no audit of these images
        json.loads(first_fit("--n-jobs", n, *small).stdout.splitlines()[-1]) for n in ("2", "1")
    )
    assert (alone, needed) == (True, False) and by_itself == by_process


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"optimizer": partial(torch.optim.Adam, momentum=1)}, "optimizer: Adam cannot be made"),
        ({"schedulers": [torch.optim.lr_scheduler.ExponentialLR]}, "schedulers: ExponentialLR cannot be made"),
    ],
)
def test_an_optimizer_or_schedule_that_cannot_be_made_is_refused_before_a_run_begins(wrong, told):
    args = cli.train_parser(None, 3).parse_args(["--n-jobs", "1"])
    with pytest.raises(UserError, match=told):
        set_up_for(replace(CONFIG, **wrong), args)


def test_the_threads_of_a_fit_depend_on_the_fits_that_could_run_side_by_side(monkeypatch):
    monkeypatch.setattr(precision, "cores", lambda: 8)
    assert [set_up("cpu", "fp32", fits).threads for fits in (1, 2, 3, 20)] == [8, 4, 2, 1]
    assert torch.get_num_threads() == 1


def test_flags_change_the_settings_and_what_is_said_in_so_many_words_wins():
    def changed(*flags, base=CONFIG):
        after = configure(base, cli.train_parser(None, 2).parse_args(flags))
        return {k: v for k, v in vars(after).items() if v != getattr(base, k)}

    assert changed() == {}
    fast = changed("--fast", base=TrainingConfig(image_size=96))
    assert fast == {"image_size": 32, "warmup_epochs": 1, "epochs": 1}
    assert changed("--backbone", "resnet18") == {"backbone": "resnet18", "image_size": 224}
    inception = changed("--backbone", "inception_v3", "--fast")
    assert inception == {"backbone": "inception_v3", "image_size": 299, "epochs": 1}
    own = changed("--backbone", "resnet18", "--fast", "--image-size", "48")
    assert own == {"backbone": "resnet18", "image_size": 48, "epochs": 1}
    assert changed("--weights", "DEFAULT") == {"weights": "DEFAULT"}
    assert changed("--fast", base=replace(CONFIG, model=nn.Identity)) == {"warmup_epochs": 0, "epochs": 1}
    with_head = changed("--fast", base=replace(CONFIG, model=nn.Identity, head="classifier", warmup_epochs=5))
    assert with_head == {"warmup_epochs": 1, "epochs": 1}
