"""Seeds of the generators that a script draws from itself; what the project draws has named streams of its own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put the global generators back to where they stood."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


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
