"""Repeating a run of `common.params.train`: the caller's own script of the recorded commit, and nothing else."""

import json
import re

import pytest
from own_training import a_home  # noqa: F401
from test_reproduce import Repository

from common.cli import UserError
from common.tracking import reproduce
from common.tracking.store import Connection, open_store

SCRIPT = """
from pathlib import Path

import torch

from common.params import build_classifier, set_seeds, train
from common.params.idx import write_standin

params = {
    "net_arch": [{"class": "Conv2d", "kwargs": {"in_channels": 1, "out_channels": 4, "kernel_size": 5, "stride": 4}}],
    "image_height": 28, "image_width": 28, "is_image_color": False, "n_classes": 10, "manual_seed": 3,
    "batch_size": 16, "num_epochs": 2, "optim_class": torch.optim.SGD, "learning_rate": 0.1, "device": "cpu",
}


def step(x, y, model, optim=None, **kwargs):
    loss = torch.nn.functional.nll_loss(model.log_probabilities(x), y)
    if optim is not None:
        optim.zero_grad()
        loss.backward()
        optim.step()
    return loss.item(), None


set_seeds(params["manual_seed"])
write_standin(Path("data/few"), 120, 20)
train(params, build_classifier(params), step, step, "data/few", Path("LOGS").absolute())
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    made = Repository(folder)
    (made.folder / "mine.py").write_text(SCRIPT.replace("LOGS", str(folder / "logs")))
    made.commit("mine")
    return made


@pytest.mark.slow
def test_its_script_is_repeated_with_a_new_logdir_to_the_last_digit(repository, monkeypatch):
    monkeypatch.delenv("REPROAI_STATE", raising=False)
    done = repository.python("mine.py", folder=repository.folder)
    assert done.returncode == 0, done.stderr
    (repository.folder / "mine.py").unlink()  # what was recorded counts
    (run,) = repository.client.search_runs(["1"])
    assert json.loads(run.data.tags["command"]) == ["mine.py"]
    logs = repository.folder.parent / "logs"
    before = {path: path.read_bytes() for path in logs.rglob("*.*") if path.is_file()}
    again = repository.python("-m", "common.tracking.reproduce", run.info.run_id)
    assert again.returncode == 0, again.stderr
    assert "verdict: bitwise identical" in again.stdout and "changed: nothing that results" in again.stdout
    assert {path: path.read_bytes() for path in logs.rglob("*.*") if path.is_file()} == before
    children = repository.client.search_runs(["1"], "tags.run_level = 'reproduction'")
    assert [child.data.tags["verdict"] for child in children] == ["bitwise identical"]
    repository.client.set_tag(run.info.run_id, "command", json.dumps(["other.py"]))
    done = repository.python("-m", "common.tracking.reproduce", run.info.run_id)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "its script other.py is not in its recorded code" in done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["/bin/mine.py"], "expected a script in the project"),
        (["../mine.py"], "expected a script in the project"),
        (["a/../../mine.py"], "expected a script in the project"),
        (["mine.sh"], "expected a script in the project"),
        ([["mine.py"]], "expected a script"),
        (["mine.py", "--all"], "with arguments, which a terminal shows and asks for; --yes takes them"),
    ],
)
def test_what_a_store_says_to_run_is_refused_unless_it_is_a_script_of_the_project(command, told, home):
    uri, experiment_id = open_store("train")
    tags = {"run_level": "root", "step": "train", "command": json.dumps(command)}
    run_id = Connection(uri).create_run(experiment_id, tags=tags, run_name="a").info.run_id
    Connection(uri).set_terminated(run_id, "FINISHED")
    with pytest.raises(UserError, match=f"^run {run_id}: its tag 'command' is .*{re.escape(told)}"):
        reproduce.main([run_id])
