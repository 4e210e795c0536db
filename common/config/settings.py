"""The settings of one training, and what values they take."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from common.config.checks import Range, check_config
from common.config.places import find_spaces, first_values
from common.config.spaces import FieldError, Space
from common.seeds import Stream

Count = Annotated[int, Range(ge=1)]
CountOrZero = Annotated[int, Range(ge=0)]
Positive = Annotated[float, Range(gt=0)]
PositiveOrZero = Annotated[float, Range(ge=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]
FractionBelowOne = Annotated[float, Range(ge=0, lt=1)]


class _Checked:
    def __post_init__(self) -> None:
        check_config(self)


@dataclass(frozen=True)
class AdamW(_Checked):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019): what it has besides weight decay."""

    beta1: FractionBelowOne = 0.9
    """Decay of the running mean of the gradient, in [0, 1)."""
    beta2: FractionBelowOne = 0.999
    """Decay of the running mean of the squared gradient, in [0, 1)."""
    learning_rate: Positive | None = None
    """Of both phases, in place of those of the config; above 0. None: those of the config."""


@dataclass(frozen=True)
class SGD(_Checked):
    """Stochastic gradient descent: what it has besides weight decay."""

    momentum: FractionBelowOne = 0.9
    """Share of the previous step that is kept, in [0, 1)."""
    nesterov: bool = True
    """Whether the gradient is taken after the momentum's step (Nesterov, 1983); needs a momentum above 0."""
    learning_rate: Positive | None = None
    """Of both phases, in place of those of the config; above 0. It is usually ten times as high as AdamW's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 in _checked_values(self.momentum) and True in _checked_values(self.nesterov):
            raise FieldError("SGD.momentum", f"expected above 0 with nesterov=True, found {self.momentum!r}")


def _checked_values(value: Any) -> list[Any]:
    return [extreme for _, extreme in value.extremes()] if isinstance(value, Space) else [value]


@dataclass(frozen=True)
class Augmentation(_Checked):
    """Random changes of each training image; 0 leaves a change out."""

    flip: Fraction = 0.5
    """Probability of mirroring left and right, in [0, 1]."""
    rotation: Annotated[float, Range(ge=0, le=180)] = 10.0
    """Largest rotation either way, in degrees, in [0, 180]."""
    shift: Annotated[float, Range(ge=0, le=0.5)] = 0.1
    """Largest shift along each axis, as a fraction of the side, in [0, 0.5]."""
    zoom: Annotated[float, Range(ge=0, le=0.9)] = 0.15
    """Largest relative change of size either way, in [0, 0.9]."""
    brightness: Fraction = 0.2
    """Largest relative change of brightness either way, in [0, 1]."""
    contrast: Fraction = 0.2
    """Largest relative change of contrast either way, in [0, 1]."""
    saturation: Fraction = 0.2
    """Largest relative change of saturation either way, in [0, 1]."""


@dataclass(frozen=True)
class TrainingConfig(_Checked):
    """The settings of one training in two phases: the head alone (warm-up), then all layers (fine-tuning).

    Any value, also one inside `optimizer` or `augmentation`, may be a search space of :mod:`common.search`.

    Raises
    ------
    FieldError
        If a value, or an extreme of a space, is of the wrong type or out of its range.
    """

    backbone: str = "small_cnn"
    """``small_cnn`` or a torchvision classification model."""
    weights: str = "DEFAULT"
    """Where the backbone's weights come from: ``DEFAULT`` (pretrained), ``none`` (random) or the path of a file."""
    image_size: Annotated[int, Range(ge=16, le=1024)] = 64
    """Side of the square images, in pixels, from 16 to 1024."""
    batch_size: Count = 32
    """Images per step, at least 1."""
    hidden_dim: Annotated[int, Range(ge=1, le=65536)] = 64
    """Units of the head's hidden layer, from 1 to 65536."""
    dropout_rate: FractionBelowOne = 0.2
    """Probability of dropping a unit of the head in training, in [0, 1)."""
    warmup_epochs: CountOrZero = 5
    """Most epochs of the warm-up phase, at least 0."""
    warmup_learning_rate: Positive = 1e-3
    """Learning rate of the warm-up phase, above 0."""
    warmup_weight_decay: PositiveOrZero = 1e-2
    """Weight decay of the warm-up phase, at least 0."""
    epochs: CountOrZero = 10
    """Most epochs of the fine-tuning phase, at least 0."""
    learning_rate: Positive = 1e-3
    """Learning rate of the fine-tuning phase, above 0."""
    weight_decay: PositiveOrZero = 1e-2
    """Weight decay of the fine-tuning phase, at least 0."""
    patience: Count = 4
    """Epochs without a better dev ROC AUC before a phase stops, at least 1."""
    optimizer: AdamW | SGD | partial = AdamW()
    """The optimizer of both phases; also ``partial(A, ...)`` of another class A of ``torch.optim``."""
    augmentation: Augmentation | None = Augmentation()
    """Random changes of the training images; None for none, as for arrays."""
    shuffle: bool = True
    """Whether training images come in a new order in each epoch."""
    eval_batch_size: Count | None = None
    """Images per step of an evaluation on the dev set, at least 1; None: `batch_size`."""
    eval_every: Count = 1
    """Epochs between two evaluations on the dev set, at least 1; the last epoch is evaluated too."""
    save_every: Count | None = None
    """Epochs after which a phase keeps where it stands, at least 1; None: as often as that costs little."""
    schedulers: tuple | list = ()
    """Learning-rate schedules, all at once: ``partial(A, ...)`` of classes A of ``torch.optim.lr_scheduler``. Each
    makes a step after every epoch."""
    score: Literal["roc_auc", "mcc"] = "roc_auc"
    """What a phase is stopped by and a search maximises, on the dev set: ROC AUC (of three or more classes: the mean
    over classes of one against the rest), or Matthews' correlation coefficient of the more probable class. It cannot be
    searched itself."""
    n_startup_trials: Count = 10
    """Trials of a search that are drawn at random before TPE begins, at least 1; with no more trials than these it is a
    random search. It cannot be searched itself."""
    model: Any = None
    """A network of one's own in place of backbone and head: a class A of ``nn.Module``, ``partial(A, ...)``, an
    instance, or a space of networks. See :func:`common.model.modules.build_module`."""
    head: str | None = None
    """The last part of `model`, by its name in the network, such as ``classifier`` or ``network.fc``: the warm-up
    trains it alone. None: `model` has no head, and there is no warm-up."""
    transforms: tuple | list = ()
    """Applied to all images, in [0, 1], or arrays, before the network: classes, partials or instances of
    ``nn.Module``, such as ``torchvision.transforms.v2.Grayscale(1)``."""

    def __post_init__(self) -> None:
        if hasattr(self.model, "for_image_size"):
            object.__setattr__(self, "model", self.model.for_image_size(_checked_values(self.image_size)[0]))
        super().__post_init__()
        for name, expected in (("score", "roc_auc or mcc"), ("n_startup_trials", "a whole number")):
            if isinstance(found := getattr(self, name), Space):
                raise FieldError(f"TrainingConfig.{name}", f"expected {expected}, found the space {found!r}")

    def summary(self, input_shape: tuple[int, ...], n_classes: int) -> str:
        """The layers of a network with these settings, see :func:`common.model.summary.summary_of`.

        Where settings are searched it is the network of the first value of each, and the text says so.

        Parameters
        ----------
        input_shape : tuple of int
            Of one image or array.
        n_classes : int

        Raises
        ------
        UserError
            When the network cannot be built, or one's own is not as :func:`check_module` expects.
        """
        from common.model import make_classifier, summary_of
        from common.model.module_steps import check_module

        searched, first = find_spaces(self), first_values(self)
        network = make_classifier(
            Stream(0),
            n_classes,
            input_shape,
            first.backbone,
            "none",
            first.hidden_dim,
            first.dropout_rate,
            first.model,
            first.transforms,
            head=first.head,
        )
        if first.model is not None:
            check_module(network, n_classes, input_shape)
        note = f"\nat the first values of what is searched: {', '.join(searched)}" if searched else ""
        return summary_of(network) + note


def model_name(config: TrainingConfig) -> str:
    """What a network is called: its backbone, or the class of a network of one's own."""
    kind = config.model.func if isinstance(config.model, partial) else config.model
    if kind is None:
        return config.backbone if isinstance(config.backbone, str) else "backbone"
    return kind.__name__ if isinstance(kind, type) else type(kind).__name__
