"""What the lessons, the README and the pages claim is what the stored outputs and the tables of the study show."""

import ast
import re
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from stored_lessons import STEPS, cell_with, compared, said, text_of

from common import lesson
from common.config import TrainingConfig
from common.seeds import Stream
from common.state import PROJECT


def test_a_registered_model_is_said_to_be_tested_on_no_image_wherever_it_is_spoken_of():
    for page in ((PROJECT / "docs" / "production.md").read_text(), text_of(3)):
        assert re.search(r"tested on\s+\**no\**\s+image", page)
    assert "so it was tested on none" in (PROJECT / "common" / "production" / "final.py").read_text()
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        assert not re.search(r"registered model[^.]{0,40}(score[sd]|was tested on \d)", page.read_text()), page


def test_every_image_is_tested_only_where_all_outer_folds_have_run():
    assert compared(3, "share tested by 5 outer folds") == 0.5
    assert "300 of 600 images tested" in said(cell_with(3, "images tested"))
    for step in STEPS:
        for sentence in re.findall(r"[^.\n|]*(?:every|each) image (?:is|was) tested[^.\n|]*", text_of(step)):
            assert re.search("all|file|holds for", sentence), sentence
    folds, images = lesson.study("folds"), lesson.study("images")
    tested = folds[folds["inner_split"] == 0].groupby(["data", "method", "seed"])["n_test"].sum()
    assert (tested == 600).all() and (images.groupby("data")["image"].nunique() == 600).all()


def test_what_moves_a_network_of_one_epoch_are_seeds_and_a_head_that_is_trained_to_the_end_less():
    assert "what moves the score more is seeds" in said(cell_with(3, 'moved.std().idxmax(), "what moves'))
    single, folds = lesson.study("single").query("data == 'drawn'"), lesson.study("folds")
    fixed = folds.query("data == 'drawn' and method == 'fixed'").groupby(["seed", "root_split"])["test_roc_auc"]
    assert single.query("split == 0")["test_roc_auc"].std() < np.sqrt(fixed.var().mean())
    assert single.query("split == 0")["test_roc_auc"].std() < 0.5 * single.query("seed == 0")["test_roc_auc"].std()


def test_the_warm_up_of_the_script_leaves_the_loss_near_that_of_chance_and_a_larger_rate_does_not():
    after, chance = map(float, re.findall(r"(?:loss is|has) (0\.\d+)", said(cell_with(1, "rate = 1e-2"))))
    script = compared(1, "the dev loss after the script's warm-up")
    assert chance == 0.69 and chance - script < 0.05 and chance - after > 0.15
    moved = dict(re.findall(r"^(.+?)  +0\.\d+ +(0\.\d+)$", said(cell_with(1, "ways = {")), re.MULTILINE))
    assert float(moved["no warm-up, 0.0001"]) < float(moved["no warm-up, 0.001"])


def test_explanations_of_lesson_1_quote_the_numbers_that_are_shown():
    shown = said(cell_with(1, "fourths = "))
    (explained,) = re.findall(r"Below 0\.25 it says.*?</details>", text_of(1), re.DOTALL)
    for part in re.findall(r"(\d+) %", explained):
        assert f"0.{int(part):02}" in shown or part == "50", part
    torn = said(cell_with(1, "of_scans = "))
    assert "from 0.63 to 0.69" in text_of(1) and re.search(r"backbone +0\.63 -> 0\.69", torn)
    assert "at chance: 0.51" in text_of(1) and re.search(r"grey values +0\.51 -> 0\.60", torn)


def photos(n_animals=10, n_photos=4):
    """Photos of animals, of which all photos are alike."""
    group = np.repeat([f"animal {i}" for i in range(n_animals)], n_photos)
    probability = np.repeat(np.random.default_rng(0).permutation(n_animals) / n_animals, n_photos)
    label = np.repeat(np.arange(n_animals) % 2, n_photos)
    return pd.DataFrame({"file": range(len(group)), "group": group, "label": label, "probability": probability})


def test_lesson_1_halves_animals_and_not_photos():
    seen, test = [], photos()
    names = {"seed": 0, "np": np, "test": test, "guess_optimism": None, "lesson": SimpleNamespace(compare=print)}
    chosen = lambda label, probability: seen.append(probability) or 0.5  # noqa: E731
    names |= {
        "evaluation": SimpleNamespace(youden_threshold=chosen),
        "balanced_accuracy_score": balanced_accuracy_score,
    }
    exec(cell_with(1, "on_others, on_same = [], []").source, names)
    assert len(seen) > 400
    assert all((np.unique(half, return_counts=True)[1] == 4).all() for half in seen)


def test_lesson_2_draws_animals_and_not_photos():
    source = cell_with(2, "def bootstrap").source
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    names = {"np": np, "pd": pd, "Stream": Stream, "seed": 0}
    exec(compile(ast.Module(functions, []), "lesson 2", "exec"), names)
    test = photos(n_animals=40)
    given = names["roc_auc"], test["label"].to_numpy(), test["probability"].to_numpy()
    widths = [np.ptp(names["bootstrap"](*given, test[unit])) for unit in ("group", "file")]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)  # four equal photos are worth one
    assert "bootstrap(roc_auc, label, probability, animals)" in source and 'animals = test["group"]' in source


@pytest.mark.filterwarnings("ignore:WilcoxonPruner is experimental")
def test_wilcoxon_pruner_ends_no_trial_before_its_fourth_fold_as_lesson_4_says():
    assert "before its fourth fold" in text_of(4)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner())
    best, poor = study.ask(), study.ask()
    for step in range(5):
        best.report(0.9 + step / 1000, step)
    study.tell(best, 0.9)
    ended = []
    for step in range(5):
        poor.report(0.5 + step / 2000, step)
        ended.append(poor.should_prune())
    assert ended.index(True) == 3


def test_the_best_of_n_is_less_optimistic_than_independent_trials_would_be():
    most = lesson.study("optimism").query("n == 50")
    assert len(most) == 4 and (most["optimism"] < most["independence"]).all()
    assert compared(4, "the share") < 0.8


def test_lesson_5_names_the_settings_whose_defaults_differ_from_step_4():
    step_4 = lesson.module(4, "train").CONFIG
    differing = [f.name for f in fields(TrainingConfig) if getattr(step_4, f.name) != getattr(TrainingConfig(), f.name)]
    assert re.findall(r"^(\w+) +step 4: ", said(cell_with(5, "differing = {")), re.MULTILINE) == differing
    assert compared(5, "the number of settings that differ") == len(differing)


def test_lesson_5_reads_its_subgroups_as_their_intervals_allow():
    rows = re.findall(r"(0\.\d+|1\.000) \[(.+?), (.+?)\]", said(cell_with(5, "subgroups_text")))
    north, south = np.array(rows, float)[:3], np.array(rows, float)[3:]
    apart = (north[:, 2] < south[:, 1]) | (south[:, 2] < north[:, 1])
    assert apart.tolist() == [False, False, True]  # ROC AUC, sensitivity, specificity
    assert south[1, 0] < north[1, 0] and south[2, 0] > north[2, 0]


def test_recalibration_in_lesson_5_mends_the_probabilities_and_leaves_the_order():
    def scores(name):
        rows = re.findall(
            r"^\s*([A-Za-z].+?)  +(-?[\d.]+)", said(cell_with(5, f"compact_table({name}, 2)")), re.MULTILINE
        )
        return {title: float(number) for title, number in rows}

    before, after = scores("scores"), scores("after")
    assert before["ROC AUC"] == after["ROC AUC"] and before["sensitivity (recall)"] < 0.5
    assert abs(after["calibration slope"] - 1) < abs(before["calibration slope"] - 1)
    assert abs(after["calibration intercept"]) < abs(before["calibration intercept"])
    assert after["Brier score"] < before["Brier score"]


@pytest.mark.parametrize("data", ["drawn", "phantoms"])
def test_what_is_said_in_words_about_the_study_holds_for_its_tables(data):
    claims = lesson.study("claims").query("data == @data").set_index("claim")
    number, width = claims["number"], claims["high"] - claims["low"]
    these, procedure = (f"every image tested, fixed settings: {of}" for of in ("these models", "the procedure"))
    assert width["the same on other splits"] > 2 * width["the same split, other seeds"], "splits move more than seeds"
    assert width[these] < min(width[procedure], width["one random split"]), "step 3: narrower than one split"
    gain = claims.loc["search less fixed settings: the procedures"]
    assert gain["low"] < 0 < gain["number"], "the search raises the mean, and its interval holds zero"
    excess = number["dev score of the chosen trial less its test score"]
    assert 0 < number["of it, by choosing the best of 50"] < excess, "choosing is a part of the excess"
    assert number["the same config again: scores that are equal"] == 1
    assert number["new subjects, another camera"] < number["new subjects, the same camera"] - 0.03, "it costs much"
    best = lesson.study("optimism").query("data == @data").set_index(["method", "n"])
    assert all(best["dev"][method].is_monotonic_increasing for method in ("random", "tpe"))
    assert abs(best["test"]["random", 50] - best["test"]["random", 10]) < 0.01, "hardly rises after ten"
    assert (best["optimism"] < best["independence"])[best.index.get_level_values("n") >= 5].all()
    assert (best.xs(50, level="n")["optimism"] < best.xs(50, level="n")["shared"]).all(), "even shared is too much"


def test_what_lesson_3_says_of_folds_and_seeds_holds_for_the_study_where_it_has_several_seeds():
    real = lesson.study("folds").query("data == 'drawn' and method == 'fixed'")
    if real["seed"].nunique() < 2:
        pytest.skip("the study has one seed")

    def typical_sd(*fixed):
        return np.sqrt(real.groupby([*fixed])["test_roc_auc"].var().mean())

    of_folds = real.groupby(["seed", "root_split"])["test_roc_auc"].mean().unstack()
    of_seed, of_images = typical_sd("root_split", "inner_split"), typical_sd("root_split", "seed")
    assert of_seed < of_images < 1.1 * of_seed, "the second row is hardly larger than the first"
    assert of_folds.mean(axis=1).std() < min(of_seed, of_images, of_folds.mean().std()), "the last row is the smallest"
