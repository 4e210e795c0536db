"""One experiment from several root seeds: which runs are made, and whence their scores differ."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.cli import UserError
from common.data import load_images, load_splits
from common.evaluation.spread import spread_of
from common.tracking import find_root


def test_folds_and_seeds_are_the_random_effects_of_a_published_example():
    """Strength of cloth from four looms: Montgomery, Design and Analysis of Experiments, section 3.9: 6.96, 1.90."""
    looms = np.array([[98, 97, 99, 96], [91, 90, 93, 92], [96, 95, 97, 95], [95, 96, 99, 98]])
    found = spread_of(looms.T)
    assert (found.folds**2, found.seeds**2) == pytest.approx((6.96, 1.90), abs=0.005)
    assert found.seeds_of_mean == found.seeds / 2 and np.isnan(found.splits)


def test_variances_of_seeds_and_splits_are_right_on_average():
    rng, found = np.random.default_rng(0), []
    for _ in range(4000):
        splits, folds, seeds = rng.normal(0, 0.06, 4), rng.normal(0, 0.08, 2), rng.normal(0, 0.04, (7, 2))
        same = splits[0] + folds + seeds[:4]
        own = [
            split + (rng.normal(0, 0.08, 2) + seed).mean() for split, seed in zip(splits[1:], seeds[4:], strict=True)
        ]
        found.append(spread_of(same, own))
    of_seeds, of_splits = (np.mean([getattr(spread, name) ** 2 for spread in found]) for name in ("seeds", "splits"))
    assert of_seeds == pytest.approx(0.04**2, rel=0.05)
    assert of_splits == pytest.approx(0.06**2 + 0.08**2 / 2, rel=0.05)  # other splits have other folds


def test_repeats_run_what_has_not_finished_on_the_same_splits_and_on_others(
    run_script, tiny_pets, empty_stores, tmp_path, monkeypatch
):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    shutil.copy(empty_stores / "mlflow.db", tmp_path)
    command = ("step_3/train.py", "--data", tiny_pets, "--fast", "--root-splits", 1, "--inner-splits", 1)
    command += ("--n-jobs", 1, "--json")
    before = json.loads(run_script(*command, "--seed", 8).stdout.splitlines()[-1])
    done = run_script(*command, "--seed", 7, "--repeats", 2, "--resplit")
    assert done.returncode == 0, done.stderr
    *_, plot, last = done.stdout.splitlines()
    found = json.loads(last)
    assert [(run["seed"], run["resplit"]) for run in found["runs"]] == [(7, False), (8, False), (8, True)]
    assert f"run {before['run_id']} has finished" in done.stdout and done.stdout.count("has finished") == 1
    same, again, own = found["runs"]
    assert (again["run_id"], again["test_roc_auc"]) == (before["run_id"], before["test_roc_auc"])
    assert found["test_roc_auc"] == pytest.approx((same["test_roc_auc"] + again["test_roc_auc"]) / 2)
    assert Path(plot.removeprefix("plot: ")).read_bytes().startswith(b"\x89PNG")
    tested = []
    for run in found["runs"]:
        table = find_root(run["run_id"]).read_table("predictions.csv")
        tested.append(set(table.loc[(table["part"] == "test") & (table["root_split"] == 0), "file"]))
    assert tested[0] == tested[1] != tested[2]
    kept = find_root(own["run_id"]).client.get_run(own["run_id"])
    assert kept.info.run_name.endswith(" seed 8 own splits")
    command = kept.data.tags["command"]
    assert "--resplit" in command and "--repeats" not in command  # as `reproduce` runs it


def test_splits_that_were_given_are_not_drawn_anew(tiny_pets, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    table = load_images(str(tiny_pets), 16)
    parts = np.array(["train", "dev", "test"])[np.arange(len(table)) // 2 % 3]
    given = replace(table, parts=parts)
    assert load_splits(given)["given"]
    with pytest.raises(UserError, match="these splits were given, not drawn; expected no --resplit"):
        load_splits(given, seed=1)
