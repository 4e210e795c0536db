"""EEG recordings, read with MNE-Python: files of one's own, or PhysioNet's motor imagery."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from common.cli import UserError, reason_of
from common.state import data_folder, regular

if TYPE_CHECKING:
    from mne.io import BaseRaw

NO_EVENT = re.compile(r"bad|edge|new segment|boundary", re.IGNORECASE)
"""How annotations begin that tell of the recording and not of an event."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording of one subject, a run; `name` is that of its file, and `session` None where nothing tells it."""

    subject: str
    name: str
    raw: BaseRaw
    session: str | None = None


def import_mne():
    """MNE-Python, whose import takes seconds.

    Raises
    ------
    UserError
        When it is not installed.
    """
    try:
        import mne
    except ImportError as error:
        raise UserError("EEG needs MNE-Python: pip install 'reproai[eeg]'") from error
    return mne


@contextlib.contextmanager
def quiet_mne() -> Iterator[None]:
    """MNE-Python says nothing that is not an error, and computes on one core: more would change the last bits."""
    with import_mne().use_log_level("ERROR"), threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def events_of(raw: BaseRaw) -> tuple[np.ndarray, dict[str, int]]:
    """The events of a recording, from its annotations or else from its stim channel.

    Returns
    -------
    events : ndarray of int, shape (n_events, 3)
        As MNE has them: sample, 0, number.
    numbers : dict
        The number of each name. Events of a stim channel are named by their number.
    """
    mne = import_mne()
    names = sorted({str(name) for name in raw.annotations.description if not NO_EVENT.match(name)})
    if names:
        return mne.events_from_annotations(raw, {name: i for i, name in enumerate(names, start=1)})
    if "stim" in raw:
        events = mne.find_events(raw, shortest_event=1)
        return events, {str(number): int(number) for number in np.unique(events[:, 2])}
    return np.zeros((0, 3), int), {}


def read_files(files: Sequence[Path], subjects: Sequence[str] | None = None) -> list[Recording]:
    """Open files that MNE-Python knows (EDF, BDF, FIF, BrainVision and more).

    Parameters
    ----------
    files : sequence of Path
    subjects : sequence of str, optional
        The subject of each file. Otherwise a name as in BIDS (``sub-01_…``) or in PhysioNet (``S001R04``) tells it, or
        each file is a subject of its own.

    Raises
    ------
    UserError
        When a file is missing or no EEG, or there is not one subject for each file.
    """
    if subjects and len(subjects) != len(files):
        raise UserError(f"--subjects: expected one for each of the {len(files)} files, found {len(subjects)}")
    mne = import_mne()
    found = []
    with quiet_mne():
        for i, path in enumerate(tqdm(files, desc="opening files", unit="file", disable=None)):
            if not path.exists():
                raise UserError(f"--files {path}: no such file")
            try:
                raw = mne.io.read_raw(regular(path))
            except Exception as error:  # what a reader raises depends on the bytes
                header = path.with_suffix(".vhdr")
                hint = f"; give its header {header}" if header != path and header.exists() else ""
                raise UserError(f"--files {path}: no EEG that MNE-Python reads ({reason_of(error)}){hint}") from error
            subject = subjects[i] if subjects else _subject_of(path)
            found.append(Recording(subject, str(path), raw, _session_of(path, raw)))
    return found


def _subject_of(path: Path) -> str:
    known = re.match(r"(sub-[A-Za-z0-9]+)_|(S\d+)(?=R\d+\b)", path.name)
    return next(filter(None, known.groups())) if known else path.name.split(".")[0]


def _session_of(path: Path, raw: BaseRaw) -> str | None:
    """As BIDS names it, ``ses-01``, else the day of the measurement."""
    if named := re.findall(r"(?<![^_/])ses-[A-Za-z0-9]+", path.as_posix()):
        return named[-1]
    return raw.info["meas_date"] and raw.info["meas_date"].date().isoformat()


def load_eegbci(n_subjects: int) -> list[Recording]:
    """Imagined movements of the left (T1) and right (T2) fist: runs 4, 8 and 12 of the EEG motor movement/imagery set.

    Downloaded from PhysioNet on first use (Schalk et al. 2004, doi:10.13026/C28G6P; 7 MB for each subject).

    Raises
    ------
    UserError
        When the download fails.
    """
    mne = import_mne()
    found = []
    with quiet_mne():
        for subject in tqdm(range(1, n_subjects + 1), desc="loading", unit="subject", disable=None):
            try:
                eegbci = data_folder() / "eegbci"
                eegbci.mkdir(parents=True, exist_ok=True)
                paths = mne.datasets.eegbci.load_data(subject, [4, 8, 12], path=eegbci, update_path=False)
            except (OSError, ValueError) as error:
                place = eegbci / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0"
                raise UserError(
                    f"--source eegbci: the download failed ({reason_of(error)}); without a network put the folders "
                    f"S001, S002, … of https://physionet.org/files/eegmmidb/1.0.0/ into {place} and run again, "
                    "or use --source simulated"
                ) from error
            for recording in read_files([Path(path) for path in paths]):
                mne.datasets.eegbci.standardize(recording.raw)
                recording.raw.set_montage("standard_1005")
                found.append(recording)
    return found
