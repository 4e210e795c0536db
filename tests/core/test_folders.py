"""Images copied into folders Train, Val and Test."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from test_data import draw

from common.cli import UserError
from common.data import find_images, folders, split_data
from common.data.folders import PARTS
from conftest import PROJECT


def write_groups(root, group_of):
    with open(root / "groups.csv", "w", newline="") as file:
        csv.writer(file).writerows([("files", "group"), *group_of.items()])


@pytest.fixture
def clinic(tmp_path):
    """60 patients with 1 to 6 images each, a third of them with a lesion, some in folders of their own."""
    rng, groups = np.random.default_rng(0), {}
    for patient in range(60):
        folder = "lesion" if patient % 3 == 0 else "healthy/site 1" if patient % 2 else "healthy/site 2"
        for i in range(rng.integers(1, 7)):
            groups[f"{folder}/p{patient // 2}_{i}.png" if "site" in folder else f"{folder}/{patient}, {i}.png"] = (
                f"patient {patient}"
            )
    draw(tmp_path / "clinic", *groups)
    write_groups(tmp_path / "clinic", groups)
    return tmp_path / "clinic"


def parts_of(target):
    return {part: find_images(str(target / part)) for part in PARTS}


def contents(table):
    return Counter(zip(table.digests, (table.classes[label] for label in table.labels), strict=True))


def test_every_image_is_in_one_part_and_every_patient_too(clinic, tmp_path, capsys):
    split_data(clinic, tmp_path / "out", (0.6, 0.2, 0.2))
    source, parts = find_images(str(clinic)), parts_of(tmp_path / "out")
    assert sum((contents(table) for table in parts.values()), Counter()) == contents(source)
    groups = [set(table.groups) for table in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 60
    for table, fraction in zip(parts.values(), (0.6, 0.2, 0.2), strict=True):
        assert table.classes == source.classes
        wanted = fraction * np.bincount(source.labels)
        assert abs(np.bincount(table.labels) - wanted).max() <= 3
    assert f"{len(parts['Test'])} in Test" in capsys.readouterr().out.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"clinic", "out"}


def test_other_layouts_become_a_folder_per_class(tmp_path):
    names = [f"scans/{day}/{i}.png" for day in ("mon", "tue") for i in range(12)]
    draw(tmp_path / "mine", *names)
    rows = [f"{name},{'ill' if '/1' in name else 'well'}" for name in names]
    (tmp_path / "mine" / "info.csv").write_text("\n".join(["files,type", *rows, ""]))
    split_data(tmp_path / "mine", tmp_path / "out", (0.5, 0.25, 0.25))
    source, parts = find_images(str(tmp_path / "mine")), parts_of(tmp_path / "out")
    assert sum((contents(table) for table in parts.values()), Counter()) == contents(source)
    for part in PARTS:
        assert {path.name for path in (tmp_path / "out" / part).iterdir()} == {"ill", "well"}


def test_copies_of_one_image_go_to_the_same_part(tmp_path):
    for i in range(20):
        draw(tmp_path / "mine", f"a/{i}.png", f"b/{i}.png")
        draw(tmp_path / "mine", f"a/{i}_again.png", value=f"a/{i}.png")
    split_data(tmp_path / "mine", tmp_path / "out", (0.4, 0.3, 0.3))
    digests = [set(table.digests) for table in parts_of(tmp_path / "out").values()]
    assert sum(map(len, digests)) == len(set.union(*digests)) == 40


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.2), (0.7, 0.3, 0.0), (0.5, 0.5), (float("nan"), 0.5, 0.5)])
def test_fractions_that_are_none_are_refused(clinic, tmp_path, fractions):
    with pytest.raises(UserError, match=r"fractions: found .*; expected three positive numbers with sum 1"):
        split_data(clinic, tmp_path / "out", fractions)
    assert not (tmp_path / "out").exists()


def test_targets_that_exist_or_lie_in_the_source_are_refused(clinic, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        split_data(clinic, tmp_path / "mine.txt")
    with pytest.raises(UserError, match="lies inside the source"):
        split_data(clinic, clinic / "parts")
    assert (tmp_path / "mine.txt").read_text() == "mine" and not (clinic / "parts").exists()


def test_a_part_without_a_class_is_refused(tmp_path):
    draw(tmp_path / "mine", *(f"a/{i}.png" for i in range(30)), "b/1.png", "b/2.png")
    with pytest.raises(UserError, match=r"too few images of class b \(2\): (Train|Val|Test) would have none"):
        split_data(tmp_path / "mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_would_be_lost_or_land_elsewhere_are_refused(tmp_path):
    names = [f"x/{i}.png" for i in range(9)]
    draw(tmp_path / "mine", *names)
    draw(tmp_path, "outside.png")

    def refusal(extra, kind="well"):
        rows = [(name, "ill" if i % 2 else "well") for i, name in enumerate(names)]
        with open(tmp_path / "mine" / "info.csv", "w", newline="") as file:
            csv.writer(file).writerows([("files", "type"), *rows, (extra, kind)])
        with pytest.raises(UserError) as error:
            split_data(tmp_path / "mine", tmp_path / "out", (0.4, 0.3, 0.3))
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "outside.png"}
        return str(error.value)

    assert "../outside.png lies outside" in refusal("../outside.png")
    (tmp_path / "mine" / "x" / "scan").write_bytes((tmp_path / "mine" / "x" / "0.png").read_bytes())
    assert "x/scan: cannot be kept as well/scan" in refusal("x/scan")
    draw(tmp_path / "mine", "x/9.png")
    assert "class '../ill' cannot be the name of a folder" in refusal("x/9.png", "../ill")


def test_a_failure_leaves_nothing(clinic, tmp_path, monkeypatch):
    copy, calls = shutil.copyfile, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 50:
            raise OSError(28, "No space left on device", str(target))
        return copy(source, target)

    monkeypatch.setattr(folders.shutil, "copyfile", failing)
    with pytest.raises(UserError, match="No space left on device"):
        split_data(clinic, tmp_path / "out")
    monkeypatch.setattr(folders.shutil, "copyfile", lambda source, target: target.write_bytes(b"half"))
    with pytest.raises(UserError, match="cannot be kept as"):
        split_data(clinic, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["clinic"]


def test_a_killed_call_leaves_no_target_and_can_be_repeated(tmp_path):
    draw(tmp_path / "mine", *(f"{name}/{i}.png" for name in "ab" for i in range(500)))
    target = tmp_path / "out"
    command = [sys.executable, "-m", "common.data.folders", tmp_path / "mine", target]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out-*/Train/*/*.png")) and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    split_data(tmp_path / "mine", target)
    assert sum(len(table) for table in parts_of(target).values()) == 1000


def test_the_command_line_makes_parts_that_depend_on_the_seed_alone(clinic, tmp_path):
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folders.main([str(clinic), str(tmp_path / name), "--fractions", "0.5", "0.3", "0.2", "--seed", str(seed)])
        made[name] = [table.fingerprint for table in parts_of(tmp_path / name).values()]
    split_data(clinic, tmp_path / "same", (0.5, 0.3, 0.2), seed=1)
    assert made["a"] == made["b"] == [table.fingerprint for table in parts_of(tmp_path / "same").values()]
    assert made["a"] != made["c"]
