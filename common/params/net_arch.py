"""Networks from a list of layers, `net_arch`: built and checked layer by layer against the images that go in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import nn

from common.cli import UserError, did_you_mean
from common.seeds import Stream

WANTED = {"in_channels": (0, "channels"), "num_features": (0, "channels"), "num_channels": (0, "channels")} | {
    "in_features": (-1, "values in the last dimension")
}
"""What layers say about their input: which dimension it is about, and the word for it."""


class NetArchClassifier(nn.Module):
    """A stack of layers that ends in a fully connected one, over `n_classes` classes.

    Its output is probabilities. To train it, take :meth:`log_probabilities` with ``nn.NLLLoss()`` or :meth:`logits`
    with ``nn.CrossEntropyLoss()``: these are the cross-entropy, also where a probability rounds to 0 or 1.
    ``nn.CrossEntropyLoss()`` on the output itself runs and learns, more slowly: it takes the softmax a second time, so
    that the loss of a perfect answer is log(1 + (n_classes - 1) / e) and not 0, and gradients vanish where the network
    is surely wrong.

    Parameters
    ----------
    layers : nn.Sequential
        From images to one logit per class.
    """

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-probabilities, shape (B, n_classes); `images` as for :meth:`forward`."""
        return self.layers(images.float() / 255 if images.dtype == torch.uint8 else images)

    def log_probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Natural logarithms of the class probabilities, shape (B, n_classes), finite however small those are."""
        return self.logits(images).log_softmax(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities, shape (B, n_classes): each row sums to 1.

        Parameters
        ----------
        images : Tensor, shape (B, C, H, W)
            uint8 in 0-255, or float as the network was trained with.
        """
        return self.logits(images).softmax(1)


def build_classifier(params: Mapping[str, object], stream: Stream | None = None) -> NetArchClassifier:
    """The network that ``params["net_arch"]`` lists, with a Flatten and the fully connected layer appended.

    Parameters
    ----------
    params : mapping
        ``net_arch``: a list of ``{"class": ..., "kwargs": {...}}``, where the class is a module class, or the name of
        one of ``torch.nn`` ("Conv2d" or "torch.nn.Conv2d"); ``image_height`` and ``image_width`` in pixels;
        ``is_image_color``: 3 channels, else 1; ``n_classes``; and ``manual_seed``, if there. Other keys are not looked
        at.
    stream : Stream, optional
        Where the first weights come from; without it from ``manual_seed``, and without that from torch's global
        generator, which is otherwise left as it is.

    Raises
    ------
    UserError
        Naming the first layer that does not exist, cannot be made or does not fit: its number (from 1), its class,
        what came in and what it expects.
    """
    height, width, n_classes = (
        _whole_number(params, name, low) for name, low in [("image_height", 1), ("image_width", 1), ("n_classes", 2)]
    )
    is_color = params.get("is_image_color")
    if not isinstance(is_color, bool):
        raise UserError(f"is_image_color: expected True or False, found {is_color!r}")
    listed = params.get("net_arch")
    if not isinstance(listed, list | tuple):
        raise UserError(f"net_arch: expected a list of {{'class': ..., 'kwargs': {{...}}}}, found {listed!r}")
    if stream is None and params.get("manual_seed") is not None:
        stream = Stream(_whole_number(params, "manual_seed", 0)).at("model")
    with torch.random.fork_rng(enabled=stream is not None), torch.no_grad():
        if stream is not None:
            torch.manual_seed(stream.integer())
        layers = [_make(number, entry) for number, entry in enumerate(listed, 1)]
        images = torch.zeros(2, 3 if is_color else 1, height, width)
        features = _run_through(layers, images).flatten(1)
        layers += [nn.Flatten(), nn.Linear(features.shape[1], n_classes)]
    return NetArchClassifier(nn.Sequential(*layers)).train()


def _whole_number(params: Mapping[str, object], name: str, low: int) -> int:
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{name}: expected a whole number of at least {low}, found {value!r}")
    return value


def _make(number: int, entry: object) -> nn.Module:
    if not isinstance(entry, Mapping) or "class" not in entry or set(entry) - {"class", "kwargs"}:
        raise UserError(f"net_arch, layer {number}: expected {{'class': ..., 'kwargs': {{...}}}}, found {entry!r}")
    kind = _class_of(number, entry["class"])
    kwargs = entry.get("kwargs") or {}
    expected = ", ".join(name for name in inspect.signature(kind).parameters if name not in ("device", "dtype"))
    if not isinstance(kwargs, Mapping):
        raise UserError(f"{_name(number, kind)}: kwargs: expected a dict with some of {expected}, found {kwargs!r}")
    try:
        return kind(**kwargs)
    except Exception as error:  # each layer checks its arguments in its own way
        raise UserError(f"{_name(number, kind)}: kwargs: {_reason(error)}; it takes {expected}") from error


def _class_of(number: int, given: object) -> type[nn.Module]:
    kind = given
    if isinstance(given, str) and ("." not in given or given.startswith("torch.nn.")):
        kind = getattr(nn, given.rpartition(".")[2], None)
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return kind
    known = [name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    hint = did_you_mean(str(given).rpartition(".")[2], known) or ", such as Conv2d"
    raise UserError(f"net_arch, layer {number}: class {given!r}: expected a class of torch.nn{hint}")


def _run_through(layers: list[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """The output of the layers for a batch of images; they are as new afterwards."""
    values, source = images, "the images"
    for number, layer in enumerate(layers, 1):
        name = _name(number, type(layer))
        came_in = f"found {_size(values)} from {source}"
        try:
            out = layer.eval()(values)
        except Exception as error:  # and its input too
            wanted = _wanted(layer, values.shape[1:]) or f"what fits it: {_reason(error)}"
            raise UserError(f"{name}: {came_in}, expected {wanted}") from error
        if not isinstance(out, torch.Tensor) or out.ndim < 2 or len(out) != len(images) or not out.numel():
            gave = f"a tensor of {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
            raise UserError(
                f"{name}: {came_in}, and makes {gave} of a batch of {len(images)}, expected values for each"
            )
        values, source = out, f"layer {number} ({type(layer).__name__})"
    return values


def _wanted(layer: nn.Module, shape: torch.Size) -> str | None:
    """What of the input does not fit what the layer says about itself."""
    for name, (axis, word) in WANTED.items():
        number = getattr(layer, name, None)
        if isinstance(number, int) and number != shape[axis]:
            return f"{number} {word} ({name})"
    kernel = getattr(layer, "kernel_size", None)
    if kernel is None or "Transpose" in type(layer).__name__ or len(shape) != 3:
        return None
    given = {name: getattr(layer, name, default) for name, default in (("padding", 0), ("dilation", 1))}
    kernel, padding, dilation = (_pair(value) for value in (kernel, *given.values()))
    least = [d * (k - 1) + 1 - 2 * p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    if least[0] > shape[1] or least[1] > shape[2]:
        return f"at least {least[0]} x {least[1]} pixels (kernel_size {kernel[0]} x {kernel[1]})"
    return None


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, str):  # padding "same" or "valid"
        return 0, 0
    return (value, value) if isinstance(value, int) else tuple(value)


def _name(number: int, kind: type[nn.Module]) -> str:
    return f"net_arch, layer {number} ({kind.__name__})"


def _size(values: torch.Tensor) -> str:
    if values.ndim == 4:
        channels, height, width = values.shape[1:]
        return f"{channels} channels of {height} x {width} pixels"
    return f"{' x '.join(map(str, values.shape[1:]))} values"


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text.replace(f"{type(error).__name__}: ", "").rstrip(".")
