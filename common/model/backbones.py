"""Backbones by name, with their weights: `small_cnn`, and every classification model of torchvision."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from common.cli import UserError
from common.state import regular, whole


def load_backbone(name: str, weights: str = "DEFAULT") -> tuple[nn.Module, int, tuple, tuple]:
    """A network without its classification layer.

    Parameters
    ----------
    name : str
        ``small_cnn`` or the name of a torchvision classification model.
    weights : str
        ``DEFAULT`` (the shipped ones, or torchvision's best pretrained ones), ``none`` (random), or the path of a
        state dict of the backbone (``.safetensors``, or what ``torch.save`` writes).

    Returns
    -------
    backbone : nn.Module
        From float images (B, 3, H, W), normalised, to features (B, n_features).
    n_features : int
    mean, std : tuple of 3 floats
        Normalisation that the weights were trained with, for images in [0, 1].

    Raises
    ------
    UserError
        When there is no such model, or its weights cannot be had or do not fit.
    """
    if name == "small_cnn":
        from common.model import small_cnn

        backbone, dropped = small_cnn.SmallCNN(), ()
        n_features, mean, std = backbone.out_features, small_cnn.MEAN, small_cnn.STD
    elif _is_torchvision_model(name):
        backbone = _torchvision_model(name, pretrained=weights != "none")
        n_features, dropped = _drop_classification_layer(backbone)
        transforms = _default_weights(name).transforms()
        mean, std = tuple(transforms.mean), tuple(transforms.std)
    else:
        raise UserError(f"--backbone {name}: no such model; expected small_cnn or one of torchvision's, e.g. resnet18")
    path = weights_file(name, weights)
    if path is not None:
        if weights == "DEFAULT" and name != "small_cnn":
            _fetch(name, _default_weights(name).url, path)
        _load_state(backbone, _read_weights(path), f"{path}: these weights do not fit {name}", dropped)
    return backbone, n_features, mean, std


def weights_file(name: str, weights: str) -> Path | None:
    """The file that :func:`load_backbone` reads for these arguments; None for random weights."""
    if weights == "none":
        return None
    if weights != "DEFAULT":
        return Path(weights)
    if name == "small_cnn":
        from common.model import small_cnn

        return small_cnn.WEIGHTS
    return _checkpoint(_default_weights(name).url)


def _is_torchvision_model(name: str) -> bool:
    if name == "small_cnn":  # torchvision takes seconds to import
        return False
    from common.model.vision import models

    return name in models.list_models(module=models)


def _torchvision_model(name: str, pretrained: bool) -> nn.Module:
    from common.model.vision import models

    if name in ("googlenet", "inception_v3"):
        return models.get_model(name, weights=None, aux_logits=False, init_weights=True, transform_input=pretrained)
    if name.startswith("vit_"):
        return models.get_model(name, weights=None, image_size=native_image_size(name))
    return models.get_model(name, weights=None)


def _default_weights(name: str):
    from common.model.vision import models

    return models.get_model_weights(name).DEFAULT


def _checkpoint(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def _fetch(name: str, url: str, path: Path) -> None:
    """Download torchvision's weights into torch's folder of checkpoints, if missing, and check their hash."""
    if not path.exists():
        try:
            with whole(path) as part:
                torch.hub.download_url_to_file(url, str(part))
        except OSError as error:
            raise UserError(
                f"--backbone {name}: its weights could not be fetched ({error}); put {url} into {path.parent}, "
                "or use --weights none, --weights PATH or --backbone small_cnn"
            ) from error
    expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if expected and not found.startswith(expected[1]):
        raise UserError(f"{path}: damaged (SHA-256 {found[:8]}…, expected {expected[1]}…); remove it and run again")


def _read_weights(path: Path) -> dict:
    try:
        if path.suffix == ".safetensors":
            return load_file(regular(path))
        state = torch.load(regular(path), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"--weights {path}: no such file; expected DEFAULT, none or the path of a state dict"
        ) from error
    except Exception as error:  # what unpickling raises depends on the bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"--weights {path}: not a state dict ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f"--weights {path}: not a state dict but a {type(state).__name__}")
    return state


def _load_state(network: nn.Module, state: dict, problem: str, dropped: tuple[str, ...]) -> None:
    # torchvision's DenseNet checkpoints have keys from before its layers were renamed
    named = {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): v for key, v in state.items()}
    kept = OrderedDict((key, v) for key, v in named.items() if not key.startswith(dropped))
    kept._metadata = getattr(state, "_metadata", {"": {"version": network._version}})  # MNASNet asks for its version
    try:
        missing, unexpected = network.load_state_dict(kept, strict=False)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{problem}: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        kinds = {"missing": missing, "unknown": unexpected}
        differs = [f"{len(keys)} {kind} ({keys[0]})" for kind, keys in kinds.items() if keys]
        raise UserError(f"{problem}: {', '.join(differs)}")


def _drop_classification_layer(network: nn.Module) -> tuple[int, tuple[str, ...]]:
    """Take off the last linear layer; returns the number of features and the prefixes of the weights taken off."""
    if type(network).__name__ == "SqueezeNet":
        network.classifier = nn.AdaptiveAvgPool2d(1)
        return 512, ("classifier.",)
    name, layer = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return layer.in_features, (f"{name}.", "aux1.", "aux2.", "AuxLogits.")


def native_image_size(name: str) -> int:
    """The image size, in pixels, that a backbone's pretrained weights were made for."""
    if not _is_torchvision_model(name):
        return 64
    return _default_weights(name).transforms().crop_size[0]
