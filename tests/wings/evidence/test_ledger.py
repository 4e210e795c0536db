"""Test folds on the record: what is written before scores are shown, by whom they were read, and what was changed."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from common.cli import UserError
from common.evidence import ledger
from common.evidence.optimism import expected_optimism
from conftest import copy_code, make_tiny_pets

ABOUT = {"commit": "c", "config": "a", "data": "d", "splits": "s"}


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path


def predicted(seed, folds=2, n=40):
    """A predictions table of made-up numbers: the same images for each seed."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "root_split": fold,
            "inner_split": inner,
            "part": "test",
            "file": f"{fold}_{i}.png",
            "label": i % 2,
            "class": "ab"[i % 2],
            "probability": rng.random(),
            "threshold": 0.5,
            "digest": f"sha {fold} {i}",
        }
        for fold in range(folds)
        for inner in range(2)
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def none(run_id):
    return None


def test_predictions_get_one_line_for_each_outer_fold_and_none_again_when_a_run_goes_on(state):
    table = predicted(0)
    ledger.put_on_record("run a", ABOUT, table[table["root_split"] == 1])
    ledger.put_on_record("run a", ABOUT, table)
    ledger.put_on_record("run a", ABOUT, table.sample(frac=1, random_state=0))
    ledger.put_on_record("run b", ABOUT, predicted(1))
    lines = ledger.ledger_lines()
    assert [(line["run"], line["fold"], line["n_configs"]) for line in lines] == [
        ("run a", 1, 1),
        ("run a", 0, 1),
        ("run b", 0, 2),
        ("run b", 1, 2),
    ]
    assert {*ABOUT, "time", "digest", "before"} < set(lines[0]) and lines[1]["before"] == lines[0]["sha256"]
    assert len({line["test_set"] for line in lines}) == 2 and len({line["digest"] for line in lines}) == 4
    labels = table.assign(label=1 - table["label"])
    assert ledger.missing_folds("run a", labels) == []  # what was predicted, whatever is true


def test_scores_without_a_line_or_of_other_predictions_cannot_be_read(state):
    table = predicted(0)
    with pytest.raises(UserError, match="outer fold 0, 1 are not on the record"):
        ledger.read_scores("run a", table, "why", none)
    ledger.put_on_record("run a", ABOUT, table)
    changed = table.copy()
    changed.loc[changed.index[-1], "probability"] = np.nextafter(changed["probability"].iloc[-1], 1)
    with pytest.raises(UserError, match="outer fold 1 are not on the record"):
        ledger.read_scores("run a", changed, "why", none)
    with pytest.raises(UserError, match="outer fold 1 are not on the record"):
        ledger.read_scores("run a", table[table["root_split"] == 0], "why", none)
    assert all(line["what"] == "predicted" for line in ledger.ledger_lines())
    own_lines = ledger.lines_of("run a")
    ledger.ledger_file().unlink()  # another machine
    assert "the scores of these test folds were read 1 time; 1 config tried on them" in ledger.read_scores(
        "run a", table, "why", none, own_lines
    )


def test_a_read_tells_how_often_the_folds_were_read_and_how_many_configs_were_tried_on_them(state):
    tables = {f"run {seed}": predicted(seed, folds=3) for seed in range(4)}
    for run_id, table in tables.items():
        ledger.put_on_record(run_id, ABOUT, table)
    ledger.put_on_record("run again", ABOUT, tables["run 0"])  # the same predictions are no other try
    said = [ledger.read_scores("run 0", tables["run 0"], "look", tables.get) for _ in range(2)]
    told = "on the record: the scores of these test folds were read 2 times; 4 configs tried on them; if they are "
    assert said[1].startswith(told)
    optimism, n_configs = expected_optimism(list(tables.values()))
    assert n_configs == 4 and f"the best of 4 is expected to look {optimism:.3f} better than it is" in said[1]
    only = ledger.read_scores("run 0", tables["run 0"], "look", none)
    assert "cannot be told as none of the others" in only and "read 3" in only


TAMPERED = {
    "changed": (lambda lines: [lines[0].replace("run a", "run x"), *lines[1:]], "line 1 was changed"),
    "changed at the end": (lambda lines: [*lines[:-1], lines[-1].replace("look", "none")], "line 5 was changed"),
    "removed": (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow"),
    "swapped": (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 does not follow"),
    "twice": (lambda lines: [*lines, lines[-1]], "line 6 does not follow"),
    "no JSON": (lambda lines: [*lines[:2], "{}", *lines[3:]], "line 3 was changed"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_line_that_was_altered_removed_or_swapped_breaks_the_chain(how, state):
    for seed, run_id in enumerate(("run a", "run b")):
        ledger.put_on_record(run_id, ABOUT, predicted(seed))
    ledger.read_scores("run a", predicted(0), "look", none)
    tamper, said = TAMPERED[how]
    path = ledger.ledger_file()
    path.write_text("\n".join([*tamper(path.read_text().splitlines()), ""]))
    before = path.read_bytes()
    for use in (ledger.ledger_lines, lambda: ledger.put_on_record("run c", ABOUT, predicted(2))):
        with pytest.raises(UserError, match=said):
            use()
    assert path.read_bytes() == before


def test_a_line_that_names_none_before_it_is_one_that_was_changed(state):
    ledger.put_on_record("run a", ABOUT, predicted(0))
    line = {"what": "read"}
    (state / "ledger.jsonl").write_text(f"{json.dumps(line | {'sha256': ledger._sha256_of(line)})}\n")
    with pytest.raises(UserError, match="line 1 was changed"):
        ledger.ledger_lines()


def test_a_line_that_a_power_cut_left_half_is_taken_off_by_the_next_one(state):
    ledger.put_on_record("run a", ABOUT, predicted(0))
    path = ledger.ledger_file()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:57])
    assert len(ledger.ledger_lines()) == 2
    ledger.put_on_record("run b", ABOUT, predicted(1))
    assert path.read_bytes().startswith(whole) and len(ledger.ledger_lines()) == 4


@pytest.fixture(scope="module")
def runs(run_script, tmp_path_factory):
    """Two runs of step 5 on a folder of pictures: one shows dev scores, the other, of its best config, test scores."""
    folder = tmp_path_factory.mktemp("sealed")
    pets, state = make_tiny_pets(folder / "pets", n_per_class=30), folder / "state"

    def run(script, *flags):
        done = run_script(script, *flags, REPROAI_STATE=str(state))
        assert done.returncode == 0, done.stderr
        return done.stdout

    common = ["--data", pets, "--fast", "--inner-splits", "1", "--n-trials", "1", "--n-jobs", "1"]
    first = run("step_5/train.py", *common)
    (run_id,) = re.findall(r"look at it: run (\w+)", first)
    client = MlflowClient(f"sqlite:///{state / 'mlflow.db'}")
    (root,) = client.search_runs(
        [client.get_run(run_id).info.experiment_id], "tags.run_level='root_split' and tags.root_split='0'"
    )
    best = shutil.copy(client.download_artifacts(root.info.run_id, "best_config.py", str(folder)), folder / "mine.py")
    second = run("step_5/train.py", best, *common, "--unsealed", "to see")
    return first, second, run_id, client, state, run


def test_a_run_on_own_data_shows_dev_scores_alone_and_logs_no_test_score(runs):
    first, _, run_id, client, *_ = runs
    assert "dev ROC AUC" in first and "test ROC AUC" not in first and "test folds: sealed" in first
    tree = client.search_runs([client.get_run(run_id).info.experiment_id], f"tags.root_run_id = '{run_id}'")
    names = {name for found in [client.get_run(run_id), *tree] for name in found.data.metrics}
    assert "dev_roc_auc" in names and not [name for name in names if "test" in name or name == "optimism"]


def test_unsealed_scores_carry_how_often_the_folds_were_read_and_the_ledger_has_the_reason(runs, tmp_path):
    _, second, run_id, client, state, _ = runs
    (line,) = re.findall("on the record.*", second)
    assert line.startswith("on the record: the scores of these test folds were read 1 time; 2 configs tried on them;")
    lines = [json.loads(text) for text in (state / "ledger.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["predicted"] * 4 + ["read"] and lines[-1]["reason"] == "to see"
    kept = Path(client.download_artifacts(run_id, "ledger.jsonl", str(tmp_path))).read_text()
    assert sorted(line["fold"] for line in map(json.loads, kept.splitlines())) == [0, 1]


def test_a_best_config_warns_where_it_is_tested_on_images_that_chose_it(runs):
    first, second, *_ = runs
    assert "mine.py: its settings were chosen on the learning images of outer fold 0, and outer fold 1 tests" in second
    assert "were chosen on" not in first


def test_the_analysis_of_a_sealed_run_is_a_read_on_the_record_and_a_missing_last_line_is_noticed(runs):
    _, _, run_id, _, state, run = runs
    said = run("step_5/analyze_predictions.py", "--run-id", run_id)
    assert "test ROC AUC" in said and "test folds were read 2 times; 2 configs tried" in said
    whole = (state / "ledger.jsonl").read_text()
    shown = run("common/evidence/ledger.py")
    assert "6 lines, each as it was written; 2 runs looked at" in shown and "analyze_predictions" in shown
    (state / "ledger.jsonl").write_text("".join(whole.splitlines(keepends=True)[:3]))
    with pytest.raises(AssertionError, match="a line is gone: outer fold"):
        run("common/evidence/ledger.py")
    (state / "ledger.jsonl").write_text(whole)


def test_a_script_that_scores_without_putting_predictions_on_the_record_ends_with_2(run_script, tiny_pets, tmp_path):
    folder = copy_code(tmp_path / "code")
    script = folder / "step_4" / "train.py"
    script.write_text(script.read_text().replace("        root_run.record(tested)\n", ""))
    flags = ["--data", tiny_pets, "--fast", "--n-trials", "1", "--n-jobs", "1", "--unsealed", "why"]
    flags += ["--root-splits", "1", "--inner-splits", "1"]
    done = run_script("step_4/train.py", *flags, folder=folder, REPROAI_STATE=str(tmp_path / "state"))
    assert done.returncode == 2 and "not on the record" in done.stderr and "test ROC AUC" not in done.stdout


def cross_validated(rng, weights, subsets):
    """Predictions of ridge regressions in 5-fold cross-validation, and their true ROC AUC: by config."""
    n, large = 150, 4000

    def draw(size):
        labels = np.arange(size) % 2
        return rng.normal(size=(size, len(weights))) + np.outer(labels - 0.5, weights), labels

    (x, y), (new_x, new_y) = draw(n), draw(large)
    tables, truth = [], []
    for columns in subsets:
        rows, aucs = [], []
        for fold, (learn, test) in enumerate(StratifiedKFold(5).split(x, y)):
            centred = x[learn][:, columns] - x[learn][:, columns].mean(axis=0)
            ridge = centred.T @ centred + 10 * np.eye(len(columns))
            model = np.linalg.solve(ridge, centred.T @ (y[learn] - 0.5))
            for i, p in zip(test, x[test][:, columns] @ model, strict=True):
                rows.append((fold, 0, "test", f"{i}", y[i], p, 0.5, f"{i}"))
            aucs.append(roc_auc_score(new_y, new_x[:, columns] @ model))
        names = ["root_split", "inner_split", "part", "file", "label", "probability", "threshold", "digest"]
        tables.append(pd.DataFrame(rows, columns=names))
        truth.append(np.mean(aucs))
    return tables, np.array(truth)


def auc_of(table):
    return np.mean([roc_auc_score(fold["label"], fold["probability"]) for _, fold in table.groupby("root_split")])


@pytest.mark.parametrize(
    ("kind", "n_sets"),
    [("alike", 6), *(pytest.param(kind, 20, marks=pytest.mark.slow) for kind in ("alike", "different"))],
)
def test_in_real_cross_validation_the_best_of_some_looks_as_much_better_as_is_said(kind, n_sets):
    rng, said, found = np.random.default_rng(0), [], []
    for _ in range(n_sets):
        weights = np.full(12, 0.25)
        subsets = [rng.permutation(12)[:6] for _ in range(8)]
        if kind == "different":
            weights[0] = 1.5
            subsets = [
                np.append(columns[columns != 0][:5], 0) if i == 0 else columns[columns != 0]
                for i, columns in enumerate(subsets)
            ]
        tables, truth = cross_validated(rng, weights, subsets)
        scores = np.array([auc_of(table) for table in tables])
        best = scores.argmax()
        found.append(scores[best] - truth[best])
        said.append(expected_optimism(tables)[0])
    print(f"{kind}: said {np.mean(said):.4f}, found {np.mean(found):.4f} (SE {np.std(found) / n_sets**0.5:.4f})")
    error = 2 * np.std(found) / n_sets**0.5
    assert np.mean(found) < np.mean(said) + error
    assert kind == "different" or np.mean(said) < 1.4 * np.mean(found) + error
