"""Models of arrays in the registry: they answer for `.npz` files and for recordings, here and over HTTP."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server
from registering import a_run
from test_eeg import EVENTS, RATE, main, mne, write_fif

from common.cli import UserError
from common.data.arrays import load_arrays
from common.eeg.eegnet import DenseEEG, EEGNet
from common.eeg.epochs import load_epochs
from common.model import make_classifier
from common.production import load_production, predict
from common.production.ensemble import Ensemble
from common.production.registry import register_version
from common.seeds import Stream
from common.training import test_model


@pytest.fixture(scope="module")
def motor(empty_stores, tmp_path_factory):
    """A project with two versions of the model `motor`, trained (or as good as) on epochs of two recordings."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(empty_stores / "mlflow.db", folder)
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        signals = [rng.normal(0, 1e-5, (3, 20 * RATE)) for _ in "12"]
        files = [write_fif(folder / f"sub-{i}_raw.fif", signal) for i, signal in enumerate(signals)]
        flags = ["--events", "2", "1", "--l-freq", "4", "--resample", "50", "--channels", "Cz", "C3"]
        main([str(folder / "motor.npz"), "--source", "files", "--files", *map(str, files), *flags])
        table = load_arrays(folder / "motor.npz", cached=False)
        networks = {}
        for kind, score in ((DenseEEG, 0.4), (EEGNet, 0.3)):
            networks[kind] = make_classifier(Stream(1), 2, (2, 50), model=kind)
            ensemble = Ensemble([networks[kind]], [0.5], table.classes, table.about)
            register_version(a_run(), "motor", ensemble, {"test_mcc": score}, table)
        yield SimpleNamespace(folder=folder, files=files, table=table, networks=networks, flags=flags)


def expected_of(motor, kind):
    rows = np.arange(len(motor.table))
    second = test_model(motor.networks[kind], motor.table, rows)
    return pd.DataFrame({"probability_2": 1 - second, "probability_1": second})


def test_the_better_of_two_models_is_in_production_and_both_answer_for_an_npz_file(motor, capsys):
    for version, kind in ((None, DenseEEG), (2, EEGNet)):
        flags = ["--version", str(version)] if version else []
        answers = predict.main(["--model", "motor", *flags, str(motor.folder / "motor.npz")])
        expected = expected_of(motor, kind)
        pd.testing.assert_frame_equal(answers[list(expected)], expected, rtol=0, atol=1e-6)
        assert answers["prediction"].tolist() == np.where(expected["probability_1"] >= 0.5, "1", "2").tolist()
        assert answers["sample"].tolist() == list(range(len(EVENTS) * 2)) and "onset" not in answers
    assert "motor.npz,0," in capsys.readouterr().out
    predict.main(["--model", "motor", str(motor.folder / "motor.npz"), "--output", str(motor.folder / "x.csv")])
    assert capsys.readouterr().err.strip().endswith(f"{2 * len(EVENTS)} samples: {motor.folder / 'x.csv'}")


@pytest.mark.parametrize("suffix", ["fif", "edf"])
def test_a_recording_is_cut_as_those_of_the_training_were(motor, suffix, tmp_path):
    recording = motor.files[1]
    if suffix == "edf":
        recording = as_edf(mne.io.read_raw_fif(recording, preload=True, verbose="ERROR"), tmp_path / "x.edf")
    answers = predict.main(["--model", "motor", str(recording)])
    expected = expected_of(motor, DenseEEG)[len(EVENTS) :].reset_index(drop=True)
    tolerance = 1e-6 if suffix == "fif" else 1e-3  # of 16 bits
    pd.testing.assert_frame_equal(answers[list(expected)], expected, rtol=0, atol=tolerance)
    assert answers["onset"].tolist() == [second for second, _ in EVENTS]


def as_edf(raw, path):
    import pyedflib

    writer = pyedflib.EdfWriter(str(path), 3, file_type=pyedflib.FILETYPE_EDFPLUS)
    for i, name in enumerate(("C3", "C4", "Cz")):
        limits = {"physical_min": -100, "physical_max": 100, "digital_min": -32768, "digital_max": 32767}
        texts = {"label": name, "dimension": "uV", "transducer": "", "prefilter": ""}
        writer.setSignalHeader(i, {**texts, **limits, "sample_frequency": RATE})
    writer.writeSamples(list(1e6 * raw.get_data("eeg")))
    for second, _ in EVENTS:
        writer.writeAnnotation(second, -1, "cue")  # what is to be predicted is not in the file
    writer.close()
    return path


def test_the_model_answers_over_http(motor):
    client = TestClient(scoring_server.init(load_production("motor")))
    answer = client.post("/invocations", json={"inputs": motor.table.pixels[:3].tolist()})
    found = pd.DataFrame(answer.json()["predictions"])
    expected = expected_of(motor, DenseEEG)[:3]
    pd.testing.assert_frame_equal(found[list(expected)], expected, rtol=0, atol=1e-6)
    assert client.post("/invocations", json={"inputs": [[1.0]]}).status_code == 400


def test_what_a_model_of_arrays_does_not_take_is_told_in_one_line(motor, tmp_path):
    np.savez(tmp_path / "long.npz", X=np.zeros((2, 2, 51)))
    np.savez(tmp_path / "nan.npz", X=np.full((2, 2, 50), np.nan))
    np.savez(tmp_path / "none.npz", y=np.zeros(2))
    epochs = load_epochs(motor.folder / "motor.npz")
    other = json.dumps({**epochs.metadata, "channels": ["C3", "Cz"]})
    np.savez(tmp_path / "other.npz", X=epochs.X, metadata=np.array(other))
    quiet = mne.io.RawArray(np.zeros((2, 500)), mne.create_info(["Cz", "C3"], 50, "eeg"), verbose="ERROR")
    quiet.save(tmp_path / "quiet_raw.fif", verbose="ERROR")
    quiet.copy().pick(["Cz"]).save(tmp_path / "one_raw.fif", verbose="ERROR")
    (tmp_path / "cat.jpg").write_text("no image")
    told = {
        "long.npz": "expected samples of shape (2, 50), as the model takes, found (2, 51)",
        "nan.npz": "X: expected finite numbers, found nan or infinity in sample 0",
        "none.npz": "expected the array X with samples, found none",
        "other.npz": "channels: expected ['Cz', 'C3'], as the model was trained with, found ['C3', 'Cz']",
        "quiet_raw.fif": "expected events to cut at, found none",
        "one_raw.fif": "no channel C3, which the model takes; found Cz",
        "cat.jpg": "no EEG that MNE-Python reads (",
    }
    for name, line in told.items():
        with pytest.raises(UserError) as error:
            predict.main(["--model", "motor", str(tmp_path / name)])
        assert str(error.value).startswith(f"{tmp_path / name}: {line}") and "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"grid.png: expected a .csv, as motor takes arrays"):
        predict.main(["--model", "motor", str(tmp_path / "long.npz"), "--output", str(tmp_path / "grid.png")])
