"""A report is put together from finished runs: its sections, why claims are withheld, checklists and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common import tracking
from common.cli import escaped
from common.evidence import report_results, report_sections
from common.evidence.checklists import forms
from common.evidence.claims import against_claims
from common.evidence.questions import asked_in
from common.evidence.report_results import of_each
from common.evidence.report_sections import waivers_of
from common.evidence.statements import Ask, Block, Evidence, Lack, Rows, Said, Shown, Source, told


class Wanted(NamedTuple):
    """What a report is asked to be about: root runs, the first of them repeated from other seeds, and flags."""

    runs: tuple[str, ...]
    repeats: tuple[str, ...] = ()
    subgroups: str | None = None
    info: str | None = None
    prevalence: float | None = None


class Section(NamedTuple):
    """A section of a report, and how its numbers are called."""

    key: str
    title: str
    blocks: list[Block]

    @property
    def stands(self) -> bool:
        """Whether it says something from artifacts, and nothing is lacking."""
        has_source = any(getattr(block, "sources", ()) for block in self.blocks)
        return has_source and not any(isinstance(block, Lack) for block in self.blocks)


@dataclass(frozen=True)
class Report:
    """A report, before it is a page or a text.

    Attributes
    ----------
    title : str
    withheld : list of str
        Why nothing is claimed of how good the models are; empty if it is.
    sections : list of Section
    sources : list of Source
        The artifacts that it comes from; sentences name them by their place here, from 1.
    """

    title: str
    withheld: list[str]
    sections: list[Section]
    sources: list[Source]


def build_report(request: Wanted, answers: Mapping[str, str]) -> tuple[Report, list[Evidence]]:
    """A report, and the runs that it is about.

    Raises
    ------
    UserError
        When a run is not there, or flags do not fit the runs.
    """
    titles = {run_id: run_id[:8] for run_id in request.runs}
    every = [Evidence(tracking.find_root(run_id), title) for run_id, title in titles.items()]
    repeats = [Evidence(tracking.find_root(run_id), run_id[:8]) for run_id in request.repeats]
    report_results.check_repeats(every[0], repeats)
    withheld = [reason for one in [*every, *repeats] for reason in against_claims(one)]
    sections = [*_done(every, answers), *_found(every, repeats, request, answers, bool(withheld))]
    sections += _how(every, answers)
    if withheld:
        sections = [
            one._replace(blocks=[block for block in one.blocks if not isinstance(block, Shown)]) for one in sections
        ]
    hidden = {"results", "operating", "calibration", "subgroups", "comparison", "seeds"} if withheld else set()
    standing = {section.key for section in sections if section.stands} - hidden
    sections.append(Section("checklists", "Checklists", list(_checklists(standing, answers))))
    name = escaped(every[0].about.info.run_name or every[0].title)
    sources = list(dict.fromkeys(source for section in sections for source in _sources(section.blocks)))
    return Report(answers.get("title") or f"Report: {name}", withheld, sections, sources), every


def _sources(blocks: Iterable[Block]) -> Iterator[Source]:
    for block in blocks:
        yield from getattr(block, "sources", ())


def _done(every: Sequence[Evidence], answers: Mapping[str, str]) -> Iterator[Section]:
    who = [one for one in asked_in("title", answers) if one.key != "title" or not one.answer]
    yield Section("authors", "Who", [*who])
    for key, title in {"asked": "What was asked", "data": "Data"}.items():
        blocks = _of_each(every, getattr(report_sections, key))
        yield Section(key, title, [*blocks, *asked_in(key, answers)])
    yield Section("audit", "Audit of the data", _of_each(every, report_sections.checks_made))
    yield Section("method", "Method", _of_each(every, report_sections.method))
    yield Section("tests", "Record of test predictions", _of_each(every, report_sections.record_of_tests))


def _found(
    every: Sequence[Evidence],
    repeats: Sequence[Evidence],
    request: Wanted,
    answers: Mapping[str, str],
    withheld: bool,
) -> Iterator[Section]:
    info = Path(request.info) if request.info else None
    of: dict[str, tuple[str, Callable[[Evidence], Iterable[Block]]]] = {
        "results": ("What was computed" if withheld else "Performance", report_results.results),
        "operating": ("Operating points", partial(report_results.operating, prevalence=request.prevalence)),
        "calibration": ("Calibration", report_results.calibration),
        "subgroups": ("Subgroups", partial(report_results.subgroups, column=request.subgroups, info=info)),
    }
    for key, (title, make) in of.items():
        blocks = _of_each(every, make)
        if key == "results":
            waived = of_each(every, waivers_of)
            blocks = [*waived, *blocks, *asked_in(key, answers)]
        yield Section(key, title, blocks)
    yield Section("comparison", "Comparison", told(lambda: report_results.comparison(every)))
    yield Section("seeds", "Other seeds", told(lambda: report_results.seeds(every[0], repeats)))


def _how(every: Sequence[Evidence], answers: Mapping[str, str]) -> Iterator[Section]:
    titles = {
        "repeated": "The run repeated: what changed",
        "machine": "Machine",
        "code": "Code",
        "again": "How to run it again",
    }
    for key, title in titles.items():
        yield Section(key, title, _of_each(every, getattr(report_sections, key)))
    yield Section("person", "What a person has to say", [*asked_in("person", answers)])


def _of_each(every: Sequence[Evidence], make: Callable[[Evidence], Iterable[Block]]) -> list[Block]:
    return of_each(every, lambda one: told(lambda: make(one)))


def _checklists(standing: set[str], answers: Mapping[str, str]) -> Iterator[Block]:
    for form in forms():
        rows = [[one.number, one.name, one.status(standing, answers), _where(one)] for one in form.items]
        counts = {state: [row[2] for row in rows].count(state) for state in ("filled", "partly", "to be filled")}
        yield Rows(form.name, ["item", "what it asks for, in short", "here", "where"], rows)
        counted = ", ".join(f"{n} {state}" for state, n in counts.items())
        yield Said(f"{form.source}. Of {len(rows)} rows {counted}. {form.checked}")


def _where(item) -> str:
    return ", ".join([*item.sections, *(f"{key} (a person)" for key in item.keys)]) or "outside of this report"


def open_questions(report: Report) -> int:
    """How many questions a person has not answered."""
    return sum(isinstance(block, Ask) and not block.answer for one in report.sections for block in one.blocks)
