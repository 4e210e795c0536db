"""Tracking: runs nest, end with the right status, keep what was logged, and say where they come from."""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient
from serving import free_port

from common.cli import UserError, command_of, train_parser
from common.config import Int
from common.config.settings import SGD, TrainingConfig
from common.data.folding import Fold
from common.data.images import ImageTable
from common.model import load_classifier, make_classifier, summary_of
from common.seeds import Stream
from common.state import work_folder
from common.tracking import at_work, code, identity, outbox, provenance, unfinished
from common.tracking.finding import find_run
from common.tracking.runs import Run
from common.tracking.starting import start as start_step
from common.tracking.store import Connection, UnreachableError, open_store
from common.training import set_up
from common.training.networks import build_network

PIXELS = np.zeros((2, 3, 32, 32), np.uint8)
TABLE = ImageTable("pets", Path(), ("a.jpg", "b.jpg"), np.array([0, 1]), ("cat", "dog"), None, ("1", "2"), (), PIXELS)
CONFIG = TrainingConfig(image_size=32, optimizer=SGD(momentum=0.25), learning_rate=1e-3 / 3)
FOLD = Fold(1, 2, *(np.arange(0),) * 3)


def start(experiment="step_2", seed=7, config=CONFIG, fresh=True):
    """A run, as a step starts it."""
    args, compute = argparse.Namespace(fresh=fresh, seed=seed), set_up("cpu", "fp32")
    return start_step(int(experiment[-1]), args, 1, TABLE, FOLD, config, compute, Stream(seed))


@pytest.fixture
def compute():
    return set_up("cpu", "fp32")


@pytest.fixture
def client(tmp_path, empty_stores, monkeypatch):
    """An own database, and a project folder that is no repository."""
    shutil.copy(empty_stores / "mlflow.db", tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.setattr(identity, "PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    return MlflowClient(uri)


@pytest.fixture
def root(client):
    with start() as run:
        yield run


def below(client, run):
    """The runs below a run, by name, when all that was said has arrived."""
    outbox.outbox_of(run.uri).drain()
    found = client.search_runs([run.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    return {child.info.run_name: Run(run.uri, run.experiment_id, child.info.run_id) for child in found}


def history(client, run, name):
    outbox.outbox_of(run.uri).drain()
    return [(m.step, m.value) for m in client.get_metric_history(run.run_id, name)]


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [
        (None, "FINISHED", None),
        (ValueError("x" * 9000), "FAILED", "ValueError: " + "x" * 4988),
        (KeyboardInterrupt(), "KILLED", None),
    ],
)
def test_a_run_ends_with_its_status_and_loses_no_metric(error, status, tag, client):
    opened = []
    try:
        with start() as root:
            opened += [root]
            with root.root_split(1) as split:
                opened += [split]
                outbox.outbox_of(split.uri).call(lambda: time.sleep(0.5))  # what is sent later has begun before
                before = time.time()
                with split.phase("warm-up") as phase:
                    phase.log({"batch_loss": 0.5}, 0)
                    if error is not None:
                        raise error
    except BaseException as raised:
        assert raised is error
    phase = below(client, split)["warm-up"]
    for run in [*opened, phase]:
        found = client.get_run(run.run_id)
        assert (found.info.status, found.data.tags.get("error")) == (status, tag)
        assert found.info.end_time is not None
    assert client.get_run(phase.run_id).info.start_time / 1000 < before + 0.3
    assert history(client, phase, "batch_loss") == [(0, 0.5)]


def test_metrics_of_batches_wait_for_those_of_their_epoch(client, root):
    losses = np.random.default_rng(0).random(1100).tolist()
    for step, loss in enumerate(losses):
        root.log({"batch_loss": loss}, step)
    assert history(client, root, "batch_loss") == []
    root.log({"dev_loss": 1 / 3, "dev_roc_auc": 0.1 + 0.2}, 1)
    for _ in range(300):  # sent while the next epoch runs
        if client.get_metric_history(root.run_id, "dev_loss"):
            break
        time.sleep(0.1)
    assert [m.value for m in client.get_metric_history(root.run_id, "batch_loss")] == losses
    root.log({"dev_loss": 0.25}, 2)
    assert history(client, root, "dev_loss") == [(1, 1 / 3), (2, 0.25)]
    assert history(client, root, "dev_roc_auc") == [(1, 0.1 + 0.2)]


@pytest.mark.hostile("what a phase has said is said again when it goes on, whatever else is in its file", cases=4)
def test_a_phase_that_goes_on_doubles_and_loses_no_metric_and_says_what_is_damaged_in_one_line(client, root, capsys):
    with root.phase("warm-up") as phase:
        phase.log({"dev_loss": 0.5}, 0)
        phase.log({"batch_loss": 0.25}, 0)  # its epoch does not end
    path = work_folder("checkpoints") / root.run_id / "warm-up.jsonl"
    damage = [b"\xff\xfe\x00", b'["dev_loss", null, 1, 1]', b'["dev_loss", 1, 1e999, 1]', b"[" * 100_000]
    for step, line in enumerate(damage, 1):
        with path.open("ab") as file:
            file.write(b'\n%s\n["dev_loss", 0.25, 1, %d]\n["torn", 0.' % (line, step))
        reopened = Run(root.uri, root.experiment_id, root.run_id, root.place, resumed=True)
        client.update_run(below(client, root)["warm-up"].run_id, status="KILLED")
        with reopened.heard(), reopened.phase("warm-up"):
            pass
        warm_up = below(client, root)["warm-up"]
        assert sorted(history(client, warm_up, "dev_loss")) == [(0, 0.5), *((n, 0.25) for n in range(1, step + 1))]
        assert history(client, warm_up, "batch_loss") == [(0, 0.25)]
        assert capsys.readouterr().err.splitlines() == [f"{path}: holds lines that are no metrics; they are left out"]


def test_settings_are_parameters_with_dotted_names(client, root):
    @dataclass
    class Own:
        rates: tuple = (0.1, 0.2)
        nested: TrainingConfig = CONFIG

    root.params({"best_trial": 3})
    root.params(Own())
    outbox.outbox_of(root.uri).drain()  # its own settings are sent while its first fits are computed
    params = client.get_run(root.run_id).data.params
    expected = {"learning_rate": repr(1e-3 / 3), "optimizer.momentum": "0.25", "optimizer.nesterov": "True"}
    expected |= {"best_trial": "3", "rates": "(0.1, 0.2)", "nested.optimizer.momentum": "0.25"}
    assert expected.items() <= params.items() and "optimizer" not in params


def test_tables_read_back_to_the_last_bit_and_leave_the_callers_own_use_of_mlflow_as_it_was(root, monkeypatch):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 5000, np.uint64).view(np.float64)
    floats = np.concatenate([bits[np.isfinite(bits)], rng.random(5000), [0.1 + 0.2, 5e-324, -0.0]])
    table = pd.DataFrame({"file": [f"a {i},\n'é'.jpg" for i in range(len(floats))], "probability": floats})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for own in (None, "sqlite:///own.db"):
        mlflow.set_tracking_uri(own)
        before = dict(os.environ), mlflow.get_tracking_uri()
        root.table(table, "numbers.csv")
        read = root.read_table("numbers.csv")
        assert (dict(os.environ), mlflow.get_tracking_uri()) == before
    mlflow.set_tracking_uri(None)
    assert read.probability.to_numpy().tobytes() == floats.tobytes()
    assert read.file.tolist() == table.file.tolist()
    with pytest.raises(UserError, match=rf"run {root.run_id}: its artifact absent.csv cannot be read"):
        root.read_table("absent.csv")


def test_a_stored_model_predicts_as_the_network_did(client, root, compute, tmp_path):
    network = build_network(CONFIG, 2, (3, 32, 32), compute, Stream(0))
    network.train()
    with root.fold(FOLD) as fold:
        fold.model(network)
    assert network.training
    fold = below(client, root)["inner 2"]
    loaded = load_classifier(Path(client.download_artifacts(fold.run_id, "model.safetensors", tmp_path)))
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(loaded(images), network.eval()(images), atol=1e-5)
    (tmp_path / "other.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"other\.safetensors: not a stored classifier"):
        load_classifier(tmp_path / "other.safetensors")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with every kind of change, whose user prefers unusual diffs."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CONFIG_GLOBAL"]:
        monkeypatch.delenv(name)
    unusual = "[diff]\nnoprefix = true\nexternal = /bin/false\n[color]\nui = always\n"
    (tmp_path / "gitconfig").write_text(f"[user]\nname = a\nemail = a@b\n{unusual}")
    repository = tmp_path / "a repository"
    (repository / "folder").mkdir(parents=True)
    for name in ("modified", "staged", "deleted", "renamed", "mode", "same"):
        (repository / "folder" / f"{name}.py").write_text(f"{name}\n" * 20)
    (repository / "binary.bin").write_bytes(bytes(range(256)))
    (repository / ".gitignore").write_text("*.db\n")
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "first")
    for module in (code, provenance):
        monkeypatch.setattr(module, "PROJECT", repository)
    return repository


def change(repository):
    folder = repository / "folder"
    (folder / "staged.py").write_text("staged")
    git(repository, "add", "-A")
    (folder / "staged.py").write_text("staged, then changed\r\nwithout an end of line")
    (folder / "modified.py").write_text("changed\n")
    (folder / "deleted.py").unlink()
    (folder / "renamed.py").rename(repository / "moved.py")
    (folder / "mode.py").chmod(0o755)
    (repository / "binary.bin").write_bytes(b"\0\xff" * 300)
    (repository / "new é.py").write_text("new\n")
    (repository / "new.bin").write_bytes(bytes(range(255, -1, -1)))
    (repository / "empty").touch()
    (repository / "link").symlink_to("moved.py")
    (repository / "ignored.db").write_text("state")
    (repository / "nested").mkdir()  # which git cannot add
    git(repository / "nested", "init", "-q")
    git(repository, "add", "moved.py", "new é.py", "new.bin", "empty", "link")


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


def files_in(folder):
    return {
        path.relative_to(folder): (path.is_symlink(), path.stat().st_mode & 0o100, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts and path.suffix != ".db"
    }


def test_commit_and_diff_give_the_very_files_that_ran_and_the_index_is_left_alone(repository, compute, tmp_path):
    params, artifacts = provenance.provenance(TABLE, Stream(7), compute)
    assert (params["git_dirty"], artifacts["uncommitted.diff"]) == (False, b"")
    change(repository)
    index = repository / ".git" / "index"
    before = index.read_bytes(), sorted((repository / ".git").rglob("*"))

    params, artifacts = provenance.provenance(TABLE, Stream(7), compute)
    assert (index.read_bytes(), sorted((repository / ".git").rglob("*"))) == before
    assert params["git_dirty"] is True
    (tmp_path / "diff").write_bytes(artifacts["uncommitted.diff"])
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", repository, clone)
    git(clone, "checkout", "-q", params["git_commit"])
    assert files_in(clone) != files_in(repository)
    git(clone, "apply", tmp_path / "diff")
    assert files_in(clone) == files_in(repository)


SECRET = b"a key of the laboratory"
PRIVATE = "untracked files are recorded by name and size alone, but for code that the run imports"


@pytest.fixture
def recorded(repository, compute, monkeypatch):
    """Writes untracked files, then returns the names in the diff, the lines of what is not recorded, and the params."""
    monkeypatch.syspath_prepend(repository)

    def record(files):
        for name, content in files.items():
            (repository / name).parent.mkdir(exist_ok=True)
            (repository / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        params, artifacts = provenance.provenance(TABLE, Stream(7), compute)
        assert SECRET not in b"".join(artifacts.values())
        lines = artifacts["uncommitted.diff"].decode(errors="replace").splitlines()
        names = {line.split(" b/")[1] for line in lines if line.startswith("diff --git ")}
        return names, artifacts["not_recorded.txt"].decode().splitlines(), params

    return record


@pytest.mark.hostile(PRIVATE, cases=6)
def test_of_files_that_are_not_code_of_the_run_names_and_sizes_are_recorded(recorded):
    private = [*(f"scans/{i}.png" for i in range(80)), ".env", "key.py", "folder/notes.py", "a\nb", "Größe 1.csv", ":x"]
    names, lines, params = recorded(dict.fromkeys(private, SECRET) | {"ignored.db": SECRET})
    shown = {"a\nb": "'a\\nb'"}
    assert (names, set(lines)) == (set(), {f"{len(SECRET)} {shown.get(name, name)}" for name in private})
    assert params["git_dirty"] is False


@pytest.mark.hostile(PRIVATE, cases=2)
def test_the_list_of_names_has_an_end_and_a_large_change_is_left_out(recorded, repository):
    large = {"binary.bin": os.urandom(900_000) + SECRET}
    names, lines, params = recorded({f"{i:04}": "x" for i in range(1200)} | large)
    assert (names, params["git_dirty"], len(lines)) == (set(), True, 1002)
    assert lines[0].endswith(" binary.bin (its change)")
    assert (lines[1], lines[-1]) == ("1 0000", "200 in 200 more files")


@pytest.mark.hostile(PRIVATE, cases=8)
def test_untracked_code_that_is_imported_now_or_later_is_recorded_up_to_a_limit(recorded, repository, capsys):
    code = {
        "untracked_now.py": "def f():\n    import untracked_pack.later\n    from untracked_pack import private_key\n",
        "untracked_pack/__init__.py": "NAMES = ['lazy']\n",
        "untracked_pack/later.py": "from . import beside\n",
        "untracked_pack/lazy.py": "",
        "untracked_pack/beside.py": "import untracked_large, json, no_such\n",
        "untracked_large.py": f"#{'x' * provenance.MOST}\n",
        "untracked_pack/unused.py": SECRET,
        "untracked_pack/private_key.py": SECRET,
    }
    (repository / ".git" / "info" / "exclude").write_text("private_*\n")
    recorded(code)
    capsys.readouterr()
    importlib.import_module("untracked_now")
    names, lines, _ = recorded({})
    left_out = {"untracked_large.py", "untracked_pack/unused.py"}
    assert names == code.keys() - left_out - {"untracked_pack/private_key.py"}
    assert {line.split(" ", 1)[1] for line in lines} == left_out
    assert capsys.readouterr().err.startswith("untracked_large.py: more than 1000000 bytes of untracked code; ")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////somewhere/mlflow.db?timeout=60", "http://127.0.0.1:5000"),
        ("https://me:secret@lab.example:8443/mlflow/", "https://lab.example:8443/mlflow"),
    ],
)
def test_the_page_of_the_runs_is_on_the_server_or_on_the_ui_of_this_folder_and_holds_no_password(uri, address):
    page = Run(uri, "7", "a run").page
    assert page == f"{address}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=runs"


def test_a_run_says_where_it_comes_from_and_that_there_is_no_repository(client, root, tmp_path):
    outbox.outbox_of(root.uri).drain()
    found = client.get_run(root.run_id)
    expected = {"git_commit": "no git repository", "git_dirty": "False", "lock_sha256": "no lock", "seed": "7"}
    expected |= {"data_name": "pets", "data_fingerprint": TABLE.fingerprint, "deterministic": "True"}
    expected |= {"precision": "fp32", "threads": str(torch.get_num_threads())}
    assert expected.items() <= found.data.params.items()
    named = {"command", "device", "cpu", "cores", "memory_gib", "python", "platform"}
    assert named <= found.data.params.keys() and found.info.run_name == "pets small_cnn seed 7"
    assert found.data.tags["mlflow.source.name"] == "step_2/train.py" and found.data.tags["mlflow.user"]
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("pets", TABLE.fingerprint[:16])
    assert json.loads(dataset.dataset.profile) == {"num_rows": len(TABLE), "classes": list(TABLE.classes)}
    packages = Path(client.download_artifacts(root.run_id, "provenance/packages.txt", str(tmp_path))).read_text()
    assert f"torch=={torch.__version__.split('+')[0]}" in packages


def test_a_run_prints_and_keeps_a_summary_of_its_network_and_draws_no_random_number_for_it(
    client, compute, tmp_path, capsys
):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    config = TrainingConfig(image_size=32, hidden_dim=Int(5, 9), dropout_rate=0.1)
    with start("step_4", config=config) as run:
        assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
        name = f"model_summary_{run.run_id}.txt"
        outbox.outbox_of(run.uri).drain()
        text = Path(client.download_artifacts(run.run_id, name, str(tmp_path))).read_text()
    assert text in capsys.readouterr().out and (tmp_path / "models" / name).read_text() == text
    network = build_network(replace(config, hidden_dim=5), 2, (3, 32, 32), compute, Stream(0))
    n_weights = sum(p.numel() for p in network.parameters())
    assert f"Total params: {n_weights:,}\n" in text and "Total mult-adds (M): " in text
    assert "[1, 3, 32, 32]" in text and text.endswith("at the first values of what is searched: hidden_dim\n")


def test_verbose_prints_a_line_for_each_epoch_and_its_place(client, compute, capsys):
    for verbose in (False, True):
        args = argparse.Namespace(fresh=True, seed=0, verbose=verbose)
        with start_step(5, args, 1, TABLE, FOLD, CONFIG, compute, Stream(0)) as run, run.root_split(0) as root:
            capsys.readouterr()
            with root.fold(FOLD) as fold, fold.phase("fine-tuning") as phase:
                for epoch in (0, 1):
                    phase.log({"batch_loss": 0.25}, epoch)
                    phase.log({"train_loss": 0.5, "dev_roc_auc": 2 / 3}, epoch)
            outbox.outbox_of(run.uri).drain()
            line = "Epoch 1 (root 1 inner 2 fine-tuning): train loss 0.500000, dev roc_auc 0.666667\n"
            assert capsys.readouterr().out == (line if verbose else "")
    assert "--verbose" not in command_of(5, args)


def test_the_command_of_a_run_has_all_that_was_waived():
    flags = train_parser("", 4)
    waived = ["--waive", "near-copies", "twins, two days", "--waive", "identity", "nobody's"]
    args = flags.parse_args(["--data", "drawn", *waived])
    assert flags.parse_args(command_of(4, args)[1:]) == args


def test_an_experiment_may_be_named_by_the_day(client, compute):
    days = [datetime.now()]
    args = argparse.Namespace(fresh=True, seed=0, experiment="EEG %Y-%m-%d")
    with start_step(5, args, 1, TABLE, FOLD, CONFIG, compute, Stream(0)) as run:
        days.append(datetime.now())
    assert client.get_experiment(run.experiment_id).name in {day.strftime("EEG %Y-%m-%d") for day in days}
    assert find_run("step_5").run_id == run.run_id  # whatever its experiment


def test_a_change_of_a_networks_own_module_is_a_change_of_code(client, compute, tmp_path, monkeypatch):
    (tmp_path / "my_network.py").write_text("from torch import nn\n\nclass Mine(nn.Linear):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = replace(CONFIG, model=partial(importlib.import_module("my_network").Mine, in_features=3, out_features=1))

    def parts():
        return identity.identity(5, argparse.Namespace(), TABLE, FOLD, config, compute)

    before = parts()
    assert tmp_path / "my_network.py" in identity.own_modules(config)
    (tmp_path / "my_network.py").write_text("from torch import nn\n\nclass Mine(nn.Linear):\n    changed = 1\n")
    assert identity.differences(parts(), before) == [f"code of {tmp_path / 'my_network.py'}"]


def test_layers_that_cannot_be_followed_are_listed_without_sizes():
    class Fussy(torch.nn.Linear):
        def forward(self, inputs):
            raise ValueError("not today")

    text = summary_of(make_classifier(Stream(0), 2, (4,), model=partial(Fussy, in_features=4, out_features=1)))
    assert "Fussy(" in text and text.endswith("no sizes of its layers: ValueError: not today")


def test_the_newest_finished_root_run_is_found_or_the_one_named(client):
    with pytest.raises(UserError, match=r"no finished run in experiment step_2; step_2/train.py makes one"):
        find_run("step_2")
    finished = []
    for seed in (0, 1):
        with start(seed=seed) as run:
            finished.append(run.run_id)
    with pytest.raises(ValueError), start(seed=2) as failed:
        with failed.phase("warm-up"):
            pass
        raise ValueError
    phase = below(client, failed)["warm-up"]
    assert find_run("step_2").run_id == finished[1]
    assert find_run("step_2", finished[0]).run_id == finished[0]
    for run_id, reason in [
        (failed.run_id, "FAILED root run of step_2"),
        (phase.run_id, "FINISHED phase run of step_2; expected a FINISHED root run of step_2"),
        ("../x", "no such run"),
    ]:
        with pytest.raises(UserError, match=rf"--run-id {run_id}: .*{reason}"):
            find_run("step_2", run_id)
    with pytest.raises(UserError, match=rf"--run-id {finished[0]}: .*FINISHED root run of step_2; expected .* step_3"):
        find_run("step_3", finished[0])


def test_an_analysis_leaves_the_run_it_is_about_as_it_was(client, tmp_path):
    with start(seed=0) as run:
        run.log({"test_roc_auc": 0.75}, 0)

    def state():
        return client.get_run(run.run_id).to_dictionary(), [a.path for a in client.list_artifacts(run.run_id)]

    before = state()
    (tmp_path / "roc.png").write_bytes(b"png")
    with find_run("step_2").child("analysis", analysis="predictions") as analysis:
        analysis.file(tmp_path / "roc.png", "plots")
    assert state() == before
    assert client.get_run(analysis.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    assert [a.path for a in client.list_artifacts(analysis.run_id, "plots")] == ["plots/roc.png"]
    assert find_run("step_2").run_id == run.run_id


def test_a_store_that_cannot_be_used_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.setattr(identity, "PROJECT", tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "text.db").write_text("this is no database, but a text that is long enough to look like one")
    for uri in (f"sqlite:///{tmp_path / 'text.db'}", "http://127.0.0.1:9", "ftp://nowhere"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError) as error:
            find_run("step_2")
        assert str(error.value).startswith(f"tracking at {uri} cannot be used: ")
        assert "\n" not in str(error.value)


def test_a_server_that_nothing_answers_at_is_told_at_once_and_only_a_run_waits_for_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    nothing = f"tracking at {uri} cannot be used: nothing answers there; check the address, and that the server runs"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError) as error:
        find_run("step_2")
    assert str(error.value) == nothing and not capsys.readouterr().out
    with pytest.raises(UserError) as error:
        open_store("step_2", waits=True)
    assert capsys.readouterr().out.startswith(f"tracking at {uri}: nothing answers there; it is tried for some minutes")
    refused = "Failed to establish a new connection: [Errno 111] Connection refused"
    assert str(error.value) == f"tracking at {uri} cannot be used: {refused}"
    with pytest.raises(UnreachableError, match=f"^tracking at {uri}: {re.escape(refused)}; the same command goes on"):
        Connection(uri).get_run("0")


def test_what_nobody_goes_on_with_is_removed_after_a_month_and_what_is_held_is_kept(client):
    checkpoints = work_folder("checkpoints")
    for name in ("old", "held", "young"):
        (checkpoints / name).mkdir(parents=True)
    (checkpoints / "free.lock").touch()
    for path in (checkpoints / "old", checkpoints / "held"):
        os.utime(path, (0, time.time() - 31 * 24 * 3600))
    with FileLock(checkpoints / "held.lock"), start():
        pass
    assert {path.name for path in checkpoints.iterdir()} == {".start.lock", "held", "held.lock", "young"}


def test_other_settings_a_finished_run_and_fresh_start_anew_and_what_is_given_up_is_marked_killed(client, capsys):
    runs = []
    for seed, is_killed, fresh in [(0, True, False), (1, False, False), (1, True, False), (1, False, True)]:
        with suppress(KeyboardInterrupt), start(seed=seed, fresh=fresh) as run:
            runs.append(run.run_id)
            if is_killed:
                raise KeyboardInterrupt
        if is_killed:
            client.update_run(run.run_id, status="RUNNING")
    said = capsys.readouterr().out
    assert f"a new run: the unfinished run {runs[0]} differs in --seed 1 (was 0)" in said and "resuming" not in said
    found = [client.get_run(run_id).info.status for run_id in runs]
    assert len(set(runs)) == 4 and found == ["KILLED", "FINISHED", "KILLED", "FINISHED"]


def test_on_a_server_a_run_of_another_folder_is_neither_taken_up_nor_closed(client):
    parts = {"config": "the same"}
    tags = {"run_level": "root", "step": "step_2", "fingerprint": identity.fingerprint(parts)}
    folders = (at_work.folder_id(), "another")
    ours, theirs = (client.create_run("0", tags=tags | {"folder": folder}).info.run_id for folder in folders)
    calls = ("search_experiments", "search_runs", "get_run", "set_terminated")
    server = SimpleNamespace(uri="http://server", **{name: getattr(client, name) for name in calls})
    with ExitStack() as held:
        assert unfinished.unfinished_run(server, "step_2", parts, False, held).info.run_id == ours
    assert unfinished.unfinished_run(server, "step_2", parts, True, held) is None
    assert [client.get_run(run_id).info.status for run_id in (ours, theirs)] == ["KILLED", "RUNNING"]
