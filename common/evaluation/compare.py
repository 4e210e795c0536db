"""Compares finished runs on the images that all of them tested: differences in ROC AUC, their intervals, p values.

``python -m common.evaluation.compare RUN RUN [RUN ...] [--rope 0.01] [--json]``

RUN is the id of a finished root run of steps 2 to 5. Two questions are told apart. *These models, new patients*: how
the models as they are differ on other images of this kind, by DeLong's paired test. *The procedures, retrained*: how
training, selection and search differ on other learning data too, which needs several outer folds.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from common import cli, tracking
from common.cli import UserError, escaped
from common.evaluation.delong import auc_interval
from common.evaluation.pairwise import Compared, Pair, on_shared_folds, pairs_of
from common.evaluation.results_text import has_many_classes
from common.evaluation.statistics import LEAST_FOLDS, Difference, Interval
from common.evaluation.tested import has_groups
from common.state import state_folder


def compare_models(args: argparse.Namespace, outcomes: Sequence[tuple[str, dict[str, object]]]) -> None:
    """Compare the runs of several models, as this module's command does; of one nothing is printed.

    Parameters
    ----------
    args : argparse.Namespace
        With ``--json`` the last line is that of the last model again.
    outcomes : sequence of (name, what :func:`conclude` returned)
        Models of one name are numbered; of repeats the first is compared.
    """
    if len(outcomes) < 2:
        return
    if tracking.why_shown(args) is None:
        print("test folds: sealed; python -m common.evaluation.compare RUN RUN compares runs and puts it on the record")
        return
    names, seen = Counter(name for name, _ in outcomes), Counter[str]()
    titles = {}
    for name, outcome in outcomes:
        seen[name] += 1
        titles[str(outcome["run_id"])] = name if names[name] == 1 else f"{name} {seen[name]}"
    compare_runs(titles)
    if args.json:
        print(json.dumps(outcomes[-1][1]))


def compare_runs(titles: Mapping[str, str], rope: float | None = None) -> dict[str, object]:
    """Print how runs compare, and draw it.

    Parameters
    ----------
    titles : mapping from run id to str
        What each run is called.
    rope : float, optional
        Differences of less than this are practically none, see :func:`bayesian_correlated_ttest`.

    Returns
    -------
    dict
        What ``--json`` prints.

    Raises
    ------
    UserError
        When a run is not finished or lacks its predictions, or they were not tested on the same images.
    """
    read = [_read(run_id, title) for run_id, title in titles.items()]
    whole = [(run, run.predictions) for run in read]
    runs, are_all = on_shared_folds(read)
    pairs = pairs_of(runs, rope)
    said = dict.fromkeys(tracking.show_scores(tracking.find_root(one.run_id), of, "compare") for one, of in whole)
    print("\n".join([*_lines(runs, pairs, are_all, rope), *filter(None, said)]))
    path = draw_runs("compare", "difference_plot", [run.run_id for run in runs], pairs)
    print(f"plot: {path}")
    return _as_json(runs, pairs, path)


def _read(run_id: str, title: str) -> Compared:
    run = tracking.find_root(run_id)
    found = run.client.get_run(run_id)
    used = [(given.dataset.name, given.dataset.digest) for given in found.inputs.dataset_inputs] or [("", "")]
    return Compared(run_id, title, escaped(found.info.run_name or ""), *used[0], *run.read_results())


def _lines(runs: Sequence[Compared], pairs: Sequence[Pair], are_all: bool, rope: float | None) -> list[str]:
    tested, n_folds = runs[0].predictions, len(runs[0].folds)
    folds = "1 outer fold" if n_folds == 1 else f"{n_folds} outer folds"
    in_groups = any(has_groups(run.predictions) for run in runs)
    n_units = len(set().union(*(fold.units.tolist() for fold in runs[0].folds)))
    images = f"{tested['file'].nunique()} test images" + (f" in {n_units} groups" if in_groups else "")
    width = max(len(" - ".join(pair.titles)) for pair in pairs)
    lines = [
        f"test ROC AUC of {len(runs)} runs on the same {images}, {folds}{'' if are_all else ' that all of them have'}",
        "",
        f"these models, new {'groups' if in_groups else 'images'} (DeLong, paired{', by group' if in_groups else ''}):",
    ]
    for run in runs:
        auc = auc_interval(run.folds)
        lines.append(f"  {run.title:<{width}}  {auc.value:>6.3f} {_limits(auc, '.3f')}  {run.about}".rstrip())
    lines += [f"  {' - '.join(pair.titles):<{width}}  {_said(pair.models)}" for pair in pairs]
    lines += ["", "the procedures, retrained (corrected resampled t):"]
    if n_folds < LEAST_FOLDS:
        lines.append(f"  {folds}: --root-splits {LEAST_FOLDS} or more says how much the procedures vary")
    for pair in pairs:
        if pair.procedures:
            lines.append(f"  {' - '.join(pair.titles):<{width}}  {_said(pair.procedures)}")
    if rope is not None and n_folds >= LEAST_FOLDS:
        lines += ["", f"the procedures, equivalent where they differ by less than {rope:g} (Bayesian correlated t):"]
        lines += [f"  {' - '.join(pair.titles):<{width}}  {_probabilities(pair)}" for pair in pairs]
    lines.append("")
    if len(pairs) > 1:
        lines.append(f"p values are adjusted for {len(pairs)} pairs (Holm), intervals are not")
    if has_many_classes(runs[0].results):
        lines.append("ROC AUC is the mean over the classes, each against all others (macro, one-vs-rest)")
    return lines


def _limits(found: Interval, form: str) -> str:
    if found.missing:
        return f"(no interval: {found.missing})"
    rough = "approximate " if found.approximate else ""
    return f"({rough}95 % interval {found.low:{form}} to {found.high:{form}})"


def _said(found: Difference) -> str:
    if found.missing:
        return f"{found.value:+z.3f} (no interval and no p: {found.missing})"
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    p = "no p: all models are without an error" if math.isnan(found.p) else p
    return f"{found.value:+z.3f} {_limits(found, '+z.3f')}, {p}"


def _probabilities(pair: Pair) -> str:
    if pair.equivalence is None:
        return "every outer fold differs by the same: no probabilities"
    a_better, equivalent, b_better = pair.equivalence
    return (
        f"{pair.titles[0]} better {a_better:.3f}, equivalent {equivalent:.3f}, {pair.titles[1]} better {b_better:.3f}"
    )


def draw_runs(stem: str, plot: str, run_ids: Sequence[str], *of: object) -> Path:
    """Write a plot of :mod:`common.plots` to ``outputs/STEM-RUN-RUN.png``, and return the path.

    Raises
    ------
    UserError
        When it cannot be written.
    """
    from common import plots

    folder = state_folder() / "outputs"
    name = "-".join([stem, *(run_id[:8] for run_id in run_ids)])[:200]
    try:
        (path,) = plots.save_plots({name: getattr(plots, plot)(*of)}, folder)
    except OSError as error:
        raise UserError(f"{folder}: the plot cannot be written there ({error.strerror})") from error
    return path


def _as_json(runs: Sequence[Compared], pairs: Sequence[Pair], path: Path) -> dict[str, object]:
    def of(found: Difference | None) -> dict[str, object] | None:
        if found is None:
            return None
        p = None if math.isnan(found.p) else found.p
        return {"difference": found.value, "ci": found.limits, "p": p, "missing": found.missing or None}

    intervals = [(run, auc_interval(run.folds)) for run in runs]
    return {
        "outer_folds": sorted(set(runs[0].results["root_split"].tolist())),
        "runs": [{"run_id": run.run_id, "test_roc_auc": auc.value, "ci": auc.limits} for run, auc in intervals],
        "pairs": [
            {
                "runs": [a.run_id, b.run_id],
                "models": of(pair.models),
                "procedures": of(pair.procedures),
                "equivalence": pair.equivalence,
            }
            for (a, b), pair in zip(combinations(runs, 2), pairs, strict=True)
        ],
        "plot": str(path),
    }


def _rope(text: str) -> float:
    try:
        rope = float(text)
    except ValueError:
        rope = math.nan
    if not 0 <= rope < 1:
        raise argparse.ArgumentTypeError(
            f"expected a difference of ROC AUC, at least 0 and below 1, found {text!r:.80}"
        )
    return rope


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Compare the runs that are named; returns what ``--json`` prints."""
    flags = cli.parser(__doc__)
    flags.add_argument("runs", nargs="+", metavar="RUN", help="id of a finished root run, or how it begins")
    help_rope = "say how probable it is that procedures differ by less than this"
    flags.add_argument("--rope", type=_rope, metavar="DIFFERENCE", help=help_rope)
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = flags.parse_args(argv)
    run_ids = [tracking.find_root(text).run_id for text in args.runs]
    if len(run_ids) < 2 or len(set(run_ids)) < len(run_ids):
        raise UserError(f"{' '.join(args.runs)}: expected the ids of two or more runs, each once")
    found = compare_runs({run_id: run_id[:8] for run_id in run_ids}, args.rope)
    if args.json:
        print(json.dumps(found))
    return found


if __name__ == "__main__":
    cli.run(main)
