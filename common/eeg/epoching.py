"""Cutting EEG recordings into epochs: filters, events, rejection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.cli import UserError, reason_of
from common.eeg.epochs import Epochs
from common.eeg.recordings import Recording, events_of, import_mne, quiet_mne, read_files

BLOCKS = 10
"""Stretches of a recording: as many as there are folds by default. Of ten minutes each is a minute."""


@dataclass(frozen=True)
class EpochSettings:
    """How recordings are cut into epochs. None leaves a step out."""

    events: tuple[str, ...] | None = None
    """Names of annotations or numbers of a stim channel; None takes all that there are."""
    channels: tuple[str, ...] | None = None
    """None takes all EEG channels that no file marks as bad."""
    tmin: float = 0.0
    """Begin of an epoch, seconds from the event."""
    tmax: float = 1.0
    """End of an epoch, seconds from the event; the sample at this moment is the first that is not in it."""
    l_freq: float | None = None
    """Lower edge of the pass band, Hz."""
    h_freq: float | None = None
    """Upper edge of the pass band, Hz."""
    notch: float | None = None
    """Frequency of the mains, Hz, to be taken out."""
    resample: float | None = None
    """New sampling rate, Hz."""
    baseline: tuple[float, float] | None = None
    """Seconds from the event, both ends included; each channel's mean over this time is subtracted."""
    reject: float | None = None
    """Largest range within an epoch, volts: an epoch with a channel above it is left out."""
    groups: str = "subject"
    """What folds keep on one side: all epochs of a subject, of a session, of a run (a recording), or of a block, one of
    :data:`BLOCKS` stretches of a recording with as many epochs each."""

    def __post_init__(self) -> None:
        if self.tmin >= self.tmax:
            raise UserError(f"--tmax {self.tmax:g}: expected more than --tmin {self.tmin:g}")
        if self.l_freq and self.h_freq and self.l_freq >= self.h_freq:
            raise UserError(f"--h-freq {self.h_freq:g}: expected more than --l-freq {self.l_freq:g}")
        if self.baseline and not self.tmin <= self.baseline[0] < self.baseline[1] < self.tmax:
            start, end = self.baseline
            raise UserError(
                f"--baseline {start:g} {end:g}: expected from {self.tmin:g} to less than {self.tmax:g} seconds"
            )


def make_epochs(recordings: Sequence[Recording], settings: EpochSettings, source: dict[str, object]) -> Epochs:
    """Filter recordings and cut them into epochs.

    Parameters
    ----------
    recordings : sequence of Recording
        In the order in which their epochs are to stand.
    source : dict
        Goes into the metadata.

    Raises
    ------
    UserError
        When the recordings do not fit together or lack a channel or an event, or when no epoch of an event is left.
    """
    mne = import_mne()
    with quiet_mne():
        channels = settings.channels or _common_channels(recordings)
        _check_channels(recordings, channels)
        rate = _common_rate(recordings, settings)
        names = _common_events(recordings, settings)
        X, y, groups, dropped = [], [], [], {}
        group_of = _groups(recordings, settings.groups)
        bar = tqdm(recordings, desc="cutting epochs", unit="recording", disable=None)
        for recording, group in zip(bar, group_of, strict=True):
            try:
                epochs = _cut(recording, channels, names, rate, settings)
            except (ValueError, RuntimeError, OSError) as error:
                raise UserError(f"{recording.name}: {reason_of(error)}") from error
            groups += [group] * len(epochs) if settings.groups != "block" else _blocks(group, epochs)
            X.append(epochs.get_data(copy=False).astype(np.float32))
            if not np.isfinite(X[-1]).all():
                raise UserError(f"{recording.name}: not all values are finite; expected volts")
            y.append(epochs.events[:, 2] - 1)
            reasons = Counter("RANGE" if log[0] in channels else log[0] for log in epochs.drop_log if log)
            dropped[recording.subject] = dict(Counter(dropped.get(recording.subject, {})) + reasons)
    counts = np.bincount(np.concatenate(y), minlength=len(names))
    if not counts.all():
        why = sum(map(Counter, dropped.values()), Counter())
        left_out = ", ".join(f"{n} for {reason}" for reason, n in why.most_common(3)) or "none"
        raise UserError(f"no epochs of event {names[int(counts.argmin())]!r} are left; left out: {left_out}")
    metadata = {
        **source,
        "settings": asdict(settings),
        "events": names,
        "channels": list(channels),
        "positions": [_position(epochs.info["chs"][i]["loc"][:3]) for i in range(len(channels))],
        "sampling_rate": rate,
        "dropped": dropped,
        "mne_version": mne.__version__,
    }
    return Epochs(np.concatenate(X), np.concatenate(y).astype(np.int64), np.array(groups), metadata)


def cut_again(path: Path, metadata: dict) -> tuple[np.ndarray, np.ndarray]:
    """Cut another recording as those of a file of epochs: at the events of its names, or of all names if it has none.

    Parameters
    ----------
    metadata : dict
        :attr:`Epochs.metadata`.

    Returns
    -------
    X : ndarray of float32, shape (n_epochs, n_channels, n_times)
        Volts. As there, epochs with too large a range are left out.
    onsets : ndarray of float64, shape (n_epochs,)
        Of the events, in seconds from the begin of the recording.

    Raises
    ------
    UserError
        When the recording has no events, or not these channels.
    """
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in metadata["settings"].items()}
    settings, rate, channels = EpochSettings(**lists), metadata["sampling_rate"], metadata["channels"]
    (recording,) = read_files([path])
    with quiet_mne():
        if missing := [name for name in channels if name not in recording.raw.ch_names]:
            there = ", ".join(recording.raw.ch_names)
            raise UserError(f"{path}: no channel {missing[0]}, which the model takes; found {there}")
        found = events_of(recording.raw)[1]
        names = [name for name in metadata["events"] if name in found] or sorted(found)
        if not names:
            raise UserError(f"{path}: expected events to cut at, found none")
        try:
            epochs = _cut(recording, channels, names, rate, settings)
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path}: {reason_of(error)}") from error
        if not len(epochs):
            raise UserError(f"{path}: no epoch is left of {len(epochs.drop_log)} events")
        return epochs.get_data(copy=False).astype(np.float32), epochs.events[:, 0] / rate - recording.raw.first_time


def _common_channels(recordings: Sequence[Recording]) -> tuple[str, ...]:
    bad = {name for recording in recordings for name in recording.raw.info["bads"]}
    found = [
        [name for name, kind in zip(r.raw.ch_names, r.raw.get_channel_types(), strict=True) if kind == "eeg"]
        for r in recordings
    ]
    for recording, names in zip(recordings, found, strict=True):
        differ = sorted(set(names) ^ set(found[0]))
        if differ:
            raise UserError(
                f"{recording.name}: other channels than {recordings[0].name} ({', '.join(differ[:5])}); "
                "--channels names those to use"
            )
    return tuple(name for name in found[0] if name not in bad)


def _check_channels(recordings: Sequence[Recording], channels: Sequence[str]) -> None:
    if not channels or len(set(channels)) < len(channels):
        raise UserError(f"--channels {' '.join(channels)}: expected channels, each named once")
    for recording in recordings:
        missing = [name for name in channels if name not in recording.raw.ch_names]
        if missing:
            found = ", ".join(recording.raw.ch_names)
            raise UserError(f"--channels {missing[0]}: no such channel in {recording.name}; it has {found}")


def _common_rate(recordings: Sequence[Recording], settings: EpochSettings) -> float:
    rates = [float(recording.raw.info["sfreq"]) for recording in recordings]
    for recording, rate in zip(recordings, rates, strict=True):
        if rate != rates[0] and not settings.resample:
            raise UserError(
                f"{recording.name}: sampled at {rate:g} Hz, but {recordings[0].name} at {rates[0]:g} Hz; "
                "--resample HZ brings them together"
            )
    for flag, value in (("l", settings.l_freq), ("h", settings.h_freq), ("notch", settings.notch)):
        if value and value >= min(rates) / 2:
            name = "--notch" if flag == "notch" else f"--{flag}-freq"
            raise UserError(f"{name} {value:g}: expected less than half of the sampling rate, {min(rates):g} Hz")
    return settings.resample or rates[0]


def _common_events(recordings: Sequence[Recording], settings: EpochSettings) -> list[str]:
    """The names whose positions are the labels."""
    found = sorted({name for recording in recordings for name in events_of(recording.raw)[1]})
    unknown = [name for name in settings.events or () if name not in found]
    if unknown:
        raise UserError(f"--events {unknown[0]}: no such event; found {', '.join(found) or 'none'}")
    names = list(dict.fromkeys(settings.events or found))
    if len(names) < 2:
        raise UserError(
            f"{recordings[0].name}: expected two kinds of event or more, found {', '.join(names) or 'none'}"
        )
    return names


def _cut(recording: Recording, channels: Sequence[str], names: list[str], rate: float, settings: EpochSettings):
    mne = import_mne()
    events, numbers = events_of(recording.raw)
    labels = {numbers[name]: label for label, name in enumerate(names, start=1) if name in numbers}
    events = events[np.isin(events[:, 2], list(labels))]
    events[:, 2] = [labels[number] for number in events[:, 2]]
    raw = recording.raw.copy().pick(list(channels)).load_data()
    raw.reorder_channels(list(channels)).set_channel_types(dict.fromkeys(channels, "eeg"))
    raw.info["bads"] = []
    if settings.notch:
        raw.notch_filter(settings.notch)
    if settings.l_freq or settings.h_freq:
        raw.filter(settings.l_freq, settings.h_freq)
    if rate != raw.info["sfreq"]:
        raw, events = raw.resample(rate, events=events)
    return mne.Epochs(
        raw,
        events,
        {name: label for label, name in enumerate(names, start=1)},
        settings.tmin,
        settings.tmax - 1 / rate,
        baseline=settings.baseline,
        reject=settings.reject and {"eeg": settings.reject},
        preload=True,
        on_missing="ignore",
    )


def _groups(recordings: Sequence[Recording], kind: str) -> list[str]:
    """The group of each recording, or for blocks what their names begin with; unlike for unlike subjects."""
    if kind == "subject":
        return [recording.subject for recording in recordings]
    if kind == "session":
        for recording in recordings:
            if recording.session is None:
                expected = "expected ses-… in its name, as BIDS has it, or a date of measurement in it"
                raise UserError(f"--groups session: {recording.name}: {expected}")
        return [f"{recording.subject} {recording.session}" for recording in recordings]
    runs = [Path(recording.name).name for recording in recordings]
    if len(set(runs)) < len(runs):  # in folders of their own
        runs = [recording.name for recording in recordings]
    pairs = zip(recordings, runs, strict=True)
    return [run if run.startswith(recording.subject) else f"{recording.subject} {run}" for recording, run in pairs]


def _blocks(run: str, epochs) -> list[str]:
    """The block of each epoch; of those that begin before the block before has ended, none is left in `epochs`."""
    start, length = epochs.events[:, 0], len(epochs.times)
    block = np.arange(len(epochs)) * BLOCKS // max(len(epochs), 1)
    last_before = np.array([start[block < number].max(initial=-length) for number in block], np.int64)
    epochs.drop(start - last_before < length, "BORDER")
    return [f"{run} block {number + 1}" for number in block[start - last_before >= length]]


def _position(place: np.ndarray) -> list[float] | None:
    return [round(float(metres), 6) for metres in place] if np.isfinite(place).all() and place.any() else None
