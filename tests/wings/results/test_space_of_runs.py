"""What a run keeps on disk while it computes, and at its end, is no more than was said at its beginning."""

import importlib
import os
import re
import threading
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest

from common.cli import UserError
from common.results import budget, kept_networks
from common.state import PROJECT, state_folder
from common.training import checkpoints

FLAGS = [str(PROJECT / "step_5" / "config.py"), "--fast", "--image-size", "32", "--n-jobs", "1", "--n-trials", "2"]
SHORT = ("--n-trials", "1")
RESNET18 = "Total params: 11,177,538"


@pytest.fixture(autouse=True)
def home(new_home, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "REPROAI_CACHE", "REPROAI_DISK", "REPROAI_NETWORKS"):
        monkeypatch.delenv(name, raising=False)
    return new_home(tmp_path / "home")


@pytest.fixture
def train(tiny_pets):
    module = importlib.import_module("step_5.train")
    return lambda *flags: module.main([*FLAGS, "--data", str(tiny_pets), *flags])


class Watched:
    """The most bytes that networks and checkpoints took at once."""

    def __enter__(self):
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.005):
            self.most = max(
                self.most, sum(map(size_of, [*files("model.safetensors"), *files("*.pt"), *files(".*.part")]))
            )


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def files(pattern):
    folders = (state_folder() / "mlruns", state_folder() / "cache" / "checkpoints")
    return [path for folder in folders if folder.exists() for path in folder.rglob(pattern)]


def results_csv():
    (path,) = [path for path in files("results.csv")]
    return path.read_text()


def interrupt_after_first_outer_fold(monkeypatch):
    module = importlib.import_module("step_5.train")
    whole, begun = module.run_root_split, []

    def run_root_split(*arguments):
        begun.append(arguments[-1][0].root_split)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(module, "run_root_split", run_root_split)
    return begun


def count_fits(monkeypatch):
    module = importlib.import_module("step_5.train")
    whole, fits = module.run_fold, Counter()

    def run_fold(table, fold, *rest):
        fits[fold.root_split] += 1
        return whole(table, fold, *rest)

    monkeypatch.setattr(module, "run_fold", run_fold)
    return fits


@pytest.mark.slow
def test_while_a_search_runs_it_takes_no_more_than_was_estimated_and_what_it_gives_is_the_same(
    train, new_home, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("REPROAI_NETWORKS", "none")
    train()
    assert not files("model.safetensors") and "networks: none is kept of 4" in capsys.readouterr().out
    expected = results_csv()
    monkeypatch.delenv("REPROAI_NETWORKS")
    new_home(tmp_path / "limited")
    monkeypatch.setattr(kept_networks, "LARGE", 0)
    monkeypatch.setattr(budget, "LARGE", 0)
    monkeypatch.setattr(budget, "MANY", 2)
    monkeypatch.setattr(checkpoints, "PAUSE", 0)
    with Watched() as unlimited:
        train()
    said = capsys.readouterr().out
    weights = 4 * int(re.search(r"Total params: ([\d,]+)", said)[1].replace(",", ""))
    assert "networks: the best of each outer fold is kept of 4" in said
    new_home(tmp_path / "tight")
    monkeypatch.setattr(budget, "MOST", 2 * weights)
    with Watched() as tight:
        train()
    assert 0 < tight.most <= 1.1 * budget.estimate_space(2, 4, 8, f"Total params: {weights // 4}")
    assert tight.most < unlimited.most
    assert results_csv() == expected and not files("*.pt")
    kept = {path.parent for path in files("model.safetensors")}
    tables = {path.parent: kept_networks.dev_score(path) for path in files("predictions.csv") if is_of_fit(path)}
    best = {}
    for folder, (root, inner, score) in tables.items():
        best.setdefault(root, []).append((-score, inner, folder))
    assert len(tables) == 4 and kept == {min(found)[2] for found in best.values()} and len(kept) == 2


def is_of_fit(path):
    return pd.read_csv(path)[["root_split", "inner_split"]].drop_duplicates().shape[0] == 1


def interrupted(train, begun_in):
    with begun_in.context() as patch:
        begun = interrupt_after_first_outer_fold(patch)
        with pytest.raises(KeyboardInterrupt):
            train(*SHORT)
    (kept,) = files(f"root {begun[0]}.json")
    return begun, kept


def test_an_outer_fold_that_has_ended_leaves_its_best_network_and_no_checkpoint_and_is_not_computed_again(
    train, monkeypatch
):
    monkeypatch.setattr(kept_networks, "LARGE", 0)
    begun, _ = interrupted(train, monkeypatch)
    assert not files("*.pt") and len(files("model.safetensors")) == 1
    fits = count_fits(monkeypatch)
    train(*SHORT)
    assert fits == {begun[1]: 2} and len(files("model.safetensors")) == 2


@pytest.mark.slow
def test_the_damaged_result_of_an_outer_fold_counts_as_absent(train, new_home, tmp_path, monkeypatch, capsys):
    train(*SHORT)
    expected = results_csv()
    new_home(tmp_path / "interrupted")
    begun, kept = interrupted(train, monkeypatch)
    fits = count_fits(monkeypatch)
    kept.write_text(kept.read_text().replace("0.", "1.", 1))
    train(*SHORT)
    assert "damaged, so it counts as absent" in capsys.readouterr().err
    assert fits == dict.fromkeys(begun, 2) and results_csv() == expected


def nested(n_outer, n_inner):
    return [[SimpleNamespace(root_split=root) for _ in range(n_inner)] for root in range(n_outer)]


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_ten_times_ten_folds_of_a_hundred_trials_of_resnet18_take_less_than_two_gigabytes(cores, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("REPROAI_DISK", "2GB")
    assert budget.limit_space(nested(10, 10), 10 * 10 * 100, RESNET18) == budget.MOST
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("REPROAI_NETWORKS", "all")
    assert budget.limit_space(nested(10, 10), 10 * 10 * 100, RESNET18) is None
    assert "networks), and of 2.0 GB 2.0 GB are left; python -m common.results tidy" in capsys.readouterr().err


def test_a_run_that_would_not_fit_is_warned_of_and_a_budget_that_is_none_is_one_line(monkeypatch, capsys):
    (state_folder() / "mlruns").mkdir(exist_ok=True)
    (state_folder() / "mlruns" / "old").write_bytes(bytes(3_000_000))
    monkeypatch.setenv("REPROAI_DISK", "50 MB")
    assert budget.limit_space(nested(1, 1), 1, "Total params: 1,000") is None
    assert capsys.readouterr().err == ""
    budget.limit_space(nested(2, 1), 2, RESNET18)
    said = capsys.readouterr().err
    assert said.startswith("disk: this run may take ") and "(2 networks), and of 50.0 MB 4" in said
    for name, value in (("REPROAI_DISK", "much"), ("REPROAI_NETWORKS", "some")):
        with pytest.raises(UserError, match=f"{name} '{value}': expected"), monkeypatch.context() as patch:
            patch.setenv(name, value)
            budget.limit_space(nested(1, 1), 1, "")
