"""Lessons 1 and 2: right answers are taken in any form, and a wrong one is told which misconception it shows."""

from itertools import count, repeat

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_curve
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, StratifiedGroupKFold, StratifiedKFold

from common.lesson import answer
from common.lesson.exercises_2 import _ANIMALS
from common.seeds import Stream

SETS = {"fit the weights": "train", "stop early": "dev", "choose the threshold": "dev", "report the score": "test"}
WEIGHTS = np.float32([0.5, 1]).tobytes()


def torn(groups, learn, test):
    return set(groups[learn]) & set(groups[test])


def choose_threshold(labels, probabilities):
    false_positive_rate, sensitivity, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    return thresholds[np.argmax(sensitivity - false_positive_rate)]


def best_by(score, rule=np.greater_equal):
    return lambda labels, p: max(np.unique(p), key=lambda t: score(labels, rule(p, t)))


def experiment_like(
    numbers=None, score=lambda seed: np.random.default_rng(seed).random(), note=None, returned=None, weights=WEIGHTS
):
    """An experiment that writes its settings and weights, in a folder per number."""
    numbers = count() if numbers is None else numbers
    note = note or "learning_rate=0.001, seed={seed}, score={score}"

    def experiment(seed, folder):
        number = next(numbers)
        found = score(seed)
        if number is not None:
            (folder / f"r{number}").mkdir(exist_ok=True)
            (folder / f"r{number}" / "settings.txt").write_text(note.format(seed=seed, score=found))
            (folder / f"r{number}" / "weights").write_bytes(weights)
        return found if returned is None else returned(found)

    return experiment


def files_named_as_settings(seed, folder, runs=count()):  # noqa: B008
    own, score = folder / f"run {next(runs)}", np.random.default_rng(seed).random()
    own.mkdir()
    (own / "weights").write_bytes(WEIGHTS)
    for name, value in (("seed", seed), ("learning_rate", 0.001), ("score", score)):
        (own / name).write_text(str(value))
    return score


def all_in_one_file(seed, folder):
    with open(folder / "log.txt", "a") as file:
        file.write(f"seed={seed} learning_rate=0.001 score={np.random.default_rng(seed).random()}\n")
    return np.random.default_rng(seed).random()


def shuffle(stream, epoch, n):
    return stream.at(f"epoch {epoch}").numpy().permutation(n)


def of_one_order(change):
    return lambda stream, epoch, n: change(stream.numpy().permutation(n), epoch)


def in_one_go(stream, epoch, n, generators={}):  # noqa: B006
    return generators.setdefault(id(stream), stream.numpy()).permutation(n)


def folds_with(splitter, seeded=True, **options):
    def folds(table, k, stream):
        seed = {"shuffle": True, "random_state": stream.integer() if seeded else 0} if seeded is not None else {}
        return splitter(k, **seed, **options).split(table.labels, table.labels, table.groups)

    return folds


right_folds = folds_with(StratifiedGroupKFold)


def changed(change):
    return lambda table, k, stream: [change(rest, test) for rest, test in right_folds(table, k, stream)]


FINISHED = "attributes.status = 'FINISHED'"
RIGHT = {
    "1.1": [
        SETS,
        {k.upper(): v.title() for k, v in SETS.items()},
        list(SETS.items()),
        SETS | {"stop early": "val set"},
        str(SETS),
    ],
    "1.2": [
        torn,
        lambda g, a, b: sorted(torn(g, a, b)),
        lambda g, a, b: np.array(list(torn(g, a, b))),
        lambda g, a, b: [n for n in g[b] if n in g[a]],  # some come twice
    ],
    "1.3": [
        choose_threshold,
        lambda labels, p: np.array(choose_threshold(labels, p)),
        lambda labels, p: torch.tensor(choose_threshold(labels, p)),
        lambda labels, p: torch.tensor([choose_threshold(labels, p)], requires_grad=True),
        lambda labels, p: torch.tensor(choose_threshold(labels, p), dtype=torch.float32),  # rounded up, too
        lambda labels, p: str(float(choose_threshold(labels, p))),
    ],
    "1.4": [{"A", "C", "E", "G", "J"}, "ACEGJ", "a, c, e, g, j", "{'A', 'C', 'E', 'G', 'J'}", np.array(list("ACEGJ"))],
    "1.5": [
        experiment_like(),
        experiment_like(note="seed,learning_rate,score\n{seed},0.001,{score:.4f}"),
        experiment_like(note='{{"seed": {seed}, "learning_rate": 1e-3, "roc_auc": {score}}}', returned=torch.tensor),
        files_named_as_settings,
    ],
    "2.1": [
        f"params.seed = '1' and tags.run_level = 'root' and {FINISHED}",
        f"params.seed = '1' AND {FINISHED}",
        "params.seed = \"1\" and status = 'FINISHED'",
    ],
    "2.2": [
        shuffle,
        lambda *args: shuffle(*args).tolist(),
        lambda *args: torch.tensor(shuffle(*args)),
        lambda stream, epoch, n: torch.randperm(n, generator=stream.at(str(epoch)).torch()),
    ],
    "2.3": [797, 797.0, "797", np.int64(797), np.array(796.875), torch.tensor(797), 796, 800],
    "2.4": [
        right_folds,
        lambda *args: list(right_folds(*args)),
        changed(lambda rest, test: [rest.tolist(), test.tolist()]),
        changed(lambda rest, test: (torch.tensor(rest), torch.tensor(test))),
    ],
}


def but(decision, name):
    return SETS | {decision: name}


WRONG = {
    "1.1": [
        (but("fit the weights", "dev"), "begin to overfit"),
        (but("fit the weights", "test"), "memory"),
        (but("stop early", "train"), "goes on falling"),
        (but("stop early", "test"), "too high"),
        (but("choose the threshold", "training set"), "too sure"),
        (but("choose the threshold", "test"), "optimistic"),
        (but("report the score", "train"), "known by heart"),
        (but("report the score", "Dev"), "chosen the epoch and the threshold"),
        (but("report the score", "all"), "none of the three sets"),
        ("train", "keys"),
        ({"stop early": "dev"}, "keys"),
    ],
    "1.2": [
        (lambda g, a, b: set(g), "all groups"),
        (lambda g, a, b: set(g[a]) | set(g[b]), "either side"),
        (lambda g, a, b: set(g[a]) ^ set(g[b]), "one side alone"),
        (lambda g, a, b: set(g[a]), "learned from"),
        (lambda g, a, b: set(g[b]), "tested"),
        (lambda g, a, b: set(a) & set(b), "never on both sides"),
        (lambda g, a, b: {i for i in a if g[i] in g[b]} | {i for i in b if g[i] in g[a]}, "row numbers"),
        (lambda g, a, b: {n for n in g if list(g).count(n) > 1}, "on two sides"),
        (lambda g, a, b: len(torn(g, a, b)), "expected a set"),
        (lambda g, a, b: bool(torn(g, a, b)), "expected a set"),
        (lambda g, a, b: print(end=""), "returns nothing"),
        (torn(np.array(["a", "a"]), [0], [1]), "without calling it"),
        (lambda g, a: set(), "raises TypeError"),
    ],
    "1.3": [
        (lambda labels, p: 0.5, "0.5 whatever the data"),
        (lambda labels, p: p.mean(), "mean probability"),
        (lambda labels, p: np.median(p), "median"),
        (lambda labels, p: labels.mean() if len(p) > 40 else choose_threshold(labels, p), "share of class 1"),
        (lambda labels, p: 0.0, "class 1 for every photo"),
        (lambda labels, p: 1.0, "class 0 for every photo"),
        (lambda labels, p: int(np.argmax(p)) + 2, "a place in a list"),
        (lambda labels, p: max(balanced_accuracy_score(labels, p >= t) for t in p), "balanced accuracy itself"),
        (best_by(balanced_accuracy_score, np.greater), "With >"),
        (best_by(accuracy_score), "plain accuracy"),
        (lambda labels, p: p, "one number"),
        (0.5, "without calling it"),
    ],
    "1.4": [
        ({"A", "B", "C"}, "random_fold"),
        ({"D"}, "if not this one"),
        ("F", "validate_one_epoch"),
        (["A", "H"], "the photo as it is"),
        ({"I"}, "does harm"),
        ({"C", "E", "G", "J"}, "twice without flags"),
        ("ACGJ", "other test photos"),
        ({"A", "E", "G", "J"}, "next month"),
        ({"A", "Z"}, "Z is not among"),
        (5, "Expected letters"),
        (set(), "there are more"),
    ],
    "1.5": [
        (experiment_like(numbers=repeat(0)), "no file of its own"),
        (all_in_one_file, "changes what an earlier one wrote"),
        (experiment_like(score=lambda seed: np.random.default_rng().random()), "two different scores"),
        (experiment_like(score=lambda seed: 0.5), "does the seed reach"),
        (experiment_like(numbers=repeat(None)), "Nothing is written"),
        (experiment_like(note="learning_rate and seed and a score"), "the name and its value"),
        (experiment_like(note="seed=0 learning_rate=0.001 {score}"), "say seed 0"),
        (experiment_like(note="seed={seed} {score}"), "with which learning_rate"),
        (experiment_like(note="seed={seed} learning_rate=0.001"), "not what it found"),
        (experiment_like(weights=b"0.1 0.2"), "keeps no weights"),
        (experiment_like(returned=lambda score: 100 * score), "from 0 to 1"),
        (experiment_like(returned=lambda score: print(end="")), "returns nothing"),
        (lambda seed: 0.9, "raises TypeError"),
    ],
    "2.1": [
        ("params.seed = '1'", "has not finished"),
        (f"tags.run_level = 'root' and {FINISHED}", "seed 1 alone"),
        (FINISHED, "below a root run"),
        (f"params.seed = '0' and {FINISHED}", "which parameter holds the seed"),
        (f"params.seed LIKE '1%' and {FINISHED}", "what begins with 1"),
        ("params.seed = '1' and status != 'FAILED'", "has not finished"),
        ("params.seed = '1' and status != 'RUNNING'", "has not finished"),
        ("params.seed = '1' and tags.run_level = 'root'", "has not finished"),
        (f"params.seed = 1 and {FINISHED}", "does not understand"),
        ("seed is 1", "does not understand"),
        ("params.seed = '7'", "finds no run"),
        (f"params.seed = '1' and {FINISHED} and attributes.run_name = 'one'", "misses"),
        (f"params.seed = '1' and {FINISHED} and params.data = 'drawn'", "certain data"),
        (1, "as a text"),
        (" ", "finds every run"),
    ],
    "2.2": [
        (lambda stream, epoch, n: stream.numpy().permutation(n), "is the epoch in the name"),
        (of_one_order(np.roll), "only moved"),
        (of_one_order(lambda order, epoch: order[:: (-1) ** epoch]), "only moved"),
        (of_one_order(lambda order, epoch: (order + epoch) % len(order)), "only moved"),
        (lambda stream, epoch, n: np.roll(shuffle(Stream(0), epoch, n), stream.root_seed), "Root seeds 0 and 1"),
        (in_one_go, "must not depend"),
        (lambda stream, epoch, n: shuffle(Stream(0), epoch, n), "Root seeds 0 and 1"),
        (lambda stream, epoch, n: stream.at(str(epoch)).numpy().integers(n, size=n), "drawing is not shuffling"),
        (lambda stream, epoch, n: np.random.permutation(n), "something else than the stream"),
        (lambda stream, epoch, n: range(n), "not random"),
        (lambda stream, epoch, n: list(range(n))[::-1], "not random"),
        (lambda stream, epoch, n: shuffle(stream, epoch, n) + 1, "1 to n"),
        (lambda stream, epoch, n: shuffle(stream, epoch, n - 1), "each of the rows"),
        (lambda stream, epoch, n: np.random.shuffle(np.arange(n)), "returns nothing"),
        (lambda stream, epoch, n: stream.at(str(epoch)), "expected the rows"),
        (shuffle(Stream(0), 1, 20), "without calling it"),
    ],
    "2.3": [
        (1275, "independent photos"),
        (3187.5, "how many animals"),
        (319, "for independent"),
        (510, "not fewer"),
        (956, "m - 1 of them"),
        (36, "square"),
        (8500, "p (1 - p)"),
        (7225, "p (1 - p)"),
        (3061, "half-width"),
        (2.5, "design effect itself"),
        (100, "standard error is 0.0282"),
        (0, "above 0"),
        ("many", "one number"),
        (True, "one number"),
    ],
    "2.4": [
        (folds_with(StratifiedKFold), "both sides"),
        (folds_with(KFold), "both sides"),
        (folds_with(GroupKFold, seeded=True), "stratified"),
        (folds_with(StratifiedGroupKFold, seeded=False), "where is the stream used"),
        (folds_with(GroupShuffleSplit, seeded=None, test_size=0.2, random_state=0), "Random splits do that"),
        (lambda table, k, stream: list(right_folds(table, k, stream))[1:], "yields"),
        (changed(lambda rest, test: (test, rest)), "swapped"),
        (changed(lambda rest, test: test), "a pair of arrays"),
        (changed(lambda rest, test: (rest[1:], test)), "not all the rows"),
        (changed(lambda rest, test: (np.isin(np.arange(120), rest), np.isin(np.arange(120), test))), "rows themselves"),
        (lambda table, k, stream: right_folds(table, k, Stream.unseeded()), "something else than the stream"),
        (lambda table, k, stream: None, "returns nothing"),
        (lambda table, k: [], "raises TypeError"),
    ],
}


def test_a_hint_does_not_tell_the_answer(capsys):
    for decision, right in SETS.items():
        for wrong in {"train", "dev", "test"} - {right}:
            answer("1.1", but(decision, wrong))
            assert right not in capsys.readouterr().out.split(decision)[-1].split()
    for left_out in "ACEGJ":
        answer("1.4", set("ACEGJ") - {left_out})
        assert f" {left_out} " not in capsys.readouterr().out


def test_the_number_of_animals_gives_the_standard_error_that_is_asked_for():
    rng = np.random.default_rng(0)
    shape, p, correlation = (1000, round(_ANIMALS), 4), 0.85, 0.5
    of_animal, of_photo = rng.random((*shape[:2], 1)) < p, rng.random(shape) < p
    right = np.where(
        rng.random(shape) < correlation**0.5, of_animal, of_photo
    )  # two photos share it with their product
    assert right.mean(axis=(1, 2)).std() == pytest.approx(0.01, rel=0.07)
