"""What a step promises, held against the project's steps or, with ``--step-dir FOLDER``, against yours.

``bash run_script.bash pytest tests/core/test_step_contract.py --step-dir my_step_3`` says which behaviours of that step
hold; ``python -m common.lesson.check my_step_3`` says it in the words of the docstrings below, each with a first hint.
The folder may have any name and lie anywhere; a relative path starts at the project folder. Its train.py says which
step it is (``train_parser(__doc__, step=3)``), or ``--step 3`` does; what comes with a later step is skipped.
The script runs on a few tiny pictures, from a copy of its folder: your runs, data and outputs stay as they are.
How it computes in several processes is not looked at. ``--step-dir`` may be given several times; without it steps 1
and 4 are checked, to save time: test_broken_steps.py holds altered copies of steps 2 and 4 against the same behaviours.
"""

import shutil
from collections import Counter
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from step_promises import KEYS, PARENTS, PREDICTION_COLUMNS, SOURCES, hold, some
from step_runs import Outcome, StepRuns, head_weights, make_state, step_of

from common.evaluation import mean_scores, results_of, youden_threshold
from common.evaluation.predictions import RESULT_COLUMNS
from common.model import load_classifier
from conftest import PROJECT

BY_DEFAULT = ("step_1", "step_4")


def pytest_generate_tests(metafunc):
    if "runs" in metafunc.fixturenames:
        folders = [(PROJECT / name).resolve() for name in metafunc.config.getoption("--step-dir")]
        folders = folders or [PROJECT / name for name in BY_DEFAULT]
        steps = [metafunc.config.getoption("--step") or step_of(folder / "train.py") for folder in folders]
        found = list(zip(folders, steps, strict=True))
        metafunc.parametrize("runs", found, ids=[folder.name for folder in folders], indirect=True, scope="module")


@pytest.fixture(scope="module")
def state(empty_stores, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    shutil.copy(empty_stores / "mlflow.db", state)
    return state, make_state(state)


@pytest.fixture(scope="module")
def runs(request, state, tmp_path_factory):
    folder, step = request.param
    return StepRuns(folder, step, state[0], tmp_path_factory.mktemp("project"))


@pytest.fixture
def step(runs, request):
    """The runs of a step whose `main` works, where the step promises what is tested."""
    if (mark := request.node.get_closest_marker("comes_with")) and runs.step < mark.args[0]:
        pytest.skip(f"step {runs.step} does not promise it: it comes with step {mark.args[0]}")
    if not isinstance(runs.first, Outcome) or not set(runs.first.returned or ()) >= KEYS:
        pytest.skip("main did not return what it should, so there is nothing to look at")
    return runs


@pytest.fixture
def table(state):
    return state[1]


def test_main_takes_arguments_and_returns_the_outcome(runs):
    """`main(argv)` runs to its end and returns the outcome.
    Hint: Read argv with cli.train_parser(__doc__, step=N).parse_args(argv), and return what evaluation.conclude(N, …)
    returns; from step 2 on give it the root run too."""
    if isinstance(runs.first, BaseException):
        raise runs.first
    found = runs.first.returned
    hold(isinstance(found, dict), f"main(argv) returned {found!r}; expected a dict as evaluation.conclude returns it")
    hold(set(found) >= KEYS, f"what main returned lacks {some(KEYS - set(found))}")
    hold(0 <= found["test_roc_auc"] <= 1, f"main returned test_roc_auc {found['test_roc_auc']}")
    hold((found["run_id"] is None) == (runs.step == 1), f"main returned run_id {found['run_id']}")


@pytest.mark.comes_with(2)
def test_same_seed_gives_same_results(step):
    """The same seed gives the same results.
    Hint: All that is random should draw from one stream, Stream(args.seed), and from streams below it, such as
    stream.at("split") and stream.at("model"). What in your script draws from something else?"""
    again, _ = step.second
    first = step.first.predictions
    same = first.equals(again.predictions) and step.first.results.equals(again.results)
    roc_auc = [run.returned["test_roc_auc"] for run in (step.first, again)]
    hold(same, f"two runs with --seed 1 predict differently: test ROC AUC {roc_auc[0]!r} and {roc_auc[1]!r}")


@pytest.mark.comes_with(2)
def test_another_seed_gives_other_results(step):
    """Another seed gives other results.
    Hint: --seed should reach the stream that training draws from. A seed that is typed in the script never changes."""
    first, other = (set(run.predictions.probability) for run in (step.first, step.other_seed))
    same = len(first & other)  # some by chance, where bf16 gives few different numbers
    hold(
        same < len(first) / 2,
        f"{same} predicted probabilities of --seed 1 and --seed 2 are equal: the seed is not used",
    )


@pytest.mark.comes_with(2)
def test_runs_are_nested_by_level(step):
    """The MLflow runs are nested: root, root_split, trial, fold, phase, as far as the step has them.
    Hint: Open each run from the one above it, `with run.root_split(…) as root_run:`, and give root_run, not run, to
    what is inside. Which level did you open from the wrong run, or not at all? training.run_fits is lazy: take its
    results inside the `with`."""
    parents = PARENTS[min(step.step, 4)]
    level = {None: None} | {key: run.data.tags.get("run_level") for key, run in step.first.tree.items()}
    for key, run in step.first.tree.items():
        name, parent = run.info.run_name, level[run.data.tags.get("mlflow.parentRunId")]
        hold(level[key] in parents, f"run {name!r} has run_level {level[key]}; expected one of {', '.join(parents)}")
        hold(parent in parents[level[key]], f"run {name!r} ({level[key]}) lies below a run of level {parent}")
    missing = parents.keys() - level.values()
    hold(not missing, f"there is no run of level {some(missing)}")


@pytest.mark.comes_with(2)
def test_every_run_is_closed_as_finished(step):
    """Every run is closed, as FINISHED.
    Hint: Open each run in a `with` statement: it closes the run, also when an error comes."""
    for run in step.first.tree.values():
        hold(run.info.status == "FINISHED", f"run {run.info.run_name!r} is left {run.info.status}")


@pytest.mark.comes_with(2)
def test_provenance_is_recorded(step, table):
    """The root run says where the results come from: settings, data, packages, code.
    Hint: tracking.start(N, args, n_fits, table, folds, config, compute, stream) records all of it. Does it get the
    table and the settings that are really used?"""
    root = step.first.tree[step.first.returned["run_id"]]
    missing = SOURCES - root.data.params.keys()
    hold(not missing, f"the root run lacks the parameters {some(missing)}: tracking.start records them")
    found = root.data.params["data_fingerprint"]
    hold(found == table.fingerprint, f"data_fingerprint is {found}, but the images' is {table.fingerprint}")
    missing = {"provenance/packages.txt", "provenance/uncommitted.diff"} - step.first.artifacts(root).keys()
    hold(not missing, f"the root run lacks the artifacts {some(missing)}")


@pytest.mark.comes_with(2)
def test_metrics_are_recorded(step):
    """Each phase's run has metrics by epoch, and the root run the mean scores.
    Hint: Give the phase functions phase.log in place of training.print_epoch. Log the mean scores while the root run is
    open: run.log(evaluation.mean_scores(results), 0)."""
    for run in step.first.tree.values():
        found = "dev_roc_auc" in run.data.metrics or run.data.tags.get("run_level") != "phase"
        hold(found, f"run {run.info.run_name!r} has no metric dev_roc_auc")
    found = step.first.tree[step.first.returned["run_id"]].data.metrics
    expected = mean_scores(step.first.results)
    if step.step >= 4:  # of images of one's own, as these are, test scores are sealed
        expected = {name: score for name, score in expected.items() if name.startswith("dev_")}
    missing = expected.keys() - found.keys()
    hold(not missing, f"the root run lacks the metrics {some(missing)}")
    wrong = [name for name in expected if not np.isclose(found[name], expected[name], 0, 1e-12)]
    hold(not wrong, f"the root run's metric {some(wrong)} is not the mean of results.csv")


@pytest.mark.comes_with(2)
def test_tested_networks_are_stored(step):
    """Each tested network is stored as model.safetensors: in the root run, from step 3 on in the run of its inner fold.
    Hint: run.model(network) stores it. Give it the network that was tested, and call it while that run is open."""
    for where, rows, network in step.first.models:
        place = (str(rows.root_split.iloc[0]), str(rows.inner_split.iloc[0])) if step.step > 2 else (None, None)
        file = step.first.stored.get(place)
        hold(file is not None, f"{where}: there is no model.safetensors")
        _, tested = step.first.weights_of(network)
        hold(head_weights(load_classifier(file).head) == tested, f"{where}: model.safetensors is another network")


def test_predictions_table_is_complete(step, table):
    """predictions.csv has a row for each dev and test image of each tested network.
    Hint: Make the table of each network with evaluation.predictions_table, join them with evaluation.join, and store
    that in the root run: run.table(predictions, "predictions.csv")."""
    found = step.first.predictions
    hold(list(found) == PREDICTION_COLUMNS, f"predictions.csv has the columns {', '.join(found)}")
    hold(not found.drop(columns="group").isna().any(axis=None), "predictions.csv has empty cells")
    digest = found.file.map(dict(zip(table.files, table.digests, strict=True)))
    wrong = found.file[(found.digest != digest) | (found.outer_fold != found.root_split)]
    hold(not len(wrong), f"predictions.csv has a wrong digest or outer_fold for {some(set(wrong))}")
    hold(found.probability.between(0, 1).all(), "predictions.csv has probabilities outside 0 to 1")
    label = found.file.map(dict(zip(table.files, table.labels, strict=True)))
    wrong = found.file[(found.label != label) | (found["class"] != label.map(dict(enumerate(table.classes))))]
    hold(not len(wrong), f"predictions.csv has a wrong class or label for {some(set(wrong))}")
    wrong = found.file[found.prediction != (found.probability >= found.threshold)]
    hold(not len(wrong), f"predictions.csv: the prediction of {some(wrong)} is not probability >= threshold")
    hold(len(step.first.models) == (1 if step.step < 3 else 4), f"predictions.csv has {len(step.first.models)} models")
    for where, rows, network in step.first.models:
        hold(set(rows.part) == {"dev", "test"}, f"{where}: predictions.csv has the parts {some(set(rows.part))} only")
        hold(rows.file.is_unique, f"{where}: predictions.csv has {some(rows.file[rows.file.duplicated()])} twice")
        missing = step.first.files_of(network, "dev") ^ set(rows.file[rows.part == "dev"])
        hold(not missing, f"{where}: predictions.csv has other dev images than training stopped on: {some(missing)}")


def test_threshold_is_fitted_on_dev_only(step):
    """The threshold is chosen on the dev images alone.
    Hint: evaluation.youden_threshold should get labels and probabilities of fold.dev. Which rows does it get?"""
    for where, rows, _ in step.first.models:
        hold(rows.threshold.nunique() == 1, f"{where}: predictions.csv has several thresholds")
        found, dev = rows.threshold.iloc[0], rows[rows.part == "dev"]
        if found == youden_threshold(dev.label, dev.probability):
            continue  # another rule is told by whether probabilities of other images change what it gives
        root_split, inner_split = rows.root_split.iloc[0], rows.inner_split.iloc[0]
        if not step.first.predictions.equals(step.second[0].predictions):
            pytest.skip(
                f"{where}: the threshold is not Youden's of dev, and changes from run to run with the seed kept"
            )
        halved = step.halved.predictions
        now = halved.threshold[(halved.root_split == root_split) & (halved.inner_split == inner_split)].iloc[0]
        hold(
            now == found,
            f"{where}: with the probabilities of all but the dev images halved, the threshold went from {found:.3f} to "
            f"{now:.3f}; fitted on the dev images it would stay",
        )


def test_test_images_are_never_trained_on(step):
    """No network learns from a test image, or stops training by one.
    Hint: Training should get the fold as it is: it learns from fold.train and stops by fold.dev. Which rows does it
    get?"""
    for where, rows, network in step.first.models:
        test = set(rows.file[rows.part == "test"])
        for use, what in (("train", "trained on"), ("dev", "used to stop training")):
            shared = step.first.files_of(network, use) & test
            hold(not shared, f"{where}: {len(shared)} of {len(test)} test images were {what}: {some(shared)}")


def test_groups_stay_whole(step, table):
    """All images of one group (one animal) are in one part: train, dev or test.
    Hint: data.random_fold and the splits file keep the groups of the table that they get together. Is it the table that
    data.load_images returned?"""
    groups = dict(zip(table.files, table.groups, strict=True))
    for where, rows, network in step.first.models:
        parts = {"train": step.first.files_of(network, "train")}
        parts |= {part: set(rows.file[rows.part == part]) for part in ("dev", "test")}
        for a, b in combinations(parts, 2):
            torn = {groups[f] for f in parts[a] - parts[b]} & {groups[f] for f in parts[b] - parts[a]}
            hold(not torn, f"{where}: images of one group (one animal) are in {a} and in {b}: {some(torn)}")


def test_every_test_image_is_predicted_once_by_each_model(step):
    """Each tested network predicts each test image once.
    Hint: Call training.test_model for fold.test once per tested network: not in a loop over epochs, nor for other
    folds."""
    for where, rows, network in step.first.models:
        read = Counter(
            f for r in step.first.after_search if r.use == "predict" and r.network is network for f in r.files
        )
        wrong = {f: read[f] for f in rows.file[rows.part == "test"] if read[f] != 1}
        hold(not wrong, f"{where}: {some(wrong)} of the test set was predicted {max(wrong.values(), default=0)} times")


@pytest.mark.comes_with(2)
def test_a_second_run_leaves_what_the_first_left(step):
    """A second run leaves what the first one left.
    Hint: A file with a fixed name is written over by the next run. Give each file to its run: run.table, run.file,
    run.text."""
    _, changed = step.second
    hold(not changed, f"a second run wrote over or removed {some(changed)}")


@pytest.mark.comes_with(3)
def test_results_have_a_row_per_fold_and_follow_from_the_predictions(step, table):
    """results.csv has a row per fold, and follows from predictions.csv.
    Hint: evaluation.results_of gets the joined predictions and a list of all inner folds of all outer folds; store what
    it returns in the root run: run.table(results, "results.csv")."""
    found = step.first.results
    hold(list(found) == list(RESULT_COLUMNS), f"results.csv has the columns {', '.join(found)}")
    folds = list(zip(found.root_split, found.inner_split, strict=True))
    hold(folds == [(0, 0), (0, 1), (1, 0), (1, 1)], f"results.csv has the rows (root_split, inner_split) {folds}")
    models = zip(folds, step.first.models, strict=True)
    fitted = [
        SimpleNamespace(root_split=r, inner_split=i, train=step.first.files_of(m[2], "train"), root_splits=splits)
        for ((r, i), m), splits in zip(models, found.root_splits, strict=True)
    ]
    expected = results_of(step.first.predictions, fitted)
    wrong = [name for name in found if not np.allclose(found[name], expected[name], 0, 1e-12, equal_nan=True)]
    hold(not wrong, f"results.csv: {some(wrong)} does not follow from predictions.csv and the images trained on")


@pytest.mark.comes_with(3)
def test_each_fit_has_random_numbers_of_its_own(step):
    """Each fit has random numbers of its own.
    Hint: A fit draws from the stream of its place: stream.at(f"root {root_split}") for the outer fold, and below it
    .at(f"inner {inner_split}"). Which of the two is missing? Does the new model draw from there too?"""
    for (one, _, a), (other, _, b) in combinations(step.first.models, 2):
        shared = step.first.streams_of(a) & step.first.streams_of(b)
        hold(not shared, f"{one}, and {other}: both are trained with the random numbers of {some(shared)}")
        begun = step.first.weights_of(a)[0]
        alike = begun and begun == step.first.weights_of(b)[0]
        hold(not alike, f"{one}, and {other}: both heads begin with the same weights")


@pytest.mark.comes_with(4)
def test_the_test_fold_is_not_read_during_search(step):
    """No test image is read before the search of its outer fold has ended.
    Hint: A trial may look at train and dev images only. Test the best trial's networks after search.optimize has
    returned."""
    test = step.first.predictions[step.first.predictions.part == "test"].groupby("root_split").file.agg(set)
    hold(set(step.first.searches) == set(test.index), "there is no run of level trial below each root split's run")
    for root_split, (start, end) in step.first.searches.items():
        read = [r for r in step.first.readings if r.use != "train" and start <= r.time < end]
        early = [file for r in read for file in r.files if file in test[root_split]]
        hold(
            not early, f"root split {root_split}: before its last trial ended, test images were read {len(early)} times"
        )
