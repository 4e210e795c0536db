"""May a report say how good a model is? Only with an audit that stops nothing, and a test that is on the record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from common.cli import UserError, reason_of
from common.evidence.statements import Evidence, Unsayable

WITHHELD = "(word withheld)"
_WORDS = re.compile(r"performances?|accurac(?:y|ies)", re.IGNORECASE)


def against_claims(evidence: Evidence) -> list[str]:
    """Why nothing is to be claimed from a run, a sentence each; nothing if it may be.

    The audit is not there, or has found what makes results wrong; the predictions are not there, or are not on the
    record as they are. A waiver lets a run go on, and does not undo what was found. One alone does: that a person knows
    which images are of one patient, where nothing in the data says so.
    """
    found, run = [], f"run {evidence.run.run_id}"
    try:
        audit = evidence.json("audit/audit.json")
        waived = audit["waived"]
        stops = {one["check"] for one in audit["findings"] if one["level"] == "stop" and not _is_known(one, waived)}
        each = [f"{check} (waived: {waived[check]})" if check in waived else check for check in sorted(stops)]
        if each:
            found.append(f"The audit of the data of {run} found what makes results wrong: {'; '.join(each)}.")
    except Unsayable as error:
        found.append(f"There is no audit of the data of {run}: {error}.")
    except (KeyError, TypeError):
        found.append(f"The audit of the data of {run} cannot be read.")
    try:
        found += _not_on_record(evidence, run)
    except Unsayable as error:
        found.append(f"The test of {run} is not on the record: {error}.")
    return found


def _is_known(finding: Mapping, waived: Mapping[str, str]) -> bool:
    return finding["check"] == "identity" and "identity" in waived and not finding["pairs"]


def _not_on_record(evidence: Evidence, run: str) -> list[str]:
    from common.evidence.ledger import missing_folds

    predictions, own_lines = evidence.table("predictions.csv"), evidence.bytes_of("ledger.jsonl").decode()
    try:
        missing = missing_folds(evidence.run.run_id, predictions, own_lines)
    except UserError as error:
        return [f"The record of test predictions is not as it was written: {reason_of(error)}."]
    except (ValueError, KeyError, TypeError) as error:
        return [f"The record of the test of {run} cannot be read ({type(error).__name__})."]
    if missing:
        folds = ", ".join(map(str, missing))
        return [f"The test predictions of {run} for outer fold {folds} are not those on the record."]
    return []


def without_claims(text: str) -> str:
    """A page or a text without the words that claim how good a model is."""
    return _WORDS.sub(WITHHELD, text)


def embedded(request: Mapping) -> str:
    """JSON for within a page or a comment: it ends neither, and nobody reads these words in it."""
    text = json.dumps(request, sort_keys=True).replace("<", "\\u003c").replace(">", "\\u003e")
    return _WORDS.sub(lambda word: f"\\u{ord(word[0][0]):04x}{word[0][1:]}", text)
