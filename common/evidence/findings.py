"""What an audit finds: checks, findings, and what a person waives with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from common.cli import UserError, escaped

CHECKS = {
    "copies": "images with equal pixels",
    "near-copies": "images that were turned, compressed, made brighter or cut out of another",
    "identity": "which images are of one animal or patient",
    "shortcuts": "classes told apart without what the images show",
    "privacy": "what identifies a person: tags of DICOM files, their values in names of files, text in the pixels",
    "pipeline": "a score after labels were permuted",
    "fitted-state": "what is fitted before the test, with other test images",
}
"""What is looked for, by the name that ``--waive`` takes."""
PERMUTATIONS = 20
"""Of the labels, for the check of the pipeline."""
SHOWN = 3
"""Pairs that a line names; the page has more."""


@dataclass(frozen=True)
class Finding:
    """Something that an audit found.

    Attributes
    ----------
    check : str
        One of :data:`CHECKS`.
    level : {"stop", "warn", "note"}
        ``stop``: results would be wrong, unless a person knows better.
    text : str
        One line, for people.
    pairs : list of [str, str, str, float]
        Two files, what they are to each other, and how much they are alike, in [0, 1].
    """

    check: str
    level: str
    text: str
    pairs: list[tuple[str, str, str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """An audit of data with their splits.

    Attributes
    ----------
    data, fingerprint : str
    checks : dict from str to str
        By the name of each check that was made: how it went, in a few words. What could not be checked says why.
    findings : list of Finding
    waived : dict from str to str
        Reasons, by the name of the check.
    """

    data: str
    fingerprint: str
    checks: dict[str, str]
    findings: list[Finding]
    waived: dict[str, str]

    @property
    def stops(self) -> list[Finding]:
        """What stops a run."""
        return [one for one in self.findings if one.level == "stop" and one.check not in self.waived]

    @property
    def passed(self) -> bool:
        """Whether nothing was found that makes results wrong; what is waived counts as found."""
        return not any(one.level == "stop" for one in self.findings)

    def lines(self) -> list[str]:
        """A line for each finding."""
        found = []
        for one in self.findings:
            waived = one.level == "stop" and self.waived.get(one.check)
            found.append(escaped(f"audit: {one.check}: {one.text}" + (f"; waived: {waived}" if waived else "")))
        return found or [f"audit: nothing found by {', '.join(self.checks)}"]

    def check_stops(self) -> None:
        """Raise a UserError if the audit stops a run."""
        if self.stops:
            names = list(dict.fromkeys(one.check for one in self.stops))
            flags = " ".join(f"--waive {name} REASON" for name in names)
            raise UserError(
                f"--data {self.data}: the audit says that results would be wrong ({', '.join(names)}, see above); "
                f"mend it, or: {flags}"
            )


def waivers(given: Iterable[Sequence[str]] | None) -> dict[str, str]:
    """The reasons of ``--waive CHECK REASON``, by check.

    Raises
    ------
    UserError
        When there is no such check, or a reason is empty.
    """
    found: dict[str, str] = {}
    for check, reason in given or ():
        if check not in CHECKS:
            raise UserError(f"--waive {check}: expected one of {', '.join(CHECKS)}")
        if not reason.strip():
            raise UserError(f"--waive {check}: found no reason; expected why this is no problem, in a few words")
        found[check] = reason.strip()
    return found


def named(pairs: Sequence[tuple[str, str, str, float]]) -> str:
    """The first of some pairs, for a line."""
    shown = "; ".join(f"{one} and {other}" for one, other, *_ in pairs[:SHOWN])
    return f"{shown}; {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else shown


def counted_files(rows: Sequence[int], files: Sequence[str]) -> str:
    """How many files, and the first of them, for a line."""
    shown = ", ".join(files[row] for row in rows[:SHOWN])
    return f"{counted(len(rows), 'file')} ({shown}{', …' if len(rows) > SHOWN else ''})"


def counted(number: int, what: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{number} {what}{'s' * (number != 1)}"


def as_json(audit: Audit) -> str:
    """An audit as the text of ``audit.json``, with whether it `passed`."""
    return json.dumps({**asdict(audit), "passed": audit.passed})
