"""Backbones and their weights, and the classifier: what is frozen stays, what is random comes from its stream."""

import functools
import hashlib
import http.server
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import regnet

from common.cli import UserError
from common.config import TrainingConfig
from common.data.folding import Fold
from common.data.images import ImageTable
from common.model import backbones
from common.model.backbones import load_backbone, native_image_size
from common.model.classifier import load_classifier, make_classifier, save_classifier
from common.seeds import Stream
from common.state import PROJECT
from common.training import make_optimizer, new_model, set_up, test_model as predict, train_and_validate_model
from common.training.networks import check_network

NAME, URL = "shufflenet_v2_x0_5", models.ShuffleNet_V2_X0_5_Weights.DEFAULT.value
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8))


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Own(nn.Module):
    """A network with a head inside, as networks from elsewhere come."""

    def __init__(self, n_classes, flips=False):
        super().__init__()
        self.flips = flips
        self.net = nn.ModuleDict(
            {"body": nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True))}
        )
        self.net["fc"] = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1 if n_classes == 2 else n_classes))

    def forward(self, images):
        logits = self.net["fc"](self.net["body"](images).mean((2, 3)))
        return -logits if self.flips else logits


@pytest.mark.parametrize("own", [{}, {"model": Own, "head": "net.fc"}], ids=["backbone", "own network"])
def test_a_frozen_backbone_is_bit_identical_after_the_warm_up_and_the_head_has_learned(own, tmp_path):
    rows = np.arange(12)
    table = ImageTable("t", Path(), ("",) * 12, rows % 2, ("cat", "dog"), None, ("",) * 12, pixels=IMAGES.numpy())
    config = TrainingConfig(image_size=32, batch_size=4, dropout_rate=0.5, **own)
    network = new_model(config, table, set_up("cpu", "fp32"), Stream(0))
    backbone, head = state_of(network.backbone), state_of(network.head)
    assert any("running_var" in name for name in backbone)

    def train():
        optimizer = make_optimizer(network, config.optimizer, 1e-2, 0.1)
        train_and_validate_model(
            network, table, Fold(0, 0, rows, rows, rows), optimizer, 3, config, Stream(0), lambda metrics, step: None
        )

    network.freeze_backbone()
    train()
    assert same(state_of(network.backbone), backbone)
    assert not any(torch.equal(value, head[name]) for name, value in network.head.state_dict().items())
    network.freeze_backbone(False)
    train()
    changed = [not torch.equal(value, backbone[name]) for name, value in network.backbone.state_dict().items()]
    assert all(changed)
    save_classifier(network, tmp_path / "network.safetensors")
    loaded = load_classifier(tmp_path / "network.safetensors")
    assert torch.allclose(loaded(IMAGES), network.eval()(IMAGES), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (Own, "fc", "TrainingConfig.head: 'fc' is no part of Own with weights; it has net"),
        (Own, "net.body.2", "'net.body.2' is no part of Own with weights"),
        (Own, "net.body", "TrainingConfig.head: 'net.body' is not the last thing that Own does"),
        (partial(Own, flips=True), "net.fc", "'net.fc' is not the last thing that Own does"),
    ],
)
def test_a_head_is_the_last_part_that_has_weights(model, head, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_classifier(Stream(0), input_shape=(3, 32, 32), model=model, head=head)


class Odd(nn.Module):
    """Uses a layer twice, draws numbers when it predicts, and does not keep `width`."""

    def __init__(self, width=4):
        super().__init__()
        self.first = self.again = nn.Linear(width, width)

    def forward(self, images):
        features = images.mean((1, 3))[:, : self.first.in_features]
        return self.again(self.first(features + torch.randn_like(features))).mean(1, keepdim=True)


class Rest(Odd):
    def __init__(self, **rest):
        super().__init__(**rest)


class Still(Odd):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


def network_of(model):
    pixels = IMAGES.numpy()
    table = ImageTable("t", Path(), ("",) * 12, np.arange(12) % 2, ("cat", "dog"), None, ("",) * 12, pixels=pixels)
    config = TrainingConfig(image_size=32, model=model, warmup_epochs=0)
    return new_model(config, table, set_up("cpu", "fp32"), Stream(0)), table


def test_a_network_that_shares_weights_and_draws_numbers_predicts_the_same_each_time_and_when_it_is_stored(tmp_path):
    network, table = network_of(partial(Odd, width=8))
    first = predict(network, table, np.arange(12))
    assert np.array_equal(first, predict(network, table, np.arange(12)))
    save_classifier(network, tmp_path / "network.safetensors")
    assert np.array_equal(first, predict(load_classifier(tmp_path / "network.safetensors"), table, np.arange(12)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Odd(8), "model Odd(...): it does not keep its argument width"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)),
            "model Sequential(...): an instance does not keep what came as *a",
        ),
        (
            Rest(width=9),
            "model Rest(...): an instance does not keep what came as **rest; expected a class",
        ),
        ("models.Own", "model 'models.Own': expected a class of nn.Module, a partial of one, or an instance"),
        (5, "model 5: expected a class of nn.Module"),
        (Still, "model Still: it has no weights to train"),
    ],
)
def test_a_model_that_would_not_be_the_one_that_was_given_is_refused_in_one_line(model, message):
    with pytest.raises(UserError, match=re.escape(message)):
        network_of(model)


def test_images_in_bytes_and_in_floats_give_the_same_logits():
    network = make_classifier(Stream(0), weights="DEFAULT", hidden_dim=8).eval()
    logits = network(IMAGES)
    assert torch.equal(logits, network(IMAGES.float() / 255))
    assert logits.shape == (12,) and logits.dtype == torch.float32
    assert torch.allclose(logits[3:4], network(IMAGES[3:4]), atol=1e-5)


def test_random_weights_come_from_the_stream_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_classifier(Stream(0).at("model"), weights="none", hidden_dim=8).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, make_classifier(Stream(0).at("model"), weights="none", hidden_dim=8).state_dict())
    other = make_classifier(Stream(1).at("model"), weights="none", hidden_dim=8).state_dict()
    assert not torch.equal(first["head.1.weight"], other["head.1.weight"])
    assert not torch.equal(first["backbone.blocks.0.0.weight"], other["backbone.blocks.0.0.weight"])


def test_the_embedded_backbone_ships_its_weights():
    first, other = (make_classifier(Stream(seed), weights="DEFAULT", hidden_dim=8) for seed in (0, 1))
    assert same(first.backbone.state_dict(), other.backbone.state_dict())
    assert not same(first.head.state_dict(), other.head.state_dict())
    assert backbones.weights_file("small_cnn", "DEFAULT").stat().st_size <= 2**20


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_every_family_of_torchvision_models_is_a_backbone_at_its_own_image_size(monkeypatch):
    def on_the_cpu(block_params):  # RegNet computes its widths with tensors, which have no values on "meta"
        @functools.wraps(block_params)
        def compute(*arguments, **options):
            with torch.device("cpu"):
                return block_params(*arguments, **options)

        return compute

    for draw in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, draw, lambda tensor, *arguments, **options: tensor)
    monkeypatch.setattr(regnet.BlockParams, "from_init_params", on_the_cpu(regnet.BlockParams.from_init_params))
    names = models.list_models(module=models)
    assert len(names) >= 80 and all(native_image_size(name) >= 224 for name in names)
    names.sort(key=lambda name: -models.get_model_weights(name).DEFAULT.meta["num_params"])
    families = {re.match(r"[a-z]+(_v\d)?", name)[0]: name for name in names}  # the smallest of each
    assert len(families) >= 20
    for name in families.values():
        size = native_image_size(name)
        resized = {"image_size": size} if name.startswith("vit_") else {}
        with torch.device("meta"):
            checkpoint = models.get_model(name, **resized).state_dict()
            monkeypatch.setattr(backbones, "_read_weights", lambda path, checkpoint=checkpoint: checkpoint)
            backbone, n_features, mean, std = load_backbone(name, "checkpoint.pth")
        shape = tuple(backbone.eval()(torch.zeros(2, 3, size, size, device="meta")).shape)
        assert (shape, len(mean), len(std)) == ((2, n_features), 3, 3), name


def test_a_backbone_of_torchvision_needs_no_compiler_and_its_operations_still_find_it():
    code = """
import sys
from common.model.backbones import load_backbone
load_backbone("squeezenet1_1", "none")
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))]
from torchvision.ops import roi_align
import torch
sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
assert sys.modules["torch._dynamo.utils"] is torch._dynamo.utils and hasattr(torch._dynamo, "optimize")
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_an_unknown_backbone_and_an_image_size_that_does_not_fit_are_refused():
    with pytest.raises(UserError, match=r"--backbone resnet19: .* expected small_cnn or .* resnet18"):
        load_backbone("resnet19", "none")
    config = TrainingConfig(backbone="vit_b_16", weights="none", image_size=64)
    with pytest.raises(UserError, match=r"--image-size 64: does not fit vit_b_16"):
        check_network(config)
    check_network(TrainingConfig(weights="none", image_size=16))


def checkpoint_of(name):
    """The state of a whole model, with its classification layer and weights that no fresh model has."""
    torch.manual_seed(0)
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else value + 7
        for key, value in models.get_model(name).state_dict().items()
    }


@pytest.fixture(scope="module")
def checkpoint():
    return checkpoint_of(NAME)


@pytest.fixture
def served(checkpoint, tmp_path, monkeypatch):
    """The checkpoint as torchvision's weights on a loopback server; its path, and the requests so far."""
    (tmp_path / "web").mkdir()
    path = tmp_path / "web" / "weights.pth"
    torch.save(checkpoint, path)
    path = path.rename(path.with_name(f"shufflenet-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"))
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=path.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr(URL, "url", f"http://127.0.0.1:{server.server_port}/{path.name}")
        yield path, requests
        server.shutdown()


def assert_loaded(backbone, checkpoint):
    state = backbone.state_dict()
    assert all(torch.equal(value, checkpoint[name]) for name, value in state.items())
    assert {name.split(".")[0] for name in checkpoint.keys() - state.keys()} in ({"fc"}, {"classifier"})


def test_pretrained_weights_are_downloaded_once_and_checked(served, checkpoint, tmp_path):
    path, requests = served
    for _ in range(2):
        assert_loaded(load_backbone(NAME)[0], checkpoint)
    assert requests == [f"/{path.name}"]
    (kept,) = (tmp_path / "torch" / "hub" / "checkpoints").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"^{re.escape(str(kept))}: damaged .* remove it and run again"):
        load_backbone(NAME)
    kept.unlink()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"^{re.escape(str(kept))}: damaged"):
        load_backbone(NAME)


def test_without_a_network_the_message_says_which_file_belongs_where(served, checkpoint, tmp_path, monkeypatch):
    path, _ = served
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    url = f"http://127.0.0.1:9/{path.name}"
    monkeypatch.setattr(URL, "url", url)
    with pytest.raises(UserError) as error:
        load_backbone(NAME)
    message = str(error.value)
    assert all(part in message for part in (NAME, url, str(folder), "--weights none", "--weights PATH", "small_cnn"))
    assert "\n" not in message and list(folder.iterdir()) == []
    path.rename(folder / path.name)
    assert_loaded(load_backbone(NAME)[0], checkpoint)


@pytest.mark.parametrize("name", [NAME, "mnasnet0_5"])  # MNASNet's state dicts have a version
def test_own_weights_come_from_either_kind_of_file_with_or_without_the_classification_layer(name, tmp_path):
    checkpoint = checkpoint_of(name)
    torch.save(checkpoint, tmp_path / "whole.pth")
    save_file(checkpoint, tmp_path / "whole.safetensors")
    save_file(load_backbone(name, str(tmp_path / "whole.pth"))[0].state_dict(), tmp_path / "backbone.safetensors")
    for path in tmp_path.iterdir():
        assert_loaded(load_backbone(name, str(path))[0], checkpoint)


def test_densenet_takes_checkpoints_from_before_its_layers_were_renamed():
    fresh = models.densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v + 1 for k, v in fresh.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "_read_weights", lambda path: old)
        state = load_backbone("densenet121", "old.pth")[0].state_dict()
    assert all(torch.equal(value, fresh[name] + 1) for name, value in state.items())


NO_WEIGHTS = {"nothing": b"", "zip": b"PK\x03\x04", "text": b"a text", "pickle": b"\x80\x02}q\x00"}


def test_weights_that_do_not_fit_are_refused_in_one_line(checkpoint, tmp_path):
    first = next(iter(checkpoint))
    cases = {
        "less.pth": ({k: v for k, v in checkpoint.items() if k != first}, f"{NAME}: 1 missing ({first})"),
        "more.pth": ({**checkpoint, "extra": torch.zeros(1)}, f"{NAME}: 1 unknown (extra)"),
        "shape.pth": ({**checkpoint, first: torch.zeros(1)}, f"size mismatch for {first}"),
        "nested.pth": ({"epoch": 3, "model": checkpoint}, "2 unknown (epoch)"),
        "list.pth": ([1, 2], "not a state dict"),
        "keys.pth": ({1: torch.zeros(1)}, "not a state dict"),
        **{f"{name}.pth": (content, "not a state dict (") for name, content in NO_WEIGHTS.items()},
        **{f"{name}.safetensors": (content, "not a state dict (") for name, content in NO_WEIGHTS.items()},
        "absent.pth": (..., "no such file; expected DEFAULT, none or the path"),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not ...:
            torch.save(content, path)
        with pytest.raises(UserError) as error:
            load_backbone(NAME, str(path))
        assert str(path) in str(error.value) and expected in str(error.value), name
        assert "\n" not in str(error.value), name
