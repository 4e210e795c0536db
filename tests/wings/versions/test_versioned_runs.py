"""Runs on data under DVC: they keep the version, refuse data that are none, and repeat from theirs."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from test_reproduce import Repository

from common import versions
from common.cli import UserError
from common.data import load_images, load_splits, make_splits, save_splits, splits, splits_file
from common.seeds import Stream
from common.tracking.provenance import provenance
from common.training import set_up
from conftest import PROJECT

pytest.importorskip("dvc")
SMALL = ("--root-splits", 1, "--inner-splits", 1, "--fast", "--n-jobs", 1)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A clone of the project, with a small simulation of EEG under DVC."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = Repository(tmp_path)
    repository.git("config", "user.name", "A")
    repository.git("config", "user.email", "a@b.c")
    repository.git("checkout", "--quiet", "--", ".")
    simulate(repository, seed=0)
    track(repository)
    return repository


def simulate(repository, seed):
    arguments = ("--n-subjects", 20, "--n-trials", 4, "--seed", seed)
    call(repository, "-m", "common.eeg", repository.folder / "data" / "eeg.npz", *arguments)


def track(repository):
    path = repository.folder / "data" / "eeg.npz"
    return call(repository, "-m", "common.versions", "track", path, "--push", "--commit")


def call(repository, *arguments):
    done = repository.python(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(repository, step, *arguments):
    script = repository.folder / f"step_{step}" / "train.py"
    config = [repository.folder / "step_5" / "configs" / "eeg.py"] if step == 5 else []
    return repository.python(script, *config, "--json", *arguments)


def run_ids(done):
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["run_id"] for line in done.stdout.splitlines() if line.startswith('{"step"')]
    return list(dict.fromkeys(found))


def params(repository, run_id):
    found = repository.client.get_run(run_id).data.params
    return {name: value for name, value in found.items() if name.startswith("data_version")}


@pytest.mark.slow
def test_two_versions_of_data_each_with_its_runs_and_the_first_run_repeats_from_its_version(repository):
    data = repository.folder / "data" / "eeg.npz"
    before = data.read_bytes()
    dense, eegnet = run_ids(train(repository, 5, *SMALL))
    first = params(repository, dense)
    assert params(repository, eegnet) == first and first["data_version.path"] == "data/eeg.npz"
    assert f"md5: {first['data_version']}\n" in data.with_name("eeg.npz.dvc").read_text()

    simulate(repository, seed=1)
    after = data.read_bytes()
    done = train(repository, 5, *SMALL)
    assert done.returncode == 2 and "it is no version; python -m common.versions track data/eeg.npz" in done.stderr
    assert "recorded" in track(repository)
    second = params(repository, run_ids(train(repository, 5, *SMALL))[1])
    assert {len(first["data_version"]), len(second["data_version"])} == {32} and first != second
    log = repository.git("log", "--format=%H", "--", "data/eeg.npz.dvc").split()
    assert [second["data_version.git_revision"], first["data_version.git_revision"]] == log

    done = repository.reproduce(eegnet)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"its data were version {first['data_version']} of data/eeg.npz, and another one" in done.stderr
    command = done.stderr.split("; python ")[1].split(" brings")[0].split()
    call(repository, *command)
    assert data.read_bytes() == before
    done = repository.reproduce(eegnet)
    assert "verdict: bitwise identical" in done.stdout, done.stdout + done.stderr
    call(repository, "-m", "common.versions", "checkout", second["data_version"][:8], data)
    assert data.read_bytes() == after


@pytest.fixture
def versioned(tmp_path, monkeypatch):
    """A repository with a file of arrays under DVC; returns the file."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    for command in (["init", "--quiet"], ["config", "user.name", "A"], ["config", "user.email", "a@b.c"]):
        subprocess.run(["git", *command], check=True)
    write(tmp_path / "data" / "waves.npz", seed=0)
    versions.track(tmp_path / "data" / "waves.npz", commit=True)
    return tmp_path / "data" / "waves.npz"


def write(path, seed, n=48):
    path.parent.mkdir(exist_ok=True)
    x = np.random.default_rng(seed).normal(size=(n, 2, 4))
    np.savez(path, X=x, y=np.arange(n) % 2, groups=np.arange(n) // 2)


def test_data_that_differ_from_their_dvc_file_are_no_version(versioned):
    def recorded(**options):
        found, _ = provenance(load_images(str(versioned), 64), Stream(0), set_up("cpu", "fp32"), **options)
        return {name: value for name, value in found.items() if name.startswith("data_version")}

    md5 = hashlib.md5(versioned.read_bytes()).hexdigest()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    path = {"data_version.path": "data/waves.npz"}
    assert recorded() == {"data_version": md5, **path, "data_version.git_revision": head}
    write(versioned, seed=1)
    with pytest.raises(UserError, match=r"^data/waves.npz: differs from data/waves.npz.dvc, so it is no version; py"):
        recorded()
    told = recorded(allow_changed_data=True)
    assert told["data_version"] == "none, differs from data/waves.npz.dvc"
    versioned.unlink()
    with pytest.raises(UserError, match=r"under DVC; python -m .*versions checkout HEAD .*waves.npz brings"):
        load_images(str(versioned), 64)


def test_each_version_has_splits_of_the_same_settings_of_its_own(versioned):
    first = load_images(str(versioned), 64)
    save_splits(make_splits(first, Stream(3).at("splits"), 4, 1, 3), splits_file(first))
    before = load_splits(first)
    write(versioned, seed=1)
    versions.track(versioned, commit=True)
    second = load_images(str(versioned), 64)
    found = load_splits(second)
    assert found["fingerprint"] == second.fingerprint != before["fingerprint"]
    assert [found[name] for name in ("seed", *splits.FOLDS)] == [before[name] for name in ("seed", *splits.FOLDS)]
    versions.checkout("HEAD~1", versioned)
    assert load_splits(load_images(str(versioned), 64)) == before
    write(versioned, seed=0, n=60)  # what was there, and more
    versions.track(versioned, commit=True)
    grown = load_splits(load_images(str(versioned), 64))
    assert grown["extends"] == before["fingerprint"] and len(grown["files"]) == 60
    for root, former in zip(grown["root_splits"], before["root_splits"], strict=True):
        assert {row for row in root["test_indices"] if row < 48} == set(former["test_indices"])


def test_without_a_dvc_file_neither_dvc_nor_git_is_asked(tmp_path):
    write(tmp_path / "waves.npz", seed=0)
    code = (
        "import sys; from common.data import load_images; "
        f"print(load_images({str(tmp_path / 'waves.npz')!r}, 64, cached=False).version, 'dvc' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(PROJECT), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("None False\n"), done.stderr
