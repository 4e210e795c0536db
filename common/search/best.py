"""The networks of a study's best trial so far: in memory, and on disk for a study that goes on."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

from optuna.trial import FrozenTrial

from common.cli import UserError


class BestNetworks:
    """Holds one trial's networks.

    Parameters
    ----------
    path : Path or None
        Of the files that are kept, without suffix; None keeps nothing on disk.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._file = None if path is None else path.with_name(f"{path.name}.best.pickle")
        self._now: tuple[int, list] | None = None

    def keep(self, number: int, networks: list) -> None:
        """Replace what is held by the networks of a trial.

        Raises
        ------
        UserError
            When the file cannot be written.
        """
        self._now = number, networks
        if self._file is None:
            return
        part = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(pickle.dumps(self._now))
            os.replace(part, self._file)
        except OSError as error:
            raise UserError(f"{part}: the best networks cannot be kept ({error.strerror})") from error

    def networks_of(self, trial: FrozenTrial) -> list | None:
        """The networks of that trial, if they are those held."""
        if self._now is None and self._file is not None and self._file.exists():
            self._now = pickle.loads(self._file.read_bytes())
        return self._now[1] if self._now is not None and self._now[0] == trial.number else None

    def forget(self, name: str) -> None:
        """Remove the checkpoints of a trial's fits."""
        if self.path is not None:
            for file in self.path.parent.glob(f"{self.path.name} {name} *"):
                file.unlink(missing_ok=True)
