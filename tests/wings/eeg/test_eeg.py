"""EEG epochs: simulated, or cut from files that other libraries wrote, with the right values at the right times."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from common.cli import UserError
from common.config import TrainingConfig
from common.data import folds_of, load_images, load_splits
from common.eeg.__main__ import main
from common.eeg.eegnet import DenseEEG
from common.eeg.epochs import load_epochs, save_epochs
from common.evaluation import join, predictions_table
from common.evaluation.predictions import classes_of
from common.plots import roc_plot
from common.seeds import Stream
from common.training import fit_on, set_up, test_model
from conftest import PROJECT

mne = pytest.importorskip("mne")
RATE = 100
SMALL = ("--n-subjects", "2", "--n-trials", "6")


def make(path, *arguments):
    main([str(path), *map(str, arguments)])
    return load_epochs(path)


@pytest.fixture(scope="module")
def signal():
    """Volts, (3 channels, 20 s): each second is a level of its own, and the channels differ in size."""
    levels = np.repeat(np.arange(20) * 1e-6, RATE)
    return np.stack([levels, 10 * levels, -levels])


EVENTS = [(second, ("left", "right")[second % 2]) for second in range(2, 18)]


@pytest.fixture(scope="module")
def edf(signal, tmp_path_factory):
    """An EDF+ file written by pyedflib, in microvolts."""
    import pyedflib

    path = tmp_path_factory.mktemp("edf") / "sub-07_task-rest_eeg.edf"
    writer = pyedflib.EdfWriter(str(path), 3, file_type=pyedflib.FILETYPE_EDFPLUS)
    for i, name in enumerate(("C3", "C4", "Cz")):
        limits = {"physical_min": -400, "physical_max": 400, "digital_min": -32768, "digital_max": 32767}
        texts = {"label": name, "dimension": "uV", "transducer": "", "prefilter": ""}
        writer.setSignalHeader(i, {**texts, **limits, "sample_frequency": RATE})
    writer.writeSamples([1e6 * channel for channel in signal])
    for second, name in EVENTS:
        writer.writeAnnotation(second, -1, name)
    writer.close()
    return path


def write_fif(path, signal, rate=RATE, names=("C3", "C4", "Cz"), bads=()):
    """A FIF file with a trigger channel: 1 and 2 in turn, from the second second on."""
    info = mne.create_info([*names, "STI 014"], rate, ["eeg"] * len(names) + ["stim"])
    trigger = np.zeros((1, signal.shape[1]))
    for second, name in EVENTS:
        trigger[0, second * rate] = 1 + (name == "right")
    raw = mne.io.RawArray(np.concatenate([signal, trigger]), info, verbose="ERROR")
    raw.info["bads"] = list(bads)
    raw.save(path, verbose="ERROR")
    return path


def write_brainvision(folder, signal):
    """A recording in BrainVision's three files, of 32-bit floats in microvolts."""
    (folder / "S01.eeg").write_bytes((1e6 * signal.T).astype("<f4").tobytes())
    channels = "\n".join(f"Ch{i}={name},,1,µV" for i, name in enumerate(("C3", "C4", "Cz"), start=1))
    (folder / "S01.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=S01.eeg\n"
        "MarkerFile=S01.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=3\n"
        f"SamplingInterval={1e6 / RATE:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    kinds = {"left": "S  1", "right": "S  2"}
    markers = [f"Mk{i}=Stimulus,{kinds[n]},{s * RATE + 1},1,0" for i, (s, n) in enumerate(EVENTS, start=2)]
    (folder / "S01.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=S01.eeg\n"
        "[Marker Infos]\nMk1=New Segment,,1,1,0,20200101000000000000\n" + "\n".join(markers) + "\n",
        encoding="utf-8",
    )
    return folder / "S01.vhdr"


# ---- the simulation


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return make(tmp_path_factory.mktemp("simulated") / "eeg.npz", *SMALL, "--seed", 3)


def test_the_simulation_has_subjects_with_both_classes(simulated):
    assert simulated.X.shape == (12, 16, 128) and simulated.X.dtype == np.float32
    assert simulated.metadata["events"] == ["left_hand", "right_hand"]
    for subject in ("subject_01", "subject_02"):
        assert np.bincount(simulated.y[simulated.groups == subject]).tolist() == [3, 3]
    assert set(simulated.groups) == {"subject_01", "subject_02"}
    assert 1e-6 < simulated.X.std() < 5e-5  # volts, of the size of EEG
    places = dict(zip(simulated.metadata["channels"], simulated.metadata["positions"], strict=True))
    assert places["C3"][0] < -0.02 < 0.02 < places["C4"][0]  # left is negative; metres


def test_the_simulations_classes_differ_in_power_over_the_motor_cortex_and_not_in_the_mean(tmp_path):
    epochs = make(tmp_path / "eeg.npz", "--n-subjects", 4, "--l-freq", 8, "--h-freq", 14)
    at = [epochs.metadata["channels"].index(name) for name in ("C3", "C4")]
    power = np.log(epochs.X[:, at].var(axis=2))
    left = epochs.y == 0
    sides = power[:, 0] - power[:, 1]  # moving the left hand weakens the rhythm of the right side
    assert sides[left].mean() - sides[~left].mean() > 0.5 * sides.std()
    noise = epochs.X.std(axis=0) / np.sqrt(left.sum())
    assert np.abs(epochs.X[left].mean(axis=0) - epochs.X[~left].mean(axis=0)).max() < 6 * noise.max()


def test_the_same_seed_gives_the_same_bytes_in_another_process(simulated, tmp_path):
    command = [sys.executable, "-m", "common.eeg", "other.npz", *SMALL, "--seed", "3"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    line = "other.npz: 12 epochs (6 left_hand, 6 right_hand) of 2 subjects, 16 channels, 128 samples at 128 Hz, "
    assert done.stdout.startswith(line) and done.stdout.count("\n") == 1 and (done.returncode, done.stderr) == (0, "")
    save_epochs(simulated, tmp_path / "one.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert not np.array_equal(make(tmp_path / "four.npz", *SMALL, "--seed", 4).X, simulated.X)


def test_settings_act_and_are_recorded(simulated, tmp_path):
    words = "--l-freq 8 --h-freq 30 --notch 50 --tmin -0.5 --tmax 1 --baseline -0.5 0 --resample 64 --channels C4 C3"
    epochs = make(tmp_path / "eeg.npz", *SMALL, "--seed", 3, *words.split())
    assert epochs.X.shape == (12, 2, 96) and epochs.metadata["channels"] == ["C4", "C3"]
    assert np.abs(epochs.X[:, :, :33].mean(axis=2)).max() < 1e-9
    assert epochs.X.std() < simulated.X.std()
    expected = {"l_freq": 8, "h_freq": 30, "notch": 50, "tmin": -0.5, "tmax": 1, "baseline": [-0.5, 0], "reject": None}
    settings = epochs.metadata["settings"]
    assert {name: settings[name] for name in expected} == expected and epochs.metadata["sampling_rate"] == 64
    assert epochs.metadata["mne_version"] == mne.__version__ and epochs.metadata["simulation"]["seed"] == 3


def test_epochs_with_too_large_a_range_are_left_out_and_counted(simulated, tmp_path):
    ranges = np.ptp(simulated.X, axis=2).max(axis=1)
    limit = float(np.median(ranges))
    epochs = make(tmp_path / "eeg.npz", *SMALL, "--seed", 3, "--reject", limit)
    assert np.array_equal(epochs.X, simulated.X[ranges <= limit])
    assert sum(counts.get("RANGE", 0) for counts in epochs.metadata["dropped"].values()) == (ranges > limit).sum() > 0
    assert f"; {(ranges > limit).sum()} left out" in epochs.describe()


# ---- files


def levels_of(epochs):
    """The level of each second in microvolts, from each channel."""
    return np.round(1e6 * epochs.X.mean(axis=2) / [1, 10, -1], 1)


def test_an_edf_file_of_another_library_gives_its_volts_at_its_events(edf, signal, tmp_path):
    epochs = make(tmp_path / "eeg.npz", "--source", "files", "--files", edf)
    assert epochs.X.shape == (16, 3, RATE) and epochs.metadata["events"] == ["left", "right"]
    assert [epochs.metadata["events"][label] for label in epochs.y] == [name for _, name in EVENTS]
    assert set(epochs.groups) == {"sub-07"}
    expected = np.stack([signal[:, s * RATE : (s + 1) * RATE] for s, _ in EVENTS])
    np.testing.assert_allclose(epochs.X, expected, atol=800e-6 / 65535)  # one step of the file's 16 bits
    assert epochs.metadata["files"] == [edf.name] and epochs.metadata["sampling_rate"] == RATE


def test_fif_and_brainvision_files_give_the_same(signal, tmp_path):
    fif = write_fif(tmp_path / "someone_raw.fif", signal)
    vhdr = write_brainvision(tmp_path, signal)
    one = make(tmp_path / "1.npz", "--source", "files", "--files", fif, "--events", 2, 1)
    two = make(tmp_path / "2.npz", "--source", "files", "--files", vhdr, "--subjects", "Ann")
    assert one.metadata["events"] == ["2", "1"] and two.metadata["events"] == ["Stimulus/S  1", "Stimulus/S  2"]
    assert set(one.groups) == {"someone_raw"} and set(two.groups) == {"Ann"}
    np.testing.assert_allclose(one.X, two.X, atol=1e-12)
    assert np.array_equal(one.y, 1 - two.y)
    assert np.array_equal(levels_of(one), np.repeat([[s] for s, _ in EVENTS], 3, axis=1))


def test_several_files_go_together_without_the_channels_that_one_marks_as_bad(signal, tmp_path):
    files = [write_fif(tmp_path / f"S00{i}R01.fif", signal, bads=["C4"] * (i == 2)) for i in (1, 2)]
    epochs = make(tmp_path / "eeg.npz", "--source", "files", "--files", *files)
    assert epochs.metadata["channels"] == ["C3", "Cz"] and sorted(set(epochs.groups)) == ["S001", "S002"]
    slow = write_fif(tmp_path / "slow_raw.fif", signal[:, ::2], rate=RATE // 2)
    both = make(tmp_path / "b.npz", "--source", "files", "--files", files[0], slow, "--resample", 50)
    assert both.X.shape == (32, 3, 50)
    assert np.abs(both.X[:16, :, 10:40] - both.X[16:, :, 10:40]).max() < 1e-5


# ---- groups


def write_day(folder, name, signal, day):
    """A recording of 60 s, with the date of its measurement."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    raw = mne.io.read_raw_fif(write_fif(path, np.tile(signal, 3)), preload=True, verbose="ERROR")
    raw.set_meas_date(datetime(2024, 5, day, tzinfo=UTC) if day else None)
    raw.save(path, overwrite=True, verbose="ERROR")
    return path


def test_groups_may_be_subjects_sessions_or_recordings(signal, tmp_path):
    names = ["sub-1_ses-a_run-1_raw.fif", "sub-1_ses-a_run-2_raw.fif", "sub-1_run-3_raw.fif", "sub-2_ses-a_raw.fif"]
    files = [write_day(tmp_path, name, signal, day) for name, day in zip(names, (1, 2, 3, None), strict=True)]
    expected = {
        "subject": ["sub-1", "sub-1", "sub-1", "sub-2"],
        "session": ["sub-1 ses-a", "sub-1 ses-a", "sub-1 2024-05-03", "sub-2 ses-a"],
        "run": names,
    }
    for kind, groups in expected.items():
        epochs = make(tmp_path / "eeg.npz", "--source", "files", "--files", *files, "--groups", kind)
        assert epochs.groups.tolist() == [group for group in groups for _ in EVENTS], kind
    assert " of 2 subjects in 4 runs, " in epochs.describe() and epochs.grouped_by == "run"
    same = [write_day(tmp_path, f"{folder}/x_raw.fif", signal, None) for folder in "ab"]
    flags = ("--source", "files", "--files", *same, "--subjects", "Ann", "Ann", "--groups")
    groups = make(tmp_path / "eeg.npz", *flags, "run").groups
    assert sorted(set(groups)) == [f"Ann {path}" for path in same]
    (tmp_path / "eeg.npz").unlink()
    told = f"--groups session: {same[0]}: expected ses-… in its name, as BIDS has it, or a date of measurement in it"
    assert refuse(tmp_path, *flags, "session") == told


def test_blocks_are_stretches_that_share_no_moment(tmp_path):
    flags = ("--n-subjects", 1, "--n-trials", 60, "--groups", "block")
    epochs = make(tmp_path / "eeg.npz", *flags)
    blocks = [f"subject_01 block {number}" for number in range(1, 11)]
    assert epochs.groups.tolist() == np.repeat(blocks, 6).tolist()
    longer = make(tmp_path / "eeg.npz", *flags, "--tmax", 3)  # an event every two seconds
    assert longer.metadata["dropped"] == {"subject_01": {"BORDER": 9}}
    assert longer.groups.tolist() == np.repeat(blocks, [6] + 9 * [5]).tolist()
    assert np.array_equal(longer.X[6, :, :128], epochs.X[7])


@pytest.mark.parametrize("flags", ["--n-subjects 8 --n-trials 6", "--n-subjects 1 --n-trials 60 --groups block"])
def test_few_subjects_or_one_are_trained_and_classes_keep_their_names(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    main([str(tmp_path / "mine.npz"), *flags.split()])
    table = load_images(str(tmp_path / "mine.npz"), 64)
    unit = "10 blocks" if "block" in flags else "8 subjects"
    assert f" in {unit} ({len(table) // 2} left_hand, {len(table) // 2} right_hand)" in capsys.readouterr().out
    folds = folds_of(load_splits(table), 2, 2)
    config = TrainingConfig(model=DenseEEG, augmentation=None, epochs=1)
    tables = []
    for fold in folds:
        network, _ = fit_on(table, fold, set_up("cpu", "fp32"), Stream(0))(config, lambda *_: None)
        dev, test = (test_model(network, table, rows) for rows in (fold.dev, fold.test))
        tables.append(predictions_table(table, fold, dev, test, 0.5))
    predictions = join(tables)
    assert classes_of(predictions) == ["left_hand", "right_hand"] == sorted(set(predictions["class"]))
    figure = roc_plot(predictions, classes_of(predictions))
    assert figure.get_suptitle() == f"ROC, {len(fold.test)} test samples, 2 models"
    assert "right_hand found" in figure.axes[0].get_ylabel()


def test_too_few_groups_are_told_in_the_words_of_eeg(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    main([str(tmp_path / "one.npz"), "--n-subjects", "2", "--n-trials", "6"])
    line = "2 subjects of class left_hand, .* at least 3, .*; python -m common.eeg --groups block makes more groups"
    with pytest.raises(UserError, match=line):
        load_splits(load_images(str(tmp_path / "one.npz"), 64))


# ---- what cannot be


def refuse(tmp_path, *arguments):
    with pytest.raises(UserError) as error:
        main([str(tmp_path / "eeg.npz"), *map(str, arguments)])
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if "npz" in path.name]
    return str(error.value)


def test_what_files_lack_is_named(edf, tmp_path):
    told = {
        "--channels C3 Pz": f"--channels Pz: no such channel in {edf}; it has C3, C4, Cz",
        "--events left up": "--events up: no such event; found left, right",
        "--events left": "expected two kinds of event or more, found left",
        "--reject 1e-7 --tmax 2": "no epochs of event 'left' are left; left out: 16 for RANGE",
        "--h-freq 60": "--h-freq 60: expected less than half of the sampling rate, 100 Hz",
        "--subjects a b": "--subjects: expected one for each of the 1 files, found 2",
    }
    for words, line in told.items():
        assert line in refuse(tmp_path, "--source", "files", "--files", edf, *words.split())


def test_files_that_do_not_fit_together_are_named(signal, tmp_path):
    one = write_fif(tmp_path / "one_raw.fif", signal)
    slow = write_fif(tmp_path / "slow_raw.fif", signal[:, ::2], rate=RATE // 2)
    other = write_fif(tmp_path / "other_raw.fif", signal, names=("C3", "C4", "Pz"))
    broken = write_fif(tmp_path / "nan_raw.fif", np.where(np.arange(20 * RATE) == 500, np.nan, signal))
    files = ("--source", "files", "--files")
    assert f"{slow}: sampled at 50 Hz, but {one} at 100 Hz; --resample HZ" in refuse(tmp_path, *files, one, slow)
    assert f"{other}: other channels than {one} (Cz, Pz); --channels" in refuse(tmp_path, *files, one, other)
    assert f"{broken}: not all values are finite" in refuse(tmp_path, *files, broken)


@pytest.mark.parametrize("name", ["text.edf", "text.fif", "text.vhdr", "text.csv", "empty.edf"])
def test_a_file_that_is_no_eeg_is_named(tmp_path, name):
    (tmp_path / name).write_text("" if name.startswith("empty") else "a text\n" * 100)
    assert refuse(tmp_path, "--source", "files", "--files", tmp_path / name).startswith(
        f"--files {tmp_path / name}: no EEG that MNE-Python reads ("
    )
    assert refuse(tmp_path, "--source", "files", "--files", tmp_path / "none.edf").endswith("none.edf: no such file")


def test_a_brainvision_data_file_leads_to_its_header(signal, tmp_path):
    header = write_brainvision(tmp_path, signal)
    assert refuse(tmp_path, "--source", "files", "--files", tmp_path / "S01.eeg").endswith(f"give its header {header}")


def test_flags_that_do_not_go_together_are_refused(tmp_path):
    told = {
        "--source files": "--source files: expected --files FILE …",
        "--files a.edf": "--files: only with --source files",
        "--tmin 1 --tmax 0.5": "--tmax 0.5: expected more than --tmin 1",
        "--baseline -1 0": "--baseline -1 0: expected from 0 to less than 1 seconds",
        "--h-freq 5 --l-freq 9": "--h-freq 5: expected more than --l-freq 9",
    }
    for words, line in told.items():
        assert line in refuse(tmp_path, *words.split())


def test_a_download_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    line = refuse(tmp_path, "--source", "eegbci", "--n-subjects", 1)
    assert line.startswith("--source eegbci: the download failed (")
    assert "https://physionet.org/files/eegmmidb/1.0.0/ into " in line and line.endswith("or use --source simulated")


def test_a_file_of_epochs_that_is_none_is_refused(tmp_path, simulated):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    make(good, *SMALL)
    half = good.read_bytes()
    for content in (b"", b"a text", half[: len(half) // 2]):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"bad.npz: expected an .npz file with the arrays X, y, groups, metadata"):
            load_epochs(bad)
    np.savez(bad, X=simulated.X, y=simulated.y[1:], groups=simulated.groups, metadata=json.dumps(simulated.metadata))
    with pytest.raises(UserError, match=r"bad.npz: not a file of epochs \(X .* differ\)"):
        load_epochs(bad)
