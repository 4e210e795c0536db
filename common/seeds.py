"""Random streams: one root seed, and a stream for every named place below it.

A stream depends on the root seed and on its place alone, never on what was drawn before it, so results do not change
with the order of the work, the number of processes, or where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stream:
    """A place in the tree of random streams, such as ``root 0 / inner 1 / shuffle``.

    Each generator is derived with :class:`numpy.random.SeedSequence` from the root seed, with the SHA-256 of the place
    as spawn key. Two calls at one place give the same numbers; different places are independent.

    Parameters
    ----------
    root_seed : int
        Non-negative.
    place : tuple of str
        Names from the root to this place.
    """

    root_seed: int
    place: tuple[str, ...] = ()

    @classmethod
    def unseeded(cls) -> Stream:
        """A root drawn from the operating system's entropy: different at every call."""
        return cls(secrets.randbits(32))

    def at(self, *names: str) -> Stream:
        """The stream at a place below this one."""
        return Stream(self.root_seed, self.place + names)

    def __str__(self) -> str:
        return f"seed {self.root_seed} / {' / '.join(self.place)}"

    def _sequence(self) -> np.random.SeedSequence:
        digest = hashlib.sha256("\0".join(self.place).encode()).digest()
        key = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, len(digest), 4)]
        return np.random.SeedSequence(self.root_seed, spawn_key=key)

    def integer(self) -> int:
        """A seed in [0, 2**32) for libraries that take an integer."""
        return int(self._sequence().generate_state(1)[0])

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator (PCG64)."""
        return np.random.Generator(np.random.PCG64(self._sequence()))

    def torch(self) -> torch.Generator:
        """A fresh PyTorch generator on the CPU."""
        import torch

        return torch.Generator().manual_seed(int(self._sequence().generate_state(1, "uint64")[0]))
