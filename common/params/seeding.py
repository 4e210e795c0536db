"""Seeds of the generators that a script draws from itself; what the project draws has named streams of its own."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_seeds(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch, on all devices.

    Parameters
    ----------
    seed : int
        In [0, 2**32), such as ``params["manual_seed"]``.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
