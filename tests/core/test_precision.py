"""The precision that is chosen: by a rule that no clock and no other process can change, or measured on request."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from common.config import Categorical, TrainingConfig
from common.training import precision, precision_for, set_up
from conftest import PROJECT

SIZES = {"small_cnn": 64, "mobilenet_v3_small": 224, "resnet18": 224, "densenet121": 224}
CONFIG = TrainingConfig(image_size=32, batch_size=8)
CHOOSE = f"""
from common.config import TrainingConfig
from common.training import set_up
for name, size in {SIZES}.items():
    config = TrainingConfig(backbone=name, image_size=size, weights="none")
    print(name, set_up("cpu", "auto", 1000, config).precision)
"""
FLAGS = {"AVX-512": {"avx512_bf16": True}, "AMX": {"amx_bf16": True}, "AVX2": {"avx2": True}, "Arm": {"bf16": True}}


@pytest.fixture
def processor(monkeypatch):
    """Another processor than the one that is here."""
    return lambda name: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FLAGS[name])


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path / "cache"


def fresh_start():
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", CHOOSE], env=environment, capture_output=True, text=True)
    return done.stdout or done.stderr


@pytest.mark.slow
@pytest.mark.hostile("the same command takes the same precision, also on a busy machine", cases=160)
@pytest.mark.parametrize(("n_busy", "at_once"), [(0, 1), (6, 4)])
def test_forty_fresh_starts_take_the_same_precision(n_busy, at_once):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_busy)]
    try:
        with ThreadPoolExecutor(at_once) as starts:
            answers = set(starts.map(lambda _: fresh_start(), range(40)))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert answers == {"".join(f"{name} {precision_for(name, 'cpu')}\n" for name in SIZES)}


@pytest.mark.hostile("the same command takes the same precision, also on a busy machine")
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("AVX-512", ["bf16", "fp32", "bf16", "bf16"]),
        ("AMX", ["bf16", "fp32", "bf16", "bf16"]),
        ("AVX2", ["fp32"] * 4),
        ("Arm", ["fp32"] * 4),
    ],
)
def test_the_rule_knows_the_processor_and_the_backbone_and_takes_no_step(name, chosen, processor, cached, monkeypatch):
    processor(name)
    monkeypatch.setattr(precision, "_step", lambda *_: pytest.fail("measured"))
    configs = [TrainingConfig(backbone=backbone, image_size=size, weights="none") for backbone, size in SIZES.items()]
    assert [set_up("cpu", "auto", 1000, config).precision for config in configs] == chosen
    assert [set_up("cpu", "bf16", 1000, config).precision for config in configs] == ["bf16"] * 4
    assert {precision_for(backbone, device) for backbone in SIZES for device in ("cuda", "mps")} == {"fp32"}
    assert not cached.exists()


@pytest.mark.parametrize(
    ("backbone", "chosen"), [("vit_b_16", "bf16"), ("efficientnet_b0", "fp32"), ("resnext50_32x4d", "bf16")]
)
def test_any_backbone_is_judged_by_its_layers_without_its_numbers(backbone, chosen, processor):
    processor("AVX-512")
    before = torch.get_rng_state()
    assert precision_for(backbone, "cpu") == chosen
    assert torch.equal(torch.get_rng_state(), before)


def test_a_backbone_that_is_searched_has_its_own_precision(processor):
    processor("AVX-512")
    names = ["mobilenet_v3_small", "resnet18"]
    compute = set_up("cpu", "auto", 1000, replace(CONFIG, backbone=Categorical(names), weights="none"))
    assert compute.precision_description == "fp32, resnet18 bf16"


@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (8.0, "fp32")])
def test_measure_takes_what_is_clearly_faster_now_and_keeps_nothing(bf16, chosen, cached, monkeypatch):
    monkeypatch.setattr(precision, "_step", lambda network, images: bf16 if network.precision == "bf16" else 1.0)
    assert set_up("cpu", "measure", 1000, CONFIG).precision == chosen
    monkeypatch.setattr(precision, "_step", lambda network, images: 0.1 if network.precision == "bf16" else 1.0)
    assert set_up("cpu", "measure", 1000, CONFIG).precision == "bf16"
    assert not cached.exists()
