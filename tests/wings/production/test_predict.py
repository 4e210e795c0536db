"""``python -m common.production.predict``: a model's predictions as a CSV, a grid of pictures, or one line of error."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from registering import register_pets

from common.cli import UserError
from common.production import load_production, predict
from conftest import PROJECT


@pytest.fixture(scope="module", autouse=True)
def registry(tiny_pets, empty_stores, tmp_path_factory):
    """A project of its own, with two versions of the model `pets`, the first of which is in production."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        shutil.copy(empty_stores / "mlflow.db", folder)
        patch.setenv("REPROAI_STATE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert [register_pets(tiny_pets, test_mcc=score) for score in (0.5, 0.25)] == [1, 2]
        yield


@pytest.fixture
def photos(tiny_pets):
    return tiny_pets / "images"


def test_files_and_folders_are_predicted_as_the_model_does_and_printed_as_csv(photos, tiny_pets, capsys):
    single = photos / "Bengal_2.jpg"
    table = predict.main(["--model", "pets", str(single), str(tiny_pets)])
    files = [single, *sorted(photos.iterdir())]
    expected = load_production("pets").predict(pd.DataFrame({"image": [file.read_bytes() for file in files]}))
    assert table["file"].tolist() == [str(file) for file in files]
    pd.testing.assert_frame_equal(table.drop(columns="file"), expected, rtol=0, atol=1e-9)
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    pd.testing.assert_frame_equal(printed, table, rtol=0, atol=1e-12)


def test_a_csv_is_written_by_the_version_that_is_named(photos, tmp_path, capsys):
    output = tmp_path / "predictions.csv"
    predict.main(["--model", "pets", "--version", "2", str(photos), "--output", str(output)])
    table = pd.read_csv(output)
    columns = [
        "file",
        "prediction",
        "probability_cat",
        "probability_dog",
        "threshold",
        "positive_class",
        "model_version",
    ]
    assert table.columns.tolist() == columns and set(table["model_version"]) == {2}
    is_dog = (table["positive_class"] == "dog") & (table["probability_dog"] >= table["threshold"])
    assert table["prediction"].tolist() == np.where(is_dog, "dog", "cat").tolist()
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip().endswith(f"24 images: {output}")
    assert os.listdir(tmp_path) == ["predictions.csv"]


def test_a_grid_shows_the_pictures(photos, tmp_path):
    some = [str(photos / f"{name}_{number}.jpg") for name in ("Bengal", "beagle") for number in range(1, 5)]
    predict.main(["--model", "pets", *some, "--output", str(tmp_path / "grid.png")])
    grid = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    assert grid.shape[0] > 500 and grid.shape[1] > 1000  # 6 pictures and 2 below
    assert len(np.unique(grid.reshape(-1, 3), axis=0)) > 1000


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_written(photos, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((photos / "Bengal_1.jpg").read_bytes()[:300])
    output = tmp_path / "outputs" / "a.csv"
    output.parent.mkdir()
    with pytest.raises(UserError, match=f"^{broken}: not a readable image"):
        predict.main(["--model", "pets", str(photos), str(broken), "--output", str(output)])
    assert list(output.parent.iterdir()) == [] and capsys.readouterr().out == ""


def test_wrong_input_is_one_line_that_says_what_is_expected(photos, tmp_path):
    photo = str(photos / "Bengal_1.jpg")
    wrong = {
        ("--model", "cars", photo): "model cars: not in the registry; registered are: pets",
        ("--model", "pets", "--version", "3", photo): "model pets: no version 3; expected one of: 1, 2",
        ("--model", "pets", "gone.jpg"): "gone.jpg: no such file or folder",
        ("--model", "pets", str(tmp_path)): f"{tmp_path}: no images in this folder",
        ("--model", "pets", photo, "--output", "a.txt"): "--output a.txt: expected a name that ends with .csv or .png",
        ("--model", "pets", photo, "--output", "gone/a.csv"): "--output gone/a.csv: no folder gone",
        ("--model", "pets", *[photo] * 121, "--output", "a.png"): "--output a.png: 121 images; a grid has room for 120",
    }
    for arguments, line in wrong.items():
        with pytest.raises(UserError, match=f"^{line}"):
            predict.main(list(arguments))


def test_as_a_program_it_ends_with_exit_code_2_and_its_help_loads_nothing_heavy():
    def program(*flags):
        command = [sys.executable, "-X", "importtime", "-m", "common.production.predict", *flags]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    done = program("--help")
    assert done.returncode == 0 and "--version N" in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "common" in loaded and not loaded & {"torch", "mlflow", "pandas", "numpy", "matplotlib", "PIL"}
    done = program("--model", "pets", "gone.jpg")
    told = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, told) == (2, ["error: gone.jpg: no such file or folder"])
