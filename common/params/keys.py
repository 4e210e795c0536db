"""The keys of `params`: what each means and what it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Literal

from common.cli import did_you_mean
from common.config.checks import Range, check_config
from common.config.places import find_spaces
from common.config.settings import Count, Fraction, Positive
from common.config.spaces import FieldError

Text = str | None
MESSAGES = (
    *("KAFKA_HOST", "KAFKA_TOPIC", "GOOGLE_APPLICATION_CREDENTIALS", "PUB_SUB_TOPIC", "PUB_SUB_PROJECT"),
    *("PUB_SUB_SUBSCRIPTION", "TIMEOUT"),
)
"""Keys that become variables of the environment, where these are not set; see :mod:`common.events.sending`."""
FIXED = ("manual_seed", "n_classes", "device", "mode", "eval_metric_compute_freq", *MESSAGES)
"""Keys that belong to the whole experiment, so they cannot be searched."""
OF_NETWORK = (
    *("net_arch", "image_height", "image_width", "is_image_color", "flip_images", "flip_probability"),
    *("additional_transforms", "normalise_images", "normalise_mean", "normalise_std"),
)
"""Keys that :class:`common.params.configurable.ParamsClassifier` takes."""


@dataclass(frozen=True)
class Params:
    """The known keys of `params`. Those without a default are needed. Most values may be search spaces."""

    batch_size: Count
    """Images per step of training."""
    image_height: Count
    """Pixels; images are cut to their middle."""
    image_width: Count
    """Pixels."""
    is_image_color: bool
    """Whether the network takes three channels, else one. Images are converted."""
    net_arch: list | tuple
    """Layers: see :func:`common.params.net_arch.build_classifier`."""
    n_classes: Annotated[int, Range(ge=2)]
    """As many as the images have."""
    num_epochs: Count
    """Epochs to train."""
    optim_class: type | str
    """A class of ``torch.optim``, or its name."""
    learning_rate: Positive
    """Of the optimizer, at the start."""
    optim_kwargs: dict = field(default_factory=dict)
    """Its other arguments."""
    learning_rate_schedule: list | tuple | dict | None = None
    """``{"class": ..., "kwargs": {...}}`` of ``torch.optim.lr_scheduler``, or a list of these: all step each epoch.

    An entry may have a ``name``, which is for people to read.
    """
    shuffle_dataset: bool = True
    """Whether training images come in a new order in each epoch."""
    flip_images: bool = False
    """Whether training images are mirrored at random: left and right, and, drawn for itself, up and down."""
    flip_probability: Fraction = 0.5
    """How often each of the two, in [0, 1]."""
    normalise_images: bool = False
    """Whether `normalise_mean` is taken off and the rest divided by `normalise_std`."""
    normalise_mean: list | tuple | None = None
    """Per channel, of images in [0, 1]."""
    normalise_std: list | tuple | None = None
    """Per channel, above 0."""
    additional_transforms: list | tuple | None = ()
    """Modules, classes or partials, or None; see :class:`common.params.configurable.ParamsClassifier`."""
    manual_seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Root seed, of the network's first weights (:func:`common.params.net_arch.build_classifier`) and of training."""
    eval_freq: Count = 1
    """Epochs between two evaluations."""
    save_freq: Count = 1
    """Epochs between two saved states, from which an interrupted training goes on."""
    eval_metric_compute_freq: Literal["epoch", "batch"] | Count = "epoch"
    """When :func:`common.params.train` logs metrics of evaluation: of all images, also per batch, or per N batches."""
    eval_batch_size: Count | None = None
    """Images per step of evaluation; None: `batch_size`."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What to train on."""
    mode: Literal["train", "notebook", "script", "test"] = "train"
    """``test``, of :func:`common.params.train` alone, evaluates the model that was saved last; all others train."""
    KAFKA_HOST: Text = None
    KAFKA_TOPIC: Text = None
    GOOGLE_APPLICATION_CREDENTIALS: Text = None
    PUB_SUB_TOPIC: Text = None
    PUB_SUB_PROJECT: Text = None
    PUB_SUB_SUBSCRIPTION: Text = None
    TIMEOUT: str | float | None = None


def read_params(params: object) -> Params:
    """The values of `params`, checked one by one; those that depend on one another :func:`from_params` checks.

    Raises
    ------
    FieldError
        Naming the key, what was found and what was expected.
    """
    if not isinstance(params, Mapping):
        raise FieldError("params", f"expected a dict, found {params!r:.80}")
    known = {entry.name: entry for entry in fields(Params)}
    for key in params:
        if key not in known:
            raise FieldError(f"params.{key}", f"expected a known key, found {key!r}{did_you_mean(key, known)}")
    for name, entry in known.items():
        if entry.default is entry.default_factory is MISSING and name not in params:
            raise FieldError("params", f"expected the key {name}, found none")
    for name in FIXED:
        if name in params and find_spaces({name: params[name]}):
            raise FieldError(
                f"params.{name}", f"expected a value, which is the same in all trials, found {params[name]!r}"
            )
    values = dict(params)
    if type(values.get("device")).__name__ == "device":
        values["device"] = values["device"].type
    read = Params(**values)
    try:
        check_config(read)
    except FieldError as error:
        raise FieldError(error.field.replace("Params", "params", 1), error.args[1]) from error
    return read


def announce(read: Params) -> None:
    """Set the messaging keys in the environment, where they are not set already."""
    for name in MESSAGES:
        if getattr(read, name) is not None:
            os.environ.setdefault(name, str(getattr(read, name)))
