"""Networks of one's own: any `nn.Module`, named in a config by its class, a `partial` of it, or an instance."""

from __future__ import annotations

import importlib
import inspect
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from common.cli import UserError
from common.moved import MODULES

FILLED_IN = ("input_shape", "n_classes")
"""Arguments that a network gets from the data."""
OF_FACTORY = ("device", "dtype")
"""Arguments of PyTorch's own layers that say where their weights are made."""


def build_module(model: Any, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A new network from what a config holds.

    Parameters
    ----------
    model : class, functools.partial, or instance
        Of ``nn.Module``. Where its ``__init__`` takes ``input_shape`` or ``n_classes`` and is not given them, it gets
        these. An instance is built anew from its arguments, see :func:`arguments_of`, so that its weights are seeded.
    input_shape : tuple of int
        Of one image or array, such as (1, 64, 64).
    n_classes : int

    Raises
    ------
    UserError
        When it cannot be built.
    """
    if isinstance(model, nn.Module):
        model = partial(type(model), **arguments_of(model))
    kind = model.func if isinstance(model, partial) else model
    name = getattr(kind, "__name__", f"{kind!r:.80}")
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"model {name}: expected a class of nn.Module, a partial of one, or an instance")
    model = model if isinstance(model, partial) else partial(model)
    taken = inspect.signature(kind).parameters
    ours = dict(zip(FILLED_IN, (input_shape, n_classes), strict=True))
    given = {key: value for key, value in ours.items() if key in taken and key not in model.keywords}
    try:
        return model(**given)
    except UserError:
        raise
    except Exception as error:  # a network of somebody else's raises what it likes
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {name}: cannot be built for inputs of shape {input_shape} ({reason})") from error


def take_off(network: nn.Module, head: str, inputs: torch.Tensor) -> nn.Module:
    """The part of a network that is named `head`; without it the network gives features.

    Parameters
    ----------
    inputs : Tensor
        Of a few images or arrays, to try it with.

    Raises
    ------
    UserError
        When there is no such part, it is not the last thing that the network does, or the network trains itself.
    """
    name, field = type(network).__name__, f"TrainingConfig.head: {head!r}"
    parts = dict(network.named_modules())
    if not head or head not in parts or not any(True for _ in parts[head].parameters()):
        known = [part for part, module in network.named_children() if any(True for _ in module.parameters())]
        raise UserError(f"{field} is no part of {name} with weights; it has {', '.join(known)}")
    for step in ("training_step", "validation_step"):
        if hasattr(network, step):
            raise UserError(f"{field}: {name} has a {step} of its own, so its parts cannot be trained alone")
    part, was_training, given = parts[head], network.training, []
    watching = part.register_forward_hook(lambda _module, _inputs, logits: given.append(logits))
    try:
        with torch.no_grad():
            logits = network.eval()(inputs)
    except Exception as error:  # a network of somebody else's raises what it likes
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {name}: does not take inputs of shape {tuple(inputs.shape[1:])} ({reason})") from error
    finally:
        watching.remove()
    if len(given) != 1 or not torch.equal(given[0], logits):
        raise UserError(f"{field} is not the last thing that {name} does; expected the part that gives the logits")
    place, _, last = head.rpartition(".")
    setattr(parts[place], last, nn.Identity())
    network.train(was_training)
    return part


def arguments_of(module: nn.Module) -> dict[str, Any]:
    """The arguments that a module was made with, which it must keep under their own names, as scikit-learn's do.

    Raises
    ------
    UserError
        When it does not.
    """
    kind, found = type(module), {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name == "self":
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(
                f"model {kind.__name__}(...): an instance does not keep what came as {str(parameter).split(':')[0]}; "
                f"expected a class of your own, or functools.partial({kind.__name__}, ...)"
            )
        if not hasattr(module, name) or isinstance(getattr(module, name), nn.Module):
            if name in FILLED_IN or (name in OF_FACTORY and kind.__module__.startswith("torch.")):
                continue
            raise UserError(
                f"model {kind.__name__}(...): it does not keep its argument {name} as an attribute of that name; "
                f"expected it to, or functools.partial({kind.__name__}, {name}=...)"
            )
        found[name] = getattr(module, name)
        if name in module._parameters:  # such as the bias of PyTorch's own layers: whether there is one
            found[name] = found[name] is not None
    return found


def as_record(value: Any) -> Any:
    """A network of one's own, or a transform, as what JSON can hold; :func:`from_record` reads it."""
    if isinstance(value, nn.Module):
        value = partial(type(value), **arguments_of(value))
    if isinstance(value, partial):
        return {"call": _path(value.func), "keywords": {name: as_record(v) for name, v in value.keywords.items()}}
    if isinstance(value, type) or inspect.isfunction(value):
        return {"name": _path(value)}
    if isinstance(value, dict):
        return {"dict": {name: as_record(item) for name, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [as_record(item) for item in value]
    return value


def from_record(record: Any) -> Any:
    """What :func:`as_record` was given; tuples come back as lists, and instances as partials."""
    if isinstance(record, list):
        return [from_record(item) for item in record]
    if not isinstance(record, dict):
        return record
    if "call" in record:
        return partial(_named(record["call"]), **{k: from_record(v) for k, v in record["keywords"].items()})
    return _named(record["name"]) if "name" in record else {k: from_record(v) for k, v in record["dict"].items()}


def _path(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return attrgetter(name)(importlib.import_module(MODULES.get(module, module)))
