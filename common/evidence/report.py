"""Writes a report of finished runs, each number bound to its artifact; with --verify each is computed again.

``python -m common.evidence.report RUN [RUN ...] [--subgroups COLUMN] [--repeats RUN ...]``
``python -m common.evidence.report --verify report.html [report.md]``

RUN is the id of a finished root run. What a machine cannot know is asked in ``report.toml``, for a person to answer.
Where the audit of the data has failed, or the test is not on the record, nothing is claimed.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from common import cli
from common.cli import UserError, writing
from common.evidence.findings import counted
from common.state import whole_file


def main(argv: list[str] | None = None) -> int:
    """Write or verify a report; returns the exit code: 0, or 1 when something differs from the artifacts."""
    args = _flags().parse_args(argv)
    if args.verify:
        if args.runs:
            raise UserError(f"{args.runs[0]} --verify: expected files of reports alone; they name their runs")
        return _verify(args.verify)
    _write(args)
    return 0


def _flags() -> argparse.ArgumentParser:
    flags = cli.parser(__doc__)
    flags.add_argument("runs", nargs="*", metavar="RUN", help="id of a finished root run, or how it begins")
    flags.add_argument("--verify", nargs="+", type=Path, metavar="FILE", help="compute the numbers of reports again")
    output = Path("report.html")
    flags.add_argument("--output", type=Path, default=output, metavar="FILE", help="(default: %(default)s)")
    flags.add_argument("--repeats", nargs="+", metavar="RUN", help="runs that differ from the first in --seed alone")
    cli.score_flags(flags)
    return flags


def _write(args: argparse.Namespace) -> None:
    from common import tracking
    from common.evidence.building import Wanted, build_report, open_questions
    from common.evidence.ledger import note
    from common.evidence.questions import read_answers, write_questions
    from common.evidence.report_page import report_page
    from common.evidence.report_text import report_text
    from common.evidence.sheets import check_page_name
    from common.evidence.statements import Unsayable

    check_page_name(args.output)
    toml, markdown = (args.output.with_suffix(suffix) for suffix in (".toml", ".md"))
    answers = read_answers(toml)
    info = str(args.info.absolute()) if args.info else None
    runs, repeats = (
        tuple(tracking.find_root(text).run_id for text in named) for named in (args.runs, args.repeats or ())
    )
    if not runs or len({*runs, *repeats}) < len(runs + repeats):
        found = " ".join(runs + repeats) or "no run"
        raise UserError(f"{found}: expected the id of one or more runs, each once")
    request = Wanted(runs, repeats, args.subgroups, info, args.prevalence)
    report, every = build_report(request, answers)
    if not report.withheld:
        for evidence in every:
            try:
                predictions = evidence.table("predictions.csv")
            except Unsayable:
                continue
            if said := tracking.show_scores(evidence.run, predictions, f"report {args.output.name}"):
                print(said)
    for run_id in (*request.runs, *request.repeats):
        note("reported", run_id, str(args.output.absolute()))
    about = {**request._asdict(), "matplotlib": version("matplotlib")}
    with writing(f"--output {args.output}"):
        is_new = write_questions(toml)
        for path, text in ((args.output, report_page(report, about)), (markdown, report_text(report, about))):
            with whole_file(path, "w") as file:
                file.write(text)
    for reason in report.withheld:
        print(cli.escaped(f"nothing is claimed: {reason}"))
    said = f"{open_questions(report)} questions for a person: {toml}{' (new)' if is_new else ''}"
    print(f"{said}\nreport: {args.output}, {markdown}")


def _verify(paths: list[Path]) -> int:
    from common.evidence.building import Wanted, build_report
    from common.evidence.questions import read_answers
    from common.evidence.report_page import report_page
    from common.evidence.report_text import report_text
    from common.evidence.verifying import MOST, differences_of, request_in

    made = cache(lambda request, answers: build_report(request, dict(answers))[0])
    n_found = 0
    for path in paths:
        text, about = request_in(path)
        try:
            request = Wanted(**{name: about[name] for name in Wanted._fields})
            request = request._replace(runs=tuple(request.runs), repeats=tuple(request.repeats))
        except (KeyError, TypeError) as error:
            raise UserError(f"--verify {path}: what it is about cannot be read ({error})") from error
        report = made(request, tuple(read_answers(path.with_suffix(".toml")).items()))
        make = report_text if path.suffix == ".md" else report_page
        is_alike = about.get("matplotlib") == version("matplotlib")
        found = differences_of(text, make(report, about), is_alike)
        for line in found[:MOST]:
            print(f"{path}: {line}")
        more = f", of which {MOST} are shown" if len(found) > MOST else ""
        said = f"{counted(len(found), 'difference')}{more}" if found else "as its artifacts say"
        unseen = "" if is_alike else f"; pictures of matplotlib {about.get('matplotlib')} cannot be compared"
        print(cli.escaped(f"{path}: {said}{unseen}"))
        n_found += len(found)
    return int(bool(n_found))


if __name__ == "__main__":
    cli.run(lambda: sys.exit(main()))
