"""The settings of a configurable classifier as one dict, `params`, and the `TrainingConfig` that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from common.cli import did_you_mean
from common.config.places import first_values
from common.config.settings import TrainingConfig
from common.config.spaces import Categorical, FieldError, Space
from common.params.keys import OF_NETWORK, Params, announce, read_params


def from_params(params: object) -> TrainingConfig:
    """The config that trains what `params` describe.

    Raises
    ------
    UserError
        Naming the key that is unknown, missing or wrong, or the layer that does not fit; of searched values the first
        ones are tried.
    """
    from common.params.configurable import ParamsClassifier

    read = read_params(params)
    sizes = [value for name in ("image_height", "image_width") for value in _all_values(getattr(read, name))]
    schedules = _each(read.learning_rate_schedule, lambda listed: tuple(_schedule(entry) for entry in _listed(listed)))
    config = TrainingConfig(
        image_size=max(16, *sizes),
        batch_size=read.batch_size,
        warmup_epochs=0,
        epochs=read.num_epochs,
        patience=max(_all_values(read.num_epochs)),
        learning_rate=read.learning_rate,
        weight_decay=0.0,
        optimizer=partial(params_optimizer, optim_class=read.optim_class, optim_kwargs=read.optim_kwargs),
        schedulers=schedules,
        augmentation=None,
        shuffle=read.shuffle_dataset,
        eval_batch_size=read.eval_batch_size,
        eval_every=read.eval_freq,
        save_every=read.save_freq,
        model=partial(
            ParamsClassifier, expected_classes=read.n_classes, **{name: getattr(read, name) for name in OF_NETWORK}
        ),
    )
    _check_parts(read, first_values(config))
    return config


def for_experiment(params: object) -> dict[str, Any]:
    """What `params` say of the whole experiment: values for its flags; the messaging keys go into the environment.

    Raises
    ------
    FieldError
        As :func:`common.params.keys.read_params`, and where the mode is ``test``.
    """
    read = read_params(params)
    if read.mode == "test":
        raise FieldError("params.mode", "expected 'train', found 'test', which common.params.train(...) takes")
    announce(read)
    return {"seed": read.manual_seed, "device": read.device}


def params_optimizer(
    weights: list, lr: float, weight_decay: float, optim_class: type | str, optim_kwargs: dict[str, Any]
) -> Any:
    """An optimizer over some weights; its weight decay is that of `optim_kwargs`."""
    import torch

    kind = _class(optim_class, torch.optim, torch.optim.Optimizer, "params.optim_class")
    return _made(kind, "params.optim_kwargs", weights, **{"lr": lr, **optim_kwargs})


def _check_parts(read: Params, config: TrainingConfig) -> None:
    """Make each part once, with the first values."""
    import torch

    from common.model.modules import as_record, build_module

    if any(_all_values(read.normalise_images)):
        for name in ("normalise_mean", "normalise_std"):
            _check_channels(name, getattr(read, name), 3 if config.model.keywords["is_image_color"] else 1)
    for transform in config.model.keywords["additional_transforms"] or ():
        kind = getattr(transform, "func", transform)
        if not issubclass(kind if isinstance(kind, type) else type(kind), torch.nn.Module):
            raise FieldError(
                "params.additional_transforms",
                f"expected modules, classes or partials of them, found {transform!r:.80}",
            )
    build_module(config.model, (3, config.image_size, config.image_size), read.n_classes)
    as_record(config.model)
    if "lr" in config.optimizer.keywords["optim_kwargs"]:
        raise FieldError("params.optim_kwargs.lr", "expected it as learning_rate")
    optimizer = config.optimizer([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate, weight_decay=0.0)
    for schedule in config.schedulers:
        _made(schedule.func, "params.learning_rate_schedule", optimizer, **schedule.keywords)


def _check_channels(name: str, values: Any, channels: int) -> None:
    place = f"params.{name}"
    if isinstance(values, Space):
        raise FieldError(place, f"expected a list of numbers, of which each may be searched, found {values!r}")
    if values is None:
        raise FieldError(place, "expected a list of numbers, since normalise_images is set, found None")
    if len(values) != channels:
        raise FieldError(place, f"expected {channels}, one per channel, found {len(values)}: {values!r}")
    for value in (extreme for item in values for extreme in _all_values(item)):
        if not isinstance(value, int | float) or isinstance(value, bool) or (name == "normalise_std" and value <= 0):
            above = " above 0" if name == "normalise_std" else ""
            raise FieldError(place, f"expected numbers{above}, found {value!r}")


def _schedule(entry: Any) -> Any:
    return _each(entry, _schedule_of)


def _schedule_of(entry: Any) -> partial:
    place = "params.learning_rate_schedule"
    if not isinstance(entry, Mapping) or "class" not in entry or set(entry) - {"class", "kwargs", "name"}:
        raise FieldError(place, f"expected {{'class': ..., 'kwargs': {{...}}}}, found {entry!r:.80}")
    kwargs = entry.get("kwargs", {})
    if not isinstance(kwargs, dict):
        raise FieldError(f"{place}.kwargs", f"expected a dict, found {kwargs!r:.80}")
    if "verbose" in kwargs:
        raise FieldError(
            f"{place}.kwargs.verbose", "expected it to be left out: PyTorch no longer takes it, and the rate is logged"
        )
    import torch

    known = torch.optim.lr_scheduler
    return partial(_class(entry["class"], known, known.LRScheduler, place), **kwargs)


def _listed(value: Any) -> list:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    """The function of a value, or of each choice."""
    if isinstance(value, Categorical):
        return Categorical([_each(choice, function) for choice in value.choices], name=value.name)
    return function(value)


def _all_values(value: Any) -> list:
    return [extreme for _, extreme in value.extremes()] if isinstance(value, Space) else [value]


def _class(given: Any, module: Any, base: type, place: str) -> type:
    kind = getattr(module, given.rpartition(".")[2], None) if isinstance(given, str) else given
    if isinstance(kind, type) and issubclass(kind, base):
        return kind
    known = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
    raise FieldError(place, f"expected a class of {module.__name__}, found {given!r}{did_you_mean(given, known)}")


def _made(kind: type, place: str, *arguments: Any, **keywords: Any) -> Any:
    try:
        return kind(*arguments, **keywords)
    except (TypeError, ValueError, AttributeError) as error:
        raise FieldError(place, f"{kind.__name__} cannot be made ({error})") from error
