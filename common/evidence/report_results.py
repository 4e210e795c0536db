"""The sections of a report about what came out: scores with intervals, calibration, subgroups, comparison, seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd

from common import plots, tracking
from common.cli import UserError, escaped
from common.evaluation.delong import auc_interval
from common.evaluation.pairwise import Compared, on_shared_folds, pairs_of
from common.evaluation.predictions import classes_of
from common.evaluation.results_text import SCORES_SHOWN, retrained
from common.evaluation.scored import Score, more_test_scores
from common.evaluation.spread import Repeat, spread_of
from common.evaluation.statistics import Difference, Interval
from common.evaluation.subgroups import LEAST_UNITS, subgroup_scores
from common.evaluation.tested import tested_folds, units_called
from common.evidence.statements import (
    RECORD,
    Block,
    Cell,
    Evidence,
    Headed,
    Lack,
    Rows,
    Said,
    Shown,
    Source,
    Sources,
    Table,
    Unsayable,
    number,
    sentence,
    told,
)
from common.tracking.identity import differences

BOTH = ("predictions.csv", "results.csv")
CALIBRATION = ("brier", "log_loss", "calibration_slope", "calibration_intercept", "ece")
PAIRED = {"models": "these models, new patients", "procedures": "the procedures, retrained"}


def results(evidence: Evidence) -> Iterator[Block]:
    """The test scores by outer fold, and what they say of these models and of the procedure."""
    lacking = set()
    for part in (_by_fold, _auc, _tested):
        for block in told(partial(part, evidence)):
            if isinstance(block, Lack):
                if block in lacking:
                    continue
                lacking.add(block)
            yield block


def _by_fold(evidence: Evidence) -> Iterator[Block]:
    table, source = evidence.table("results.csv"), evidence.sources("results.csv")
    by_fold = table.groupby("root_split")[list(SCORES_SHOWN)].mean()
    sizes = table.groupby("root_split").agg(models=("inner_split", "size"), n_test=("n_test", "first"))
    rows: list[list[str | Cell]] = [
        [Cell(str(fold), int(fold)), *(number(size, ".0f") for size in sizes.loc[fold]), *map(number, scores)]
        for fold, scores in by_fold.iterrows()
    ]
    rows.append(["mean", "", "", *map(number, by_fold.mean())])
    heads = ["outer fold", "models", "test images", *SCORES_SHOWN.values()]
    yield Rows("Test scores, means over the models of each outer fold", heads, rows, source)
    if again := retrained(table):
        template = "The procedure, trained again on other data of this size: 95 % interval {low:.3f} to {high:.3f} "
        template += "(corrected resampled t, {folds} outer folds)."
        yield sentence(template, source, low=again[0], high=again[1], folds=len(by_fold))


def _auc(evidence: Evidence) -> Iterator[Block]:
    predictions, source = evidence.table("predictions.csv"), evidence.sources("predictions.csv")
    found = auc_interval(tested_folds(predictions))
    if found.missing:
        template = "The test ROC AUC is {auc:.3f}; it has no interval ({why})."
        yield sentence(template, source, auc=found.value, why=found.missing)
    else:
        template = "The test ROC AUC is {auc:.3f}, {rough}95 % interval {low:.3f} to {high:.3f}, for these models and "
        template += "new {units}."
        rough, units = "approximate " if found.approximate else "", units_called(predictions)
        yield sentence(template, source, auc=found.value, rough=rough, low=found.low, high=found.high, units=units)
    yield Shown("ROC curve of the test predictions", plots.roc_plot(predictions, classes_of(predictions)).png(), source)


def _tested(evidence: Evidence) -> Iterator[Block]:
    predictions, table = (evidence.table(name) for name in BOTH)
    yield Shown("Test scores by outer fold", plots.fold_plot(predictions, table).png(), evidence.sources(*BOTH))
    tested = predictions.loc[predictions["part"] == "test", "file"].nunique()
    every = int(table[["n_train", "n_dev", "n_test"]].iloc[0].sum())
    yield sentence("{tested} of {every} images were tested.", evidence.sources(*BOTH), tested=tested, every=every)


def operating(evidence: Evidence, prevalence: float | None) -> Iterator[Block]:
    """Scores at the thresholds that the dev sets gave, and what decisions would be worth."""
    predictions, source = evidence.table("predictions.csv"), evidence.sources("predictions.csv")
    scores = {name: one for name, one in _scores(evidence, prevalence).items() if name not in CALIBRATION}
    yield _score_rows("Test scores with their 95 % intervals", scores, source)
    units = units_called(predictions)
    yield Said(f"The ROC AUC has DeLong's interval, the other scores a bootstrap of {units} within outer folds.")
    classes = classes_of(predictions)
    yield Shown("Confusion of the test predictions", plots.confusion_plot(predictions, classes).png(), source)
    if len(classes) == 2:
        yield Shown("Decision curve", plots.decision_plot(predictions, classes).png(), source)
    if prevalence is None:
        yield Said("Predictive values need the share of the class where the model is to be used: --prevalence.")


def calibration(evidence: Evidence) -> Iterator[Block]:
    """How often what was predicted with a probability came true."""
    predictions, source = evidence.table("predictions.csv"), evidence.sources("predictions.csv")
    scores = {name: one for name, one in _scores(evidence, None).items() if name in CALIBRATION}
    yield _score_rows("Scores of the predicted probabilities", scores, source)
    drawn = plots.calibration_plot(predictions, classes_of(predictions))
    yield Shown("Calibration of the test predictions", drawn.png(), source)


@cache
def _scores(evidence: Evidence, prevalence: float | None) -> dict[str, Score]:
    return more_test_scores(evidence.table("predictions.csv"), prevalence)


def _score_rows(caption: str, scores: Mapping[str, Score], source: Sources) -> Rows:
    rows = [[title, number(interval.value), *_limits(interval), note] for title, interval, note in scores.values()]
    return Rows(caption, ["score", "value", "from", "to", "note"], rows, source)


def _limits(found: Interval, form: str = ".3f") -> list[str | Cell]:
    if found.missing:
        return [found.missing, ""]
    return [number(found.low, form), number(found.high, form)]


def subgroups(evidence: Evidence, column: str | None, info: Path | None) -> Iterator[Block]:
    """Scores of the images of each value of a column."""
    if column is None:
        yield Said("No subgroups were asked for: --subgroups COLUMN.")
        return
    predictions, given = evidence.table("predictions.csv"), tracking.data_of(evidence.run)
    found = subgroup_scores(predictions, column, info, given)
    tables = [info] if info else [path for glob in ("info.csv", "*/info.csv") for path in Path(str(given)).glob(glob)]
    in_tags = repr([(one.value, one.n_images) for one in found]).encode()
    content = b"".join(path.read_bytes() for path in sorted(tables)) if tables else in_tags
    of_data = f"{tables[0].name if tables else f'tag {column}'} of the data"
    source = (
        *evidence.sources("predictions.csv"),
        Source(evidence.run.run_id, of_data, hashlib.sha256(content).hexdigest()),
    )
    names, rows = ("roc_auc", "sensitivity", "specificity"), []
    for one in found:
        few = f"fewer than {LEAST_UNITS} {units_called(predictions)} of a class"
        scores = [_in_brackets(one.scores[name]) if name in one.scores else "" for name in names]
        scores = scores if any(scores) else [few, "", ""]
        rows.append([one.value, Cell(str(one.n_images), one.n_images), ", ".join(map(str, one.n_units)), *scores])
    heads = [column, "images", f"{units_called(predictions)} of each class", "ROC AUC", "sensitivity", "specificity"]
    yield Rows(f"Test scores by {column}, with 95 % intervals", [*map(escaped, heads)], rows, source)
    yield Shown(f"Test ROC AUC by {column}", plots.subgroup_plot(found, column).png(), source)


def _in_brackets(found: Interval) -> Cell:
    limits = "" if found.missing else f" [{found.low:.3f}, {found.high:.3f}]"
    return Cell(f"{found.value:.3f}{limits}", found.value)


def comparison(every: Sequence[Evidence]) -> Iterator[Block]:
    """How runs differ on the images that all of them tested."""
    if len(every) < 2:
        yield Said("One run is reported, so nothing is compared.")
        return
    try:
        runs, are_all = on_shared_folds([_compared(one) for one in every])
    except UserError as error:
        raise Unsayable(str(error)) from error
    sources = tuple(source for one in every for source in one.sources(*BOTH))
    template = "{runs} runs were tested on the same images, in {folds} outer folds{all}."
    rest = "" if are_all else " that all of them have"
    yield sentence(template, sources, runs=len(runs), folds=len(runs[0].folds), all=rest)
    rows = []
    pairs = pairs_of(runs)
    for pair in pairs:
        for kind, title in PAIRED.items():
            found: Difference | None = getattr(pair, kind)
            if found is not None:
                shown = [number(found.value, "+z.3f"), *_limits(found, "+z.3f"), number(found.p)]
                rows.append([" - ".join(pair.titles), title, *shown])
    heads = ["runs", "question", "difference in ROC AUC", "from", "to", "p"]
    how = "DeLong, paired; corrected resampled t" + ("; p adjusted by Holm" if len(pairs) > 1 else "")
    yield Rows(f"Differences with their 95 % intervals ({how})", heads, rows, sources)
    yield Shown("Differences in test ROC AUC", plots.difference_plot(pairs).png(), sources)


def _compared(evidence: Evidence) -> Compared:
    used = [(given.dataset.name, given.dataset.digest) for given in evidence.about.inputs.dataset_inputs] or [("", "")]
    tables = evidence.table("predictions.csv"), evidence.table("results.csv")
    name = escaped(evidence.about.info.run_name or "")
    return Compared(evidence.run.run_id, evidence.title, name, *used[0], *tables)


def seeds(first: Evidence, others: Sequence[Evidence]) -> Iterator[Block]:
    """How much another root seed moves the ROC AUC, from runs that differ in nothing else."""
    if not others:
        yield Said("No runs from other root seeds were named: --repeats RUN.")
        return
    repeats = [_repeat(one) for one in (first, *others)]
    if len({tuple(one.scores.index) for one in repeats}) > 1:
        raise Unsayable("the runs from other root seeds have other outer folds")
    values = [one.scores["test_roc_auc"].to_numpy() for one in repeats]
    spread = spread_of(pd.DataFrame(values).to_numpy())
    sources = tuple(source for one in (first, *others) for source in one.sources("results.csv", RECORD))
    rows: Table = [
        [Cell(str(one.seed), one.seed), one.run_id, number(one.scores["test_roc_auc"].mean())] for one in repeats
    ]
    yield Rows("Runs from other root seeds, on the same splits", ["seed", "run", "test ROC AUC"], rows, sources)
    template = "Between {n} seeds the mean test ROC AUC has a standard deviation of {sd:.3f}, that of one fold "
    template += "{one:.3f}."
    yield sentence(template, sources, n=len(repeats), sd=spread.seeds_of_mean, one=spread.seeds)
    yield Shown("Test ROC AUC by root seed", plots.repeats_plot(repeats, [], spread).png(), sources)


def _repeat(evidence: Evidence) -> Repeat:
    scores = evidence.table("results.csv").groupby("root_split")[list(SCORES_SHOWN)].mean()
    return Repeat(int(evidence.record.get("seed", -1)), False, evidence.run.run_id, scores)


def check_repeats(first: Evidence, others: Sequence[Evidence]) -> None:
    """Raise a UserError if a run differs from the first in more than its root seed."""
    for one in others:
        differs = differences(one.identity, first.identity)
        if rest := [part for part in differs if not part.startswith("--seed ")]:
            raise UserError(
                f"--repeats {one.run.run_id}: differs from run {first.run.run_id} in {', '.join(rest)}; "
                "expected another --seed alone"
            )


def of_each(every: Sequence[Evidence], blocks: Callable[[Evidence], list[Block]]) -> list[Block]:
    """The blocks of each run, below its name where there are several."""
    if len(every) == 1:
        return blocks(every[0])
    return [block for one in every for block in (Headed(f"Run {one.title}"), *blocks(one))]
