"""Checkpoints: a damaged one counts as absent, none runs code, and what must outlive a power cut is synced."""

import os
import pickle
import random
import zipfile

import pytest
import torch

from common import state
from common.data import splits
from common.events import spool
from common.tracking.records import FitRun
from common.training.checkpoints import Checkpoint, SavedModels

STATE = {"epoch": 3, "network": {"a": torch.arange(60.0).view(4, 15), "b": torch.ones(7)}, "stopper": {"best": 0.5}}


def is_state(found):
    weights = found["network"]
    return (found["epoch"], found["stopper"]) == (3, {"best": 0.5}) and all(
        torch.equal(weights[name], STATE["network"][name]) for name in "ab"
    )


@pytest.mark.hostile("a damaged checkpoint or kept network counts as absent, and says so", cases=1000)
def test_a_checkpoint_with_any_bit_flipped_gives_what_was_saved_or_nothing_and_says_so(tmp_path, capsys):
    path = tmp_path / "warm-up.pt"
    Checkpoint(path).save(lambda: STATE, always=True)
    whole, draw = path.read_bytes(), random.Random(0)
    assert is_state(Checkpoint(path).load())
    n_absent = 0
    for _ in range(1000):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        found = Checkpoint(path).load()
        told = capsys.readouterr().err
        assert is_state(found) if found else told.startswith(f"{path}: damaged, so it counts as absent (")
        n_absent += not found
    assert n_absent > 500


class Intruder:
    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.hostile("no file under cache/ is turned into code")
@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_strangers_file_in_the_place_of_a_checkpoint_runs_nothing(kind, tmp_path, capsys):
    intruder, path = Intruder(), tmp_path / "warm-up.pt"
    intruder.folder = tmp_path / "it ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(intruder))
    else:
        torch.save(intruder, path)
        assert zipfile.is_zipfile(path)
    assert Checkpoint(path).load() is None
    assert "counts as absent" in capsys.readouterr().err and not intruder.folder.exists()


@pytest.mark.hostile("a damaged checkpoint or kept network counts as absent, and says so")
def test_the_newest_saved_model_that_is_sound_is_where_a_training_goes_on(tmp_path, capsys):
    for epoch in (2, 4):
        SavedModels(tmp_path).save(lambda epoch=epoch: STATE | {"epoch": epoch}, always=True)
    newest = tmp_path / "epoch-00004.pt"
    content = bytearray(newest.read_bytes())
    content[content.index(torch.ones(7).numpy().tobytes())] ^= 1
    newest.write_bytes(content)
    assert SavedModels(tmp_path).load()["epoch"] == 2
    assert "epoch-00004.pt: damaged" in capsys.readouterr().err


def write_checkpoint(folder):
    Checkpoint(folder / "warm-up.pt").save(lambda: STATE, always=True)


def write_metrics(folder):
    FitRun("run", {"root_run_id": "run", "phase": "warm-up"}).log({"a": 1.0}, 0)


def write_event(folder):
    spool.append([spool.Spool("kafka")], "run", lambda number: {"id": str(number), "run_id": "run"})


def write_splits(folder):
    content = dict.fromkeys(("root_folds", "root_repeats", "nested_folds", "nested_repeats", "seed", "fingerprint"), 1)
    splits.save_splits(content, folder / "dataset_splits.json")


@pytest.mark.hostile("what a run goes on from is on disk before it is relied on")
@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_checkpoint, ["sync file", "rename", "sync folder"]),
        (write_metrics, ["sync file"]),
        (write_event, ["sync file", "rename", "sync folder", "sync file"]),
        (write_splits, ["sync file", "rename", "sync folder"]),
    ],
)
def test_what_must_outlive_a_power_cut_is_synced_before_it_counts(write, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    done, sync, rename = [], os.fsync, os.replace

    def record_sync(descriptor):
        done.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        sync(descriptor)

    def record_rename(*paths):
        done.append("rename")
        rename(*paths)

    monkeypatch.setattr(state.os, "fsync", record_sync)
    monkeypatch.setattr(state.os, "replace", record_rename)
    write(tmp_path)
    assert done == expected


def test_a_file_that_cannot_be_written_whole_leaves_the_one_before(tmp_path):
    path = tmp_path / "new folder" / "file"
    with state.whole_file(path, "w") as file:
        file.write("whole")
    with pytest.raises(KeyboardInterrupt), state.whole_file(path) as file:
        file.write(b"ha")
        raise KeyboardInterrupt
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]
