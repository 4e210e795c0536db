"""Trainings with steps of one's own as runs: going on after an end, beginning anew beside others, and their model."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from own_training import a_home, begun, client, fit, fork, model_of, scalars, small, train_step  # noqa: F401
from sklearn.metrics import matthews_corrcoef
from torch import nn

from common import results
from common.cli import UserError
from common.params import train
from common.params.idx import CLASSES, make_folders, read_split, write_standin
from common.params.idx_files import FILES
from common.production import predict, registry


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_is_ended_goes_on_to_the_weights_that_it_would_have_had(how, home, forks):
    params = small(num_epochs=10, save_freq=2)
    whole = fit(home, params).state_dict()
    (home / "log").rename(home / "whole")
    pid = fork(forks, home, 2)
    while len(list((home / "log" / "models").glob("epoch-*.pt"))) < 2 and Path(f"/proc/{pid}").exists():
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.kill(pid, how)
    said = forks.end().stderr
    assert 2 <= len(list((home / "log" / "models").glob("epoch-*.pt"))) < 5, said
    again = fit(home, params).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    for folder in ("", "batches"):
        assert scalars(home / "log" / folder)[1] == scalars(home / "whole" / folder)[1]
    (run,) = client(home).search_runs(["1"], "attributes.status = 'FINISHED'", max_results=1)
    for name in run.data.metrics:
        steps = [m.step for m in client(home).get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    assert not list((home / "log" / "models").glob("*.part"))


@pytest.mark.slow
def test_a_training_that_is_killed_before_it_saved_anything_stays_open_until_the_next_call_alone(home):
    process = begun(home, 10)
    while not process.stdout.readline().startswith("epoch  2/10"):
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (killed,) = client(home).search_runs(["1"])
    assert killed.info.status == "RUNNING" and not list((home / "log").glob("models/*"))
    fit(home, small(num_epochs=1, learning_rate=0.2))
    assert client(home).get_run(killed.info.run_id).info.status == "KILLED"
    fit(home, small(num_epochs=3))
    again = client(home).get_run(killed.info.run_id)
    assert again.info.status == "FINISHED" and len(client(home).search_runs(["1"])) == 2
    for name in ("train_loss", "batch_loss", "val_loss", "test_loss"):
        steps = [m.step for m in client(home).get_metric_history(killed.info.run_id, name)]
        assert len(steps) == len(set(steps)) > 0, name


@pytest.mark.slow
def test_a_finished_training_is_left_as_it_is_may_be_tested_and_may_go_on_for_more_epochs(home, capsys):
    newest = home / "log" / "models" / "epoch-00002.pt"
    fit(home, small(num_epochs=2))
    before = newest.read_bytes()
    model = fit(home, small(num_epochs=2, save_freq=2, mode="script"))
    assert "trained for 2 epochs already" in capsys.readouterr().out and newest.read_bytes() == before
    best = torch.load(newest.with_name("best.pt"), weights_only=True)
    fit(home, small(mode="test"), model=(tested := model_of(small())))
    assert capsys.readouterr().out.startswith(f"epoch {best['epoch']}  test_loss ")
    for found in (model.state_dict(), tested.state_dict()):
        assert all(torch.equal(value, best["network"][name]) for name, value in found.items())
    with pytest.raises(UserError, match=r"epoch-00002\.pt: of another model"):
        fit(home, small(mode="test"), model=nn.Linear(2, 2))
    fit(home, small(num_epochs=3))
    assert [step for step, _ in scalars(home / "log")[1]["train/loss"]] == [1, 2, 3]
    assert not list((home / "log").glob("run_*"))


def other_step(x, y, model, optim, **kwargs):
    return train_step(x, y, model, optim)


@pytest.mark.parametrize("n_trials", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_training_that_differs_begins_anew_beside_the_others_and_says_what_differs(n_trials, home, capsys):
    params, same = small(num_epochs=1), {"loss": nn.CrossEntropyLoss(), "smoothing": 0.1}
    fit(home, params, **same)
    kept = {path: path.read_bytes() for path in (home / "log" / "models").iterdir()}
    trials = [
        (small(num_epochs=2, learning_rate=0.2), {}, "learning_rate 0.2 (was 0.1)"),
        (small(num_epochs=2, optim_class=torch.optim.Adam), {}, "optim_class Adam (was SGD)"),
        (params, {"step": other_step}, "train_step other_step (was train_step)"),
        (params, {"smoothing": 0.2, "loss": nn.CrossEntropyLoss(label_smoothing=0.2)}, "loss, smoothing 0.2 (was 0.1)"),
    ]
    for number, (changed, how, told) in enumerate(trials[:n_trials], 2):
        capsys.readouterr()
        fit(home, changed, **{**same, **how})
        first, *_ = capsys.readouterr().out.splitlines()
        before = home / "log" / (f"run_{number - 1}" if number > 2 else "")
        assert first.startswith(f"a new run in {home / 'log' / f'run_{number}'}: that in {before} differs in ")
        assert told in first
    fit(home, trials[0][0], **same)
    assert f"{home / 'log' / 'run_2'}: trained for 2 epochs already" in capsys.readouterr().out
    write_standin(home / "data2", 120, 20, seed=1)
    for name in FILES["train"]:
        shutil.copy(home / "data2" / name, home / "data" / name)
    fit(home, params, **same)
    assert "differs in data.train" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (home / "log" / "models").iterdir()} == kept
    rates = [run.data.params["params.learning_rate"] for run in client(home).search_runs(["1"])]
    assert sorted(rates) == ["0.1"] * (1 + n_trials) + ["0.2"]


@pytest.mark.hostile("a damaged checkpoint or kept network counts as absent, and says so")
def test_a_training_whose_newest_saved_model_is_damaged_comes_to_the_same_weights(home, capsys):
    whole = fit(home, small()).state_dict()
    newest = home / "log" / "models" / "epoch-00004.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    again = fit(home, small()).state_dict()
    assert "epoch-00004.pt: damaged, so it counts as absent" in capsys.readouterr().err
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_its_best_network_is_registered_and_predicts_files_and_idx_as_the_caller_would(home, capsys):
    params = small(num_epochs=2, normalise_images=True, normalise_mean=[0.4], normalise_std=[0.3])
    model = fit(home, params)
    (run,) = client(home).search_runs(["1"])
    for _ in range(2):  # the second time it is there already
        registry.main(["--run-id", run.info.run_id, "--model", "digits"])
        assert (
            capsys.readouterr().out.splitlines()[-1]
            == "registered: version 1 of digits, in production: the first with a test_mcc"
        )
    (version,) = client(home).search_model_versions("name = 'digits'")
    assert float(version.tags["test_mcc"]) == run.data.metrics["test_mcc"]
    images, labels = read_split(home / "data", "test", CLASSES["digits"])
    with torch.no_grad():
        prepared = (torch.from_numpy(images[:, None].copy()) / 255 - 0.4) / 0.3
        expected = model.eval()(prepared).numpy()
    assert run.data.metrics["test_mcc"] == pytest.approx(matthews_corrcoef(labels, expected.argmax(1)))
    make_folders(home / "data")
    for given in (home / "data" / FILES["test"][0], home / "data" / "test" / "images"):
        table = predict.main(["--model", "digits", str(given)])
        assert np.allclose(table.filter(like="probability_"), expected, atol=1e-6)
        assert table["prediction"].tolist() == [str(digit) for digit in expected.argmax(1)]
    (status,) = {found.info.status for found in client(home).search_runs(["1"])}
    assert status == "FINISHED"


class Own(nn.Module):
    """A network that `params` do not list; its outputs are logits."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, images):
        return self.layers(images)


def cross_entropy_step(x, y, model, optim=None, **kwargs):
    loss = nn.functional.cross_entropy(model(x), y)
    if optim is not None:
        optim.zero_grad()
        loss.backward()
        optim.step()
    return loss.item(), None


@pytest.mark.slow
def test_a_network_of_ones_own_is_kept_if_it_can_be_built_again_and_else_a_line_says_so(home, capsys):
    where = cross_entropy_step, cross_entropy_step, home / "data"
    sums = {}
    for name, model in {"kept": Own(8), "not": nn.Sequential(nn.Flatten(), nn.Linear(784, 10))}.items():
        assert train(small(num_epochs=1), model, *where, home / name)
        sums[name] = capsys.readouterr().err
    assert "not in MLflow: Sequential: cannot be built again" in sums["not"] and "not in MLflow" not in sums["kept"]
    found = {run.info.run_id: run.data.metrics for run in client(home).search_runs(["1"])}
    for run_id, metrics in found.items():
        if "test_mcc" in metrics:
            registry.main(["--run-id", run_id, "--model", "own"])
        else:
            with pytest.raises(UserError, match="its model is not in MLflow"):
                registry.main(["--run-id", run_id, "--model", "own"])
    assert sorted("test_mcc" in metrics for metrics in found.values()) == [False, True]


def test_a_training_that_is_at_work_is_listed_as_running_and_is_not_deleted(home):
    seen = []

    def step(x, y, model, optim, **kwargs):
        if not seen:
            (row,) = results.list_runs().to_dict("records")
            with pytest.raises(UserError, match="a process is working on it"):
                results.delete_runs([row["run"]])
            seen.append(row)
        return train_step(x, y, model, optim)

    fit(home, small(num_epochs=1), step)
    (row,) = results.list_runs().to_dict("records")
    assert (seen[0]["status"], row["status"], row["run"]) == ("running", "finished", seen[0]["run"])
    results.delete_runs([row["run"]])
    assert results.list_runs().empty
