"""Epochs of EEG in one `.npz` file: how they are written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import UserError, writing
from common.data.arrays import read_npz
from common.state import whole_file


@dataclass(frozen=True, eq=False)
class Epochs:
    """Stretches of EEG around events, for training.

    Attributes
    ----------
    X : ndarray of float32, shape (n_epochs, n_channels, n_times)
        Volts.
    y : ndarray of int64, shape (n_epochs,)
        Which event: an index into ``metadata["events"]``.
    groups : ndarray of str, shape (n_epochs,)
        Which subject, or session, run or block: folds keep each on one side.
    metadata : dict
        ``events`` and ``channels`` (names), ``positions`` (metres, of the head's frame; None where not known),
        ``sampling_rate`` (Hz), ``source``, ``settings`` (those of :class:`~common.eeg.epoching.EpochSettings`),
        ``dropped`` (for each subject, how many epochs for which reason), ``mne_version`` and more of the source.
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    metadata: dict

    @property
    def grouped_by(self) -> str:
        """What a group is: subject, session, run or block."""
        return self.metadata["settings"].get("groups", "subject")

    def describe(self) -> str:
        """What there is, in one line."""
        n, n_channels, n_times = self.X.shape
        counts = np.bincount(self.y, minlength=len(self.metadata["events"]))
        events = ", ".join(f"{count} {name}" for name, count in zip(self.metadata["events"], counts, strict=True))
        dropped = sum(sum(reasons.values()) for reasons in self.metadata["dropped"].values())
        microvolts = 1e6 * float(np.median(self.X.std(axis=2)))
        kind = self.grouped_by
        by_kind = {"subject": len(self.metadata["dropped"]), kind: len(set(self.groups))}
        subjects = " in ".join(f"{number} {name}{'s' * (number > 1)}" for name, number in by_kind.items())
        return (
            f"{n} epochs ({events}) of {subjects}, {n_channels} channels, {n_times} samples at "
            f"{self.metadata['sampling_rate']:g} Hz, typically {microvolts:.3g} µV; {dropped} left out"
        )


def save_epochs(epochs: Epochs, path: Path) -> None:
    """Write epochs to an `.npz` file, which appears whole or not at all; the same epochs give the same bytes.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    text = json.dumps(epochs.metadata, sort_keys=True, allow_nan=False)
    classes, kind = np.array(epochs.metadata["events"]), np.array(epochs.grouped_by)
    parts: dict[str, Any] = {"X": epochs.X, "y": epochs.y, "groups": epochs.groups, "metadata": np.array(text)}
    with writing(path), whole_file(path) as file:
        np.savez(file, **parts, classes=classes, grouped_by=kind)


def load_epochs(path: Path) -> Epochs:
    """Read what :func:`save_epochs` wrote.

    Raises
    ------
    UserError
        When the file is missing, damaged, or none of its.
    """
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file; python -m common.eeg {path} makes one")
        parts = read_npz(path, ["X", "y", "groups", "metadata"])
        X, y, groups = parts["X"], parts["y"], parts["groups"]
        metadata = json.loads(str(parts["metadata"]))
        sound = X.ndim == 3 and y.shape == groups.shape == (len(X),) and X.shape[1] == len(metadata["channels"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of epochs ({str(error).splitlines()[0]})") from error
    if not sound:
        raise UserError(f"{path}: not a file of epochs (X {X.shape}, y {y.shape} and groups {groups.shape} differ)")
    return Epochs(X, y, groups, metadata)
