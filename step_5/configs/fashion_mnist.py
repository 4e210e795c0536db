"""A configurable classifier, by its `params`: ten classes of small grey images, here digits.

For Fashion-MNIST itself: put its four files into a folder, run
``python -m common.params.idx FOLDER --classes fashion``, and give ``--data FOLDER/train``.
"""

from torch.nn import ELU, BatchNorm2d, Conv2d, MaxPool2d
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

data = "digits"  # made on first use


def block(in_channels, out_channels, kernel_size, stride=1):
    """Convolution, BatchNorm, ELU, and pooling that takes one row and one column away."""
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride}
    return [
        {"class": Conv2d, "kwargs": sizes},
        {"class": BatchNorm2d, "kwargs": {"num_features": out_channels}},
        {"class": ELU, "kwargs": {}},
        {"class": MaxPool2d, "kwargs": {"kernel_size": 2, "stride": 1}},
    ]


params = {
    "image_height": 28,
    "image_width": 28,
    "is_image_color": False,
    "n_classes": 10,
    "net_arch": [*block(1, 32, 5, stride=2), *block(32, 64, 4), *block(64, 128, 3), *block(128, 256, 3)],
    "normalise_images": True,
    "normalise_mean": [0.5],
    "normalise_std": [0.5],
    "flip_images": False,  # a mirrored digit is another one, or none
    "shuffle_dataset": True,
    "manual_seed": 0,
    "batch_size": 32,
    "eval_batch_size": 256,
    "num_epochs": 8,
    "eval_freq": 1,
    "save_freq": 1,
    "eval_metric_compute_freq": "epoch",
    "optim_class": SGD,
    "optim_kwargs": {"weight_decay": 1e-2},
    "learning_rate": 0.1,
    "learning_rate_schedule": [
        {"class": ExponentialLR, "kwargs": {"gamma": 0.99}},
        {"class": ReduceLROnPlateau, "kwargs": {"patience": 3}},
    ],
    "device": "auto",
    "mode": "train",
}
