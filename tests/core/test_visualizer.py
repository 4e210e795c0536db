"""Plots of a search: they show what happened, stay legible, and cope with every study there can be."""

import base64
import math
from datetime import datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from matplotlib import pyplot
from matplotlib.colors import to_hex
from PIL import Image

from common.cli import UserError
from common.plots.visualizer import (
    category_plot,
    count_plot,
    duration_plot,
    line_plot,
    match_label,
    save_study_plots,
    scatter_plot,
    study_plots,
)
from common.search.labels import group_labels
from common.search.pooled import Pool

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning", "ignore:The value nan is not acceptable")
STATE = optuna.trial.TrialState
LABELS = ["best 25 %", "25-50 %", "50-75 %", "worst 25 %"]


def suggest(trial):
    """Parameters of all kinds, some of which only some trials have."""
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    width = trial.suggest_int("width", 16, 256, log=True)
    dropout = trial.suggest_float("dropout", 0, 0.6)
    trial.suggest_float("share", 0, 1, step=0.25)
    depth = trial.suggest_int("depth", 1, 4)
    trial.suggest_categorical("augment", [None, True, "a rather long name of a policy for images"])
    kind = trial.suggest_categorical("kind", ["sgd", "adamw"])
    momentum = trial.suggest_float("momentum", 0, 0.99) if kind == "sgd" else 0.5
    return 0.9 - 0.03 * (math.log10(rate) + 3) ** 2 + 0.01 * depth - 0.05 * abs(dropout - momentum) + width / 1e5


def make_study(name="study", n_trials=30, objective=suggest, seed=0, direction="maximize", storage=None):
    """A study whose every 5th trial is pruned and every 11th failed, each of them 10 s to 10 min long."""
    sampler, rng = optuna.samplers.RandomSampler(seed=seed), np.random.default_rng(seed)
    study = optuna.create_study(storage=storage, study_name=name, sampler=sampler, direction=direction)
    for number in range(n_trials):
        trial = study.ask()
        value = objective(trial)
        if number % 11 == 10:
            study.tell(trial, math.nan)
        elif number % 5 == 4:
            trial.report(value - 0.1, 0)
            trial.report(math.nan, 1)
            study.tell(trial, state=STATE.PRUNED)
        else:
            study.tell(trial, value)
    timed = optuna.create_study(study_name=name, direction=direction)
    for trial in study.get_trials():
        trial.datetime_start = datetime(2020, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=10 ** rng.uniform(1, 2.8))
        timed.add_trial(trial)
    return timed


def of(values, states=None, **directions):
    """A study with one parameter, told these values."""
    study = optuna.create_study(**({"direction": "maximize"} | directions))
    for i, value in enumerate(values):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        if i in (states or {}):
            trial.report(math.nan if value is None else value, 0)
            study.tell(trial, state=states[i])
        else:
            study.tell(trial, value)
    return study


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def folds():
    return [make_study(f"0123abcd root {i}", 20, lambda trial, i=i: suggest(trial) - i, seed=i) for i in range(5)]


def legible(figure):
    """It can be drawn, has a title and axes with names, and its legend is in the picture and beside the axes."""
    figure.draw_without_rendering()
    assert figure.get_suptitle()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert any(axes.get_xlabel() for axes in shown) and any(axes.get_ylabel() for axes in shown)
    for box in [legend.get_window_extent() for legend in figure.legends]:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0
        assert not any(box.overlaps(axes.get_window_extent()) for axes in shown)
    return True


def drawn(axes):
    """The points of a plot as rows x, y, colour."""
    return [(x, y, to_hex(group.get_facecolor()[0])) for group in axes.collections for x, y in group.get_offsets()]


def named(figure):
    """Colours and counts of a figure's legend by name."""
    entries = [handle.get_label().rpartition(" (") for handle in figure.legends[0].legend_handles]
    colours = [to_hex(handle.get_color()) for handle in figure.legends[0].legend_handles]
    return {n: (c, int(count.rstrip(")"))) for (n, _, count), c in zip(entries, colours, strict=True) if n}


scores = st.lists(st.sampled_from([math.nan, -math.inf, math.inf, 0.0, 0.5]) | st.floats(0, 1), max_size=30)


@given(scores, st.booleans())
def test_a_label_says_how_large_a_share_of_the_scores_is_better(values, maximize):
    labels = match_label(pd.Series(values, dtype=float), maximize=maximize)
    real = [value for value in values if not math.isnan(value)]
    for value, label in zip(values, labels, strict=True):
        better = sum(other > value if maximize else other < value for other in real)
        expected = None if math.isnan(value) else LABELS[sum(better >= edge * len(real) for edge in (0.25, 0.5, 0.75))]
        assert (None if pd.isna(label) else label) == expected


def test_labels_go_from_best_to_worst_for_any_quantiles_and_keep_the_index():
    labels = match_label(pd.Series([3, 1, 2, None], index=list("abcd"), name="loss"), [0.1, 0.5], maximize=False)
    assert list(labels.cat.categories) == ["best 10 %", "10-50 %", "worst 50 %"] and labels.name == "loss"
    assert labels.dropna().to_dict() == {"a": "worst 50 %", "b": "best 10 %", "c": "10-50 %"}
    assert labels["b"] == labels.min()
    for wrong in ([], [0.5, 0.2], [0, 0.5], [0.5, 1], [math.nan]):
        with pytest.raises(ValueError, match="quantiles"):
            match_label(pd.Series([1.0]), wrong)


def test_trials_are_ranked_within_their_outer_fold(folds):
    pool = Pool.of(folds)
    table = pd.crosstab(pool.trials["study"], group_labels(pool))
    assert list(table.index) == [f"root {i}" for i in range(5)]
    assert (table["best 25 %"] == table["best 25 %"].iloc[0]).all() and table["best 25 %"].iloc[0] > 0


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_line_is_the_best_so_far_and_other_trials_stand_apart(direction):
    figure = line_plot(make_study(direction=direction), "score")
    (axes,) = figure.axes
    trials = make_study(direction=direction).trials
    line = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    best = max if direction == "maximize" else min
    done = [[t.value for t in trials[: i + 1] if t.state == STATE.COMPLETE] for i in range(len(trials))]
    np.testing.assert_allclose(line.get_ydata(), list(map(best, [*done, done[-1]])))
    legend = {name: count for name, (_, count) in named(figure).items()}
    assert legend == {"complete": 22, "pruned": 6, "failed": 2} and legible(figure)
    pruned = {x: y for x, y, colour in drawn(axes) if colour == named(figure)["pruned"][0]}
    assert pruned == {t.number: pytest.approx(t.intermediate_values[0]) for t in trials if t.state == STATE.PRUNED}
    failed = next(line for line in axes.lines if line.get_marker() == "v")
    assert list(failed.get_xdata()) == [t.number for t in trials if t.state == STATE.FAIL]
    assert failed.get_transform() == axes.get_xaxis_transform()


@pytest.mark.parametrize("count", [1, 5])
def test_each_outer_fold_has_a_panel_that_names_its_best_trial(folds, count):
    studies = folds[:count]
    figure = line_plot(studies)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    found = [f"best {study.best_value:.4g} in trial {study.best_trial.number}" for study in studies]
    assert titles == (found if count == 1 else [f"root {i}: {best}" for i, best in enumerate(found)])


def test_a_scatter_plot_shows_each_trial_in_the_colour_of_its_group_on_the_scale_it_was_sampled(study):
    figure = scatter_plot(study, "rate", "dropout")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear") and legible(figure)
    assert axes.get_xlim()[0] < 1e-5 < 1e-1 < axes.get_xlim()[1] and axes.get_ylim()[0] < 0 < 0.6 < axes.get_ylim()[1]
    groups, legend = group_labels(Pool.of(study)), named(figure)
    colour = dict(zip(((t.params["rate"], t.params["dropout"]) for t in study.trials), groups, strict=True))
    assert all(legend[colour[x, y]][0] == c for x, y, c in drawn(axes)) and len(drawn(axes)) == 30
    assert groups.value_counts().loc[lambda n: n > 0].to_dict() == {name: count for name, (_, count) in legend.items()}

    conditional = scatter_plot(study, "momentum", "rate")
    having = sum("momentum" in trial.params for trial in study.trials)
    assert f"{having} of 30 trials" in conditional.get_suptitle() and len(drawn(conditional.axes[0])) == having
    assert all(legend[name][0] == colour for name, (colour, _) in named(conditional).items())


def test_durations_have_a_mark_each_and_a_density_only_where_there_are_enough(study):
    figure = duration_plot(study)
    upper, lower = figure.axes
    marks = [line.get_xdata() for line in lower.lines]
    assert upper.get_ylabel() == "density of all trials" and len(upper.lines) == 1 and legible(figure)
    minutes = sorted(trial.duration.total_seconds() / 60 for trial in study.trials)
    np.testing.assert_allclose(sorted(np.concatenate(marks)), minutes, rtol=1e-6)
    assert lower.get_xlabel() == "duration in min" and lower.get_xscale() == "log"
    upper, lower = duration_plot(make_study(n_trials=90)).axes
    assert upper.get_ylabel() == "density of each group"
    assert len(upper.lines) == sum(len(line.get_xdata()) >= 15 for line in lower.lines) > 2


@pytest.mark.parametrize(("n_trials", "labels"), [(1, ["complete (1)"]), (2, ["best 50 % (1)", "worst 50 % (1)"])])
def test_one_and_two_trials_have_no_quarters_but_whole_numbers_and_a_visible_best(n_trials, labels):
    few = make_study(n_trials=n_trials, objective=small)
    (axes,) = duration_plot(few).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == labels and axes.get_xlim()[0] == 0
    figure = line_plot(few)
    assert legible(figure)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert [place for place in axes.get_xticks() if low <= place <= high] == list(range(n_trials))
    assert axes.lines[-1].get_xdata()[-1] > n_trials - 1


def test_six_trials_are_in_halves_with_marks_for_durations_and_scores_beside_the_points():
    few = make_study(n_trials=6)
    assert {*group_labels(Pool.of(few))} == {"best 50 %", "worst 50 %", "pruned"}
    (axes,) = duration_plot(few).axes
    assert sum(len(line.get_xdata()) for line in axes.lines) == 6
    written = {(*text.xy, text.get_text()) for text in scatter_plot(few, "rate", "dropout").axes[0].texts}
    scores = [t.value if t.state == STATE.COMPLETE else t.intermediate_values[0] for t in few.trials]
    assert written == {
        (t.params["rate"], t.params["dropout"], f"{v:.3g}") for t, v in zip(few.trials, scores, strict=True)
    }
    assert scatter_plot(make_study(n_trials=30), "rate", "dropout").axes[0].texts[:] == []


def test_a_category_plot_keeps_the_order_of_choices_and_tells_none_from_no_such_parameter():
    def objective(trial):
        kind = trial.suggest_categorical("kind", ["c", "a", "b"])
        return 0.5 if kind == "a" or trial.suggest_categorical("extra", [None, "x"]) else 0.6

    study = make_study(objective=objective)
    kind, extra = category_plot(study, "kind").axes[0], category_plot(study, "extra").axes[0]
    assert [label.get_text()[0] for label in kind.get_yticklabels()] == ["c", "a", "b"]
    complete = [t.params["extra"] for t in study.trials if "extra" in t.params and t.state == STATE.COMPLETE]
    counts = [complete.count(None), complete.count("x")]
    assert [label.get_text() for label in extra.get_yticklabels()] == [f"None ({counts[0]})", f"x ({counts[1]})"]
    row = [round(y) for x, y, _ in drawn(extra)]
    assert row.count(0) == sum(t.params.get("extra", 0) is None for t in study.trials if t.state != STATE.FAIL)


def test_a_category_plot_has_boxes_over_five_completed_trials_or_more(study):
    boxes = category_plot(study, "depth").axes[0].patches
    counts = pd.Series([t.params["depth"] for t in study.trials if t.state == STATE.COMPLETE]).value_counts()
    assert sum(box.get_path().get_extents().width > 0 for box in boxes) == (counts >= 5).sum() < 4


def test_counts_add_up_for_every_value_also_one_never_tried():
    choices = {"few": (0, 1), "kind": tuple("abcdefgh")}

    def objective(trial):
        trial.suggest_int("few", 0, 1)
        trial.suggest_categorical("kind", choices["kind"])
        return trial.number / 10

    study = make_study(n_trials=6, objective=objective)
    figure = count_plot(study)
    for axes, (name, names) in zip(figure.axes, choices.items(), strict=True):
        counts = dict.fromkeys(range(len(names)), 0)
        for bar in axes.patches:
            counts[round(bar.get_y() + bar.get_height() / 2)] += bar.get_width()
        values = [trial.params[name] for trial in study.trials]
        assert list(counts.values()) == [values.count(choice) for choice in names]
    assert legible(figure)


def test_the_set_of_plots_suits_what_was_searched(study):
    plots = study_plots(study)
    assert pyplot.get_fignums() == []
    kinds = [stem.split("_")[0] for stem in plots]
    assert kinds == ["line", *["scatter"] * 6, *["category"] * 4, "count", "duration"]
    assert legible(plots["category_kind"])


def test_of_many_parameters_the_most_important_are_drawn():
    def objective(trial):
        x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(9)]
        c = [trial.suggest_categorical(f"c{i}", ["a", "b"]) for i in range(9)]
        return -((x[7] - 0.5) ** 2) - 2 * (x[4] - 0.3) ** 2 + (c[8] == "a")

    plots = study_plots([make_study("a", 60, objective, seed=1), make_study("b", 60, objective, seed=2)])
    scatters = [stem for stem in plots if stem.startswith("scatter")]
    categories = [stem for stem in plots if stem.startswith("category")]
    assert len(scatters) == 6 and len(categories) == 6 and categories[0] == "category_c8"
    assert {"x7", "x4"} & set(scatters[0].split("_"))


def test_a_parameter_that_got_trials_pruned_is_important():
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return abs(y - 0.5) / 100 - (abs(x - 0.5) > 0.2)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(60):
        trial = study.ask()
        value = objective(trial)
        trial.report(value, 0)
        study.tell(trial, value if value > -0.5 else None, STATE.COMPLETE if value > -0.5 else STATE.PRUNED)
    assert Pool.of(study).by_importance() == ["x", "y"]


def test_one_continuous_parameter_is_drawn_against_the_score(study):
    plots = study_plots(make_study(objective=lambda trial: trial.suggest_float("rate", 1e-5, 1e-1, log=True)), "AUC")
    assert list(plots) == ["line", "scatter_rate", "duration"]
    assert plots["scatter_rate"].axes[0].get_ylabel() == "AUC" and plots["scatter_rate"].axes[0].get_xscale() == "log"


def small(trial):
    """A parameter of each kind."""
    return trial.suggest_float("x", 0, 1) + (trial.suggest_categorical("kind", ["a", "b"]) == "a")


def constant(trial):
    trial.suggest_float("x", 0.5, 0.5)
    trial.suggest_int("n", 3, 3)
    trial.suggest_categorical("c", ["only"])
    return 0.5


def marked_up(trial):
    choices = [1, True, "1", "", " ", "$x^$", "<b>", 1.5, None]
    return len(str(trial.suggest_categorical("a/b$c$ <i>&\u732b\n", choices)))


def odd(trial):
    """Names and choices that could be taken for markup, paths or something else, and ranges that change."""
    score = marked_up(trial)
    trial.suggest_float("a/b", 0, 1 + trial.number)
    trial.suggest_float("a.b " + "long " * 30, 1e-100, 1e100, log=True)
    trial.suggest_int("score", 0, 10**12)
    trial.suggest_int("study", 0, 3 + trial.number % 3)
    trial.suggest_float("_", -1e-12, 1e-12, step=1e-12)
    return score


def never_started():
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(state=STATE.PRUNED))
    study.add_trial(optuna.create_trial(value=0.5))
    for trial in study.get_trials(deepcopy=False):
        trial.datetime_start = None
    return study


def unfinished():
    study = optuna.create_study(direction="maximize")
    study.ask().suggest_float("x", 0, 1)
    study.enqueue_trial({"x": 0.5})
    return study


DEGENERATE = {
    "no study": list,
    "no trial": lambda: of([]),
    "unfinished": unfinished,
    "one trial": lambda: make_study(n_trials=1, objective=small),
    "only failed": lambda: of([math.nan] * 5),
    "pruned before a fold": lambda: of([None] * 3, dict.fromkeys(range(3), STATE.PRUNED)),
    "not finite": lambda: of([math.inf, -math.inf, 0.5, 0.6]),
    "equal scores": lambda: of([0.5] * 12),
    "huge scores": lambda: of([1e300, -1e300, 0.0] * 4),
    "one value each": lambda: make_study(objective=constant),
    "no durations": never_started,
    "odd names": lambda: make_study(n_trials=8, objective=odd),
    "some without parameters": lambda: [make_study("a", 12, small), make_study("b", 12, lambda _: 0.5), of([])],
    "a name of two kinds": lambda: [
        make_study("a", 12, lambda trial: trial.suggest_float("x", 0, 1)),
        make_study("b", 12, lambda trial: len(trial.suggest_categorical("x", ["one", "three"]))),
    ],
}


ONCE_A_WEEK = ("one value each", "no durations", "equal scores", "some without parameters")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in ONCE_A_WEEK)) for case in DEGENERATE]
)
def test_every_study_gives_clear_plots_without_error_or_warning(case):
    studies = DEGENERATE[case]()
    plots = study_plots(studies)
    pool = Pool.of(studies)
    assert bool(plots) == bool(len(pool.trials))
    every = [*plots.values(), *(draw(studies) for draw in (line_plot, count_plot, duration_plot) if not plots)]
    for name, what in pool.searched.items():
        if not any(name in stem for stem in plots):
            every.append(category_plot(studies, name) if what.values else scatter_plot(studies, name))
    assert all(map(legible, every))


def test_a_wrong_parameter_or_mix_of_studies_is_said_in_one_line(study):
    with pytest.raises(UserError, match=r"nope: expected a continuous one of the search \(rate, width, dropout, mom"):
        scatter_plot(study, "rate", "nope")
    with pytest.raises(UserError, match="parameter rate: expected a discrete one"):
        category_plot(study, "rate")
    with pytest.raises(UserError, match="it has none"):
        count_plot(of([0.5]), ["x"])
    with pytest.raises(ValueError, match="one direction"):
        study_plots([study, of([], direction="minimize")])
    with pytest.raises(ValueError, match="one score"):
        study_plots(optuna.create_study(directions=["maximize", "maximize"]))


def test_the_same_study_gives_the_same_pictures_from_memory_or_database(tmp_path):
    study = make_study(n_trials=8, objective=small)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(storage=url, study_name="study", direction="maximize").add_trials(study.get_trials())
    stored = study_plots(optuna.load_study(storage=url, study_name="study"))
    for stem, plot in study_plots(study).items():
        assert stored[stem].png() == plot.png(), stem


class Page(HTMLParser):
    """What is written of a search: its files, and the tags and texts of its page."""

    def __init__(self, folder, *search):
        super().__init__()
        self.tags, self.texts = [], []
        self.files = {path.name: path.read_bytes() for path in save_study_plots(search[0], folder, *search[1:])}
        self.feed(self.files["index.html"].decode())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_every_plot_is_written_and_a_page_with_all_of_them(tmp_path):
    folds = [make_study(f"0123abcd root {i}", 12, small, seed=i) for i in range(2)]
    page = Page(tmp_path, folds, "dev ROC AUC <of> folds")
    images = {attributes["id"]: attributes for tag, attributes in page.tags if tag == "img"}
    assert list(images) == list(study_plots(folds)) and all(image["alt"] for image in images.values())
    assert page.files.keys() == {"index.html", *(f"{stem}.png" for stem in images)}
    for stem, image in images.items():
        png = page.files[f"{stem}.png"]
        assert image["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
        assert Image.open(BytesIO(png)).width >= 900
    assert not [a for tag, a in page.tags if tag in ("script", "link", "iframe") or "href" in a]
    assert [tag for tag, _ in page.tags].count("tr") == 1 + 2 + 1 + sum(len(study.trials) for study in folds)
    assert {"Search for the highest dev ROC AUC <of> folds", *(f"{f.best_value:.4g}" for f in folds)} <= {*page.texts}


def test_the_page_says_what_is_missing_and_escapes_what_is_strange(tmp_path):
    for studies, said in ((of([]), "No trial has finished."), (of([math.nan] * 2), "No trial completed.")):
        assert said in Page(tmp_path, studies).texts
    page = Page(tmp_path, make_study(objective=marked_up))
    assert "b" not in [tag for tag, _ in page.tags] and "'<b>'" in page.texts and "a/b$c$ <i>&\u732b\n" in page.texts
