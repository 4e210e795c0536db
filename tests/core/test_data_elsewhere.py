"""A pickled table finds its pixels on another machine: here a process with other folders of state and cache."""

import os
import pickle
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from common.data import load_images

HERE = socket.gethostname()
READ = """
import pickle, sys
from common.cli import UserError
from common.data import decoded

read, count = decoded.read_image, []
def counted(*arguments):
    count.append(arguments)
    return read(*arguments)
decoded.read_image = counted
try:
    table = pickle.load(open(sys.argv[1], "rb"))
except UserError as error:
    sys.exit(f"error: {error}")
table.pixels.tofile(sys.argv[2])
print(len(count), *table.pixels.shape, table.pixels.filename)
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """The state of the machine that pickles."""
    monkeypatch.delenv("REPROAI_CACHE", raising=False)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "driver"))
    return tmp_path / "driver"


@pytest.fixture
def elsewhere(driver, tmp_path):
    """A function that starts unpickling a table in a process with a state of its own; it returns what it found."""

    def start(table, state, cache=None):
        (tmp_path / "table").write_bytes(pickle.dumps(table))
        environment = {**os.environ, "REPROAI_STATE": str(tmp_path / state)}
        if cache:
            environment["REPROAI_CACHE"] = str(tmp_path / cache)
        command = [
            sys.executable,
            "-c",
            READ,
            str(tmp_path / "table"),
            str(out := tmp_path / f"{state}.{os.urandom(4).hex()}"),
        ]
        process = subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)

        def result():
            found, error = process.communicate()
            if process.returncode:
                return error.strip()
            n_decoded, *shape, path = found.split()
            pixels = np.fromfile(out, table.pixels.dtype).reshape([int(n) for n in shape])
            assert pixels.shape == table.pixels.shape and (pixels == table.pixels).all()
            return int(n_decoded), os.path.relpath(path, tmp_path)

        return result

    return start


@pytest.fixture
def photos(tiny_pets, tmp_path):
    return shutil.copytree(tiny_pets, tmp_path / "photos")


def broken_and_grey(photos):
    """All that is left is grey."""
    for path in (photos / "images").iterdir():
        Image.open(path).convert("L").save(path)
    (photos / "images" / "beagle_3.jpg").write_bytes(b"no image")


@pytest.mark.parametrize("change", [lambda photos: None, broken_and_grey])
def test_images_are_decoded_once_on_a_machine_without_the_cache_and_then_read(change, photos, driver, elsewhere):
    change(photos)
    table = load_images(str(photos), 24, skip_unreadable=True)
    assert table.pixels.shape[1] == (1 if "grey" in change.__name__ else 3)
    assert elsewhere(table, "other")() == (0, f"driver/cache/{os.path.basename(table.pixels.filename)}")
    shutil.rmtree(driver)
    both = [elsewhere(table, "other"), elsewhere(table, "other")]
    (first, path), (second, same) = sorted((result() for result in both), reverse=True)
    assert (first, second) == (len(table), 0) and path == same and path.startswith("other/cache/images-")
    shutil.rmtree(photos)
    assert elsewhere(table, "other")() == (0, path)


def test_a_cache_of_its_own_is_filled_from_the_shared_disk(photos, driver, elsewhere):
    table = load_images(str(photos), 24)
    shutil.rmtree(photos)
    name = os.path.basename(table.pixels.filename)
    assert elsewhere(table, "other", "fast")() == (0, f"fast/{name}")
    shutil.rmtree(driver)
    assert elsewhere(table, "other", "fast")() == (0, f"fast/{name}")


def test_other_images_and_none_at_all_are_one_line(photos, driver, elsewhere):
    table = load_images(str(photos), 24)
    path = table.pixels.filename
    shutil.rmtree(driver)
    changed = photos / "images" / "beagle_3.jpg"
    before = changed.read_bytes()
    shutil.copy(photos / "images" / "beagle_4.jpg", changed)
    line = f"error: {HERE}: {photos}: other images than those of the run, fingerprint {table.fingerprint[:12]}"
    assert elsewhere(table, "other")() == line
    changed.write_bytes(before)
    assert elsewhere(table, "other")()[0] == len(table)
    shutil.rmtree(photos)
    own = driver.with_name("third") / "cache" / os.path.basename(path)
    expected = f"neither {path} nor {own} nor {photos} is there; expected REPROAI_STATE on a shared disk"
    assert elsewhere(table, "third")() == f"error: {HERE}: {expected}"


def test_arrays_come_from_a_shared_disk_alone(driver, elsewhere, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "arrays.npz", X=rng.normal(size=(20, 3, 4)), y=np.arange(20) % 2)
    table = load_images(str(tmp_path / "arrays.npz"), 24)
    name = os.path.basename(table.pixels.filename)
    assert elsewhere(table, "other")() == (0, f"driver/cache/{name}")
    assert elsewhere(table, "other", "fast")() == (0, f"fast/{name}")
    shutil.rmtree(driver)
    assert elsewhere(table, "other", "fast")() == (0, f"fast/{name}")
    line = f"neither {driver / 'cache' / name} nor {tmp_path / 'other' / 'cache' / name} is there"
    assert elsewhere(table, "other")() == f"error: {HERE}: {line}; expected REPROAI_STATE on a shared disk"
