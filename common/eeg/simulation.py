"""Simulated EEG: an imagined movement weakens the rhythm over the motor cortex of the other side."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from tqdm import tqdm

from common.eeg.recordings import Recording, import_mne, quiet_mne
from common.seeds import Stream

RATE = 128.0
"""Sampling rate, Hz."""

CYCLE = 2.0
"""Seconds from one event to the next, on average."""

CENTRE = (0.0, 0.0, 0.04)
"""Of the spherical head, metres, in the head's frame; the electrodes are 95 mm away."""

BERG = ((0.945, 0.668, -0.292), (0.414, 2.072, -0.031))
"""Eccentricities and sizes of the dipoles that stand for the shells (Berg & Scherg 1994), as MNE-Python fits them: the
last digits of its fit differ from machine to machine, and with them all data would."""


def simulate_recordings(n_subjects: int = 20, n_trials: int = 40, seed: int = 0) -> list[Recording]:
    """Subjects who imagine to move the left or the right hand, in random order, as often the one as the other.

    Dipoles in a spherical head (four shells) give the signals of 16 electrodes (BioSemi's cap). Under C3 and C4 lies a
    rhythm of about 11 Hz of random phase and varying strength, and for about a second after an event the one on the
    side opposite to the hand is weaker (event-related desynchronisation, Pfurtscheller & Lopes da Silva 1999). Rhythms
    of the back and of the front of the head, background activity and noise of the electrodes are as strong in both
    classes. Subjects differ in frequency, strength, and places and directions of the dipoles.

    So the mean signal tells nothing about the class: what tells is the power in a band at a place.

    Parameters
    ----------
    n_subjects, n_trials : int
        `n_trials` is for each subject, and even.
    seed : int
    """
    mne = import_mne()
    with quiet_mne():
        montage = mne.channels.make_standard_montage("biosemi16")
        info = mne.create_info(montage.ch_names, RATE, "eeg").set_montage(montage)
        sphere = mne.make_sphere_model(CENTRE, 0.095)
        sphere["mu"], sphere["lambda"] = map(np.array, BERG)
        bar = tqdm(range(1, n_subjects + 1), desc="simulating", unit="subject", disable=None)
        return [_subject(mne, f"subject_{i:02d}", info, sphere, n_trials, Stream(seed).at(f"eeg {i}")) for i in bar]


def _subject(mne, name: str, info, sphere, n_trials: int, stream: Stream) -> Recording:
    rng = stream.numpy()
    right = rng.permutation(np.arange(n_trials) % 2).astype(bool)
    onsets = 1.0 + CYCLE * np.arange(n_trials) + rng.uniform(-0.2, 0.2, n_trials)
    n_times = int(RATE * (CYCLE * n_trials + 2.0))
    places, strengths, signals = ["C3", "C4"], [22.0, 22.0], [_rhythm(rng, n_times, rng.normal(11, 0.6)) for _ in "LR"]
    for signal, hand in zip(signals, (right, ~right), strict=True):  # the left side moves the right hand
        signal *= _weakening(rng, n_times, onsets[hand])
    for place, strength, frequency in (("Oz", 35.0, 10.0), ("Pz", 20.0, 10.5), ("Fz", 25.0, 6.0)):
        places.append(place)
        strengths.append(strength)
        signals.append(_rhythm(rng, n_times, rng.normal(frequency, 0.5)))
    for place in ("Fp1", "Fp2", "T7", "T8", "P3", "P4", "Cz"):
        places.append(place)
        strengths.append(20.0)
        signals.append(_background(rng, n_times))
    moments = 1e-9 * rng.uniform(0.8, 1.2, len(places)) * strengths  # ampere metres
    forward = _forward(mne, rng, info, sphere, places)
    currents = mne.VolSourceEstimate(moments[:, None] * np.stack(signals), [np.arange(len(places))], 0, 1 / RATE)
    raw = mne.simulation.simulate_raw(info, currents, forward=forward)
    noise = mne.make_ad_hoc_cov(info, {"eeg": 3e-6})
    mne.simulation.add_noise(raw, noise, iir_filter=[1, -0.5], rng=stream.at("noise").numpy())
    raw.apply_function(lambda volts: volts.round(9))  # as a recorder does, and so the same on every machine
    raw.set_annotations(mne.Annotations(onsets, 0, np.where(right, "right_hand", "left_hand")))
    return Recording(name, name, raw)


def _forward(mne, rng: np.random.Generator, info, sphere, places: list[str]):
    """The field of dipoles at about two thirds of the way to an electrode, pointing outwards or nearly so."""
    electrodes = {ch["ch_name"]: ch["loc"][:3] for ch in info["chs"]}
    outwards = np.array([electrodes[place] - sphere["r0"] for place in places])
    at = sphere["r0"] + 0.7 * outwards + rng.normal(0, 0.005, outwards.shape)
    direction = outwards / np.linalg.norm(outwards, axis=1, keepdims=True) + rng.normal(0, 0.3, outwards.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    sources = mne.setup_volume_source_space(pos={"rr": at, "nn": direction}, sphere=sphere)
    forward = mne.make_forward_solution(info, None, sources, sphere, meg=False, mindist=0)
    return mne.convert_forward_solution(forward, force_fixed=True)


def _rhythm(rng: np.random.Generator, n_times: int, frequency: float) -> np.ndarray:
    """Noise through a resonator of about 1 Hz band width: phase and strength wander; of unit variance."""
    radius = np.exp(-np.pi / RATE)
    feedback = [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2]
    signal = lfilter([1], feedback, rng.standard_normal(n_times + 512))[512:]
    return signal / signal.std()


def _background(rng: np.random.Generator, n_times: int) -> np.ndarray:
    """Noise that falls with frequency; of unit variance."""
    signal = lfilter([1], [1, -0.95], rng.standard_normal(n_times + 512))[512:]
    return signal / signal.std()


def _weakening(rng: np.random.Generator, n_times: int, onsets: np.ndarray) -> np.ndarray:
    """A factor over time: falls to about a third within a fifth of a second of an event, and is back a second later."""
    factor, time = np.ones(n_times), np.arange(n_times) / RATE
    for onset in onsets:
        since = time - onset - rng.uniform(-0.05, 0.1)
        dip = np.clip(since / 0.2, 0, 1) * np.clip((1.3 - since) / 0.3, 0, 1)
        factor -= rng.uniform(0.55, 0.85) * dip
    return factor
