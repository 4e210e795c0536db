"""A shortage of memory or of open files says nothing of an image: no verdict on it is kept."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from common.data import load_images
from conftest import PROJECT, make_tiny_pets

LOAD = """
import resource, sys
from pathlib import Path
from common import cli
from common.data import decoded, load_images

read = decoded.read_image
if sys.argv[2] == "memory":
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 80_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
else:
    def read_image(path, size):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        return read(path, size)
    decoded.read_image = read_image
cli.run(lambda: load_images(sys.argv[1], 64, "--skip-unreadable" in sys.argv))
"""


@pytest.mark.hostile("a shortage of memory or files marks no image unreadable")
@pytest.mark.parametrize(
    ("kind", "told", "flags"),
    [
        ("png", "not enough memory to read this image", []),
        ("jpg", "not enough memory to read this image", ["--skip-unreadable"]),
        *(
            pytest.param(kind, "not enough memory to read this image", ["--skip-unreadable"], marks=pytest.mark.slow)
            for kind in ("webp", "tif")
        ),
        ("bmp", "Too many open files", ["--skip-unreadable"]),
    ],
)
def test_an_image_that_there_was_no_room_to_read_is_read_when_there_is(kind, told, flags, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    pets = make_tiny_pets(tmp_path / "pets", 2, groups=False)
    Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)).save(pets / "images" / f"beagle_9.{kind}")
    command = [sys.executable, "-c", LOAD, pets, "files" if kind == "bmp" else "memory", *flags]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    short = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (short.returncode, len(short.stderr.splitlines())) == (2, 1), short.stderr
    assert short.stderr.startswith(f"error: {pets / 'images'}") and told in short.stderr
    assert len(load_images(str(pets), 64, skip_unreadable=True)) == 5
