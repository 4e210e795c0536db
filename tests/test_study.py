"""The study: its conclusions follow from its tables, and its tables can be made again."""

import argparse
import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from common.cli import UserError
from conftest import PROJECT
from study import __main__ as study
from study.best import best_of, expected_maximum
from study.finished import TABLES, read
from study.tables import main as draw_conclusions

RESULTS, PAGE = PROJECT / "study" / "results", PROJECT / "docs" / "study.md"


@pytest.fixture(scope="module")
def tables():
    return {name: pd.read_csv(RESULTS / f"{name}.csv") for name in TABLES}


def test_the_conclusions_are_those_of_the_tables(tmp_path):
    for file in [*(RESULTS / f"{name}.csv" for name in TABLES), PAGE]:
        shutil.copy(file, tmp_path)
    draw_conclusions(["--results", str(tmp_path), "--docs", str(tmp_path)])
    for name in ("optimism", "claims"):
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / f"{name}.csv"), pd.read_csv(RESULTS / f"{name}.csv"), rtol=1e-9
        )
    assert (tmp_path / "claims.png").stat().st_size > 20_000
    assert (tmp_path / "study.md").read_text() == PAGE.read_text()


def test_another_table_gives_other_conclusions(tmp_path, tables):
    for name in TABLES:
        tables[name].to_csv(tmp_path / f"{name}.csv", index=False)
    worse = tables["folds"].assign(
        test_roc_auc=tables["folds"]["test_roc_auc"] - 0.1 * (tables["folds"]["method"] == "tpe")
    )
    worse.to_csv(tmp_path / "folds.csv", index=False)
    shutil.copy(PAGE, tmp_path)
    draw_conclusions(["--results", str(tmp_path), "--docs", str(tmp_path)])
    here, there = (
        pd.read_csv(folder / "claims.csv").set_index(["data", "claim"])["number"] for folder in (RESULTS, tmp_path)
    )
    changes = (here - there).round(6)
    assert (changes.xs("search less fixed settings: the procedures", level="claim") == 0.1).all()
    assert (changes.xs("every image tested, fixed settings: the procedure", level="claim") == 0).all()


def test_what_was_run_is_what_is_claimed(tables):
    folds, trials = tables["folds"], tables["trials"]
    per_method = folds.groupby(["data", "method", "seed"])
    assert (per_method["root_split"].nunique() == 10).all() and (per_method.size() == 30).all()
    assert {"fixed", "tpe", "random", "logistic"} <= set(folds["method"])
    assert trials.groupby(["data", "method", "seed", "root_split"]).size().min() >= 50
    for kept, varied in (("seed", "split"), ("split", "seed")):
        assert tables["single"][tables["single"][kept] == 0].groupby("data")[varied].nunique().min() >= 30
    about = json.loads((RESULTS / "about.json").read_text())
    assert len(about["git_commits"]) == 1 and about["fits"] >= 3 * len(trials)


def test_the_models_that_were_tested_are_those_of_the_trial_with_the_best_dev_score(tables):
    keys = ["data", "method", "seed", "root_split"]
    tested = tables["folds"].groupby(keys).agg(best=("best_trial", "first"), test=("test_roc_auc", "mean"))
    for key, search in tables["trials"].groupby(keys):
        best = search.set_index("trial").loc[tested.loc[key, "best"]]
        assert best["dev"] == search["dev"].max() and best["test"] == pytest.approx(tested.loc[key, "test"], abs=1e-4)


def test_random_search_is_averaged_over_all_choices_of_trials():
    random = np.random.default_rng(0)
    trials = pd.DataFrame({"trial": range(7), "dev": random.random(7), "test": random.random(7)})
    for n in (1, 3, 7):
        each = [trials.loc[list(some)] for some in itertools.combinations(range(7), n)]
        chosen = pd.DataFrame([some.loc[some["dev"].idxmax()] for some in each])
        found = best_of(trials, n, in_order=False)
        assert found[["dev", "test"]].tolist() == pytest.approx(chosen[["dev", "test"]].mean().tolist())
    first = best_of(trials, 3, in_order=True)
    assert first["dev"] == pytest.approx(trials["dev"][:3].max())


def test_the_expected_maximum_is_that_of_the_tables_of_order_statistics():
    found = [expected_maximum(n) for n in (1, 2, 5, 10, 20)]
    assert found == pytest.approx([0, 0.56419, 1.16296, 1.53875, 1.86748], abs=1e-5)  # Teichroew (1956)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"folds\.csv: .*; python -m study writes it"):
        read(tmp_path)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A study of two units of nothing: what `compute` is called with, and a function that runs it."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    computed = []

    def compute(sources, compute, inner_splits, unit):
        computed.append(unit)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return {"folds": [{**unit.key, "score": len(computed)}], "seconds": [{"began": 0.0, "wall": 1.0, "cpu": 1.0}]}

    from study import kept, units

    monkeypatch.setattr(units, "run_unit", compute)
    monkeypatch.setattr(kept, "identity", lambda *_: {"code": "0"})
    monkeypatch.setattr(study, "sources_of", lambda: {})
    size = study.Size(1, 2, 1, 1, 0, 0, 0)
    how = argparse.Namespace(n_jobs=1, so_far=False)
    return computed, lambda: study.run(size, how, tmp_path / "results")


def test_what_has_finished_is_kept_and_never_computed_again(tiny, tmp_path):
    computed, run = tiny
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "results").exists()
    about = run()
    assert len(computed) == 1 + len(set(computed)) == 1 + about["units"]
    again = run()
    assert len(computed) == 1 + about["units"] and again["not_run"] == []
    assert len(pd.read_csv(tmp_path / "results" / "folds.csv")) == about["units"]


@pytest.mark.slow
def test_one_fold_made_again_gives_the_committed_numbers(tables):
    from common import training
    from common.training.compute import cores
    from study.kept import identity
    from study.units import Unit, run_unit

    compute = training.set_up("cpu", "fp32", parallel_fits=cores())
    sources = study.sources_of()
    then, now = json.loads((RESULTS / "about.json").read_text())["depends_on"], identity(sources, compute)
    same = {name for name in now if name.split(".")[0] in ("data", "packages", "machine") and now[name] == then[name]}
    is_exact = len(same) == sum(not name.startswith("code.") for name in now)
    for method, n_trials in (("fixed", 1), ("logistic", 50), ("tpe", 50)):
        key = {"data": "drawn", "method": method, "seed": 0, "root_split": 0}
        rows = run_unit(sources, compute, 3, Unit(*key.values(), n_trials))
        for name in ("folds", "trials"):
            if name in rows:
                committed = tables[name][(tables[name][list(key)] == list(key.values())).all(axis=1)]
                found = pd.DataFrame(rows[name])[list(committed.dropna(axis=1))]
                scores = [column for column in found if column.startswith(("dev", "test_roc_auc", "test"))]
                ours, theirs = found[scores].to_numpy(), committed[scores].to_numpy()
                if is_exact:
                    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
                assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 0.05, (method, name)


@pytest.mark.slow
def test_a_study_in_one_process_gives_the_same_tables_as_in_two(tmp_path, monkeypatch):
    found = []
    for n_jobs in ("1", "2"):
        monkeypatch.setenv("REPROAI_STATE", str(tmp_path / n_jobs))
        study.main(["--fast", "--n-jobs", n_jobs, "--output", str(tmp_path / n_jobs / "results")])
        found.append({path.name: path.read_bytes() for path in (tmp_path / n_jobs / "results").glob("*.csv")})
    assert found[0] == found[1] and set(found[0]) == {f"{name}.csv" for name in TABLES}
