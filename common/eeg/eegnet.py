"""Networks for EEG epochs: a small dense one, and EEGNet (Lawhern et al. 2018)."""

from __future__ import annotations

import torch
from torch import nn


def n_outputs(n_classes: int) -> int:
    """Logits of a classifier: one for two classes (that of the second), else one for each class."""
    if n_classes < 2:
        raise ValueError(f"n_classes: expected at least 2, found {n_classes}")
    return 1 if n_classes == 2 else n_classes


class DenseEEG(nn.Module):
    """One hidden layer on all samples of all channels: what a network does that knows nothing about EEG.

    Parameters
    ----------
    input_shape : (n_channels, n_times)
    n_classes : int
        At least 2.
    hidden : int
        Units of the hidden layer.
    dropout : float in [0, 1)
    """

    def __init__(self, input_shape: tuple[int, int], n_classes: int, hidden: int = 64, dropout: float = 0.5):
        super().__init__()
        n_channels, n_times = input_shape
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_channels * n_times, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_outputs(n_classes)),
        )

    def forward(self, epochs: torch.Tensor) -> torch.Tensor:
        """Logits, shape (B, 1) for two classes, else (B, n_classes); `epochs` as for :meth:`EEGNet.forward`."""
        return self.layers(epochs)


class EEGNet(nn.Module):
    """EEGNet: filters in time, then in space for each of those, then a separable convolution.

    Layers, sizes and constraints are those of table 2 of the paper; the last layer has a bias, as in the authors' code.
    The two constraints on weights (norm of each spatial filter at most 1, of each class's weights at most 0.25) hold
    in every forward pass: longer weights are scaled down there, where the authors' code does so after each update.

    Parameters
    ----------
    input_shape : (n_channels, n_times)
        `n_times` is at least 32, the factor by which the pooling shortens the signal.
    n_classes : int
        At least 2.
    F1 : int
        Temporal filters.
    D : int
        Spatial filters for each temporal one.
    F2 : int
        Pointwise filters; the paper takes F1 * D.
    kernel_length : int
        Samples of a temporal filter; the paper takes half of the sampling rate. (It writes of 128 Hz: the later filter,
        16 samples, is half a second after the first pooling.)
    dropout : float in [0, 1)
        The paper takes 0.5 within a subject and 0.25 across subjects.

    References
    ----------
    Lawhern, Solon, Waytowich, Gordon, Hung & Lance (2018), EEGNet: a compact convolutional neural network for
    EEG-based brain-computer interfaces, J. Neural Eng. 15 056013, doi:10.1088/1741-2552/aace8c.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        n_classes: int,
        F1: int = 8,
        D: int = 2,
        F2: int = 16,
        kernel_length: int = 64,
        dropout: float = 0.5,
    ):
        super().__init__()
        n_channels, n_times = input_shape
        if n_times < 32:
            raise ValueError(f"input_shape {tuple(input_shape)}: expected at least 32 samples per epoch")
        self.temporal = nn.Sequential(_same(kernel_length), nn.Conv2d(1, F1, (1, kernel_length), bias=False))
        self.temporal_norm = _batch_norm(F1)
        self.spatial = _ConstrainedConv2d(F1, D * F1, (n_channels, 1), groups=F1, bias=False)
        self.spatial_end = nn.Sequential(_batch_norm(D * F1), nn.ELU(), nn.AvgPool2d((1, 4)), nn.Dropout(dropout))
        self.separable = nn.Sequential(
            _same(16),
            nn.Conv2d(D * F1, D * F1, (1, 16), groups=D * F1, bias=False),
            nn.Conv2d(D * F1, F2, 1, bias=False),
        )
        self.separable_end = nn.Sequential(_batch_norm(F2), nn.ELU(), nn.AvgPool2d((1, 8)), nn.Dropout(dropout))
        self.classify = _ConstrainedLinear(F2 * (n_times // 32), n_outputs(n_classes))

    def forward(self, epochs: torch.Tensor) -> torch.Tensor:
        """Logits, shape (B, 1) for two classes, else (B, n_classes).

        Parameters
        ----------
        epochs : Tensor of float, shape (B, n_channels, n_times)
            In units in which they vary by about 1: volts divided by their standard deviation in the training data.
        """
        signals = self.temporal_norm(self.temporal(epochs.unsqueeze(1)))
        signals = self.spatial_end(self.spatial(signals))
        signals = self.separable_end(self.separable(signals))
        return self.classify(signals.flatten(1))


class _ConstrainedConv2d(nn.Conv2d):
    """A depthwise convolution over all channels, each filter of norm at most 1."""

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(signals, torch.renorm(self.weight, 2, 0, 1.0), None)


class _ConstrainedLinear(nn.Linear):
    """A linear layer, each output's weights of norm at most 0.25."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(features, torch.renorm(self.weight, 2, 0, 0.25), self.bias)


def _same(kernel_length: int) -> nn.ZeroPad2d:
    """Padding that keeps the number of samples; torch's own takes longer and warns of even lengths."""
    return nn.ZeroPad2d(((kernel_length - 1) // 2, kernel_length // 2, 0, 0))


def _batch_norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=1e-3)  # as in the authors' code
