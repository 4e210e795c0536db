"""An audit as one HTML page that needs nothing else: what was checked, what was found, and the pictures."""

from __future__ import annotations

import math
from html import escape

from common.evidence.findings import CHECKS, Audit, Finding
from common.evidence.sheets import document, picture

MOST = 60
"""Pairs that are shown of a finding."""
_WORDS = {"stop": "Results would be wrong", "warn": "To be looked at", "note": "For your information"}


def audit_page(audit: Audit, table) -> str:
    """The page of an audit.

    Parameters
    ----------
    audit : Audit
    table : ImageTable
        Decoded; its pictures are shown.
    """
    rows = "\n".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(CHECKS[name])}</td><td>{escape(how)}</td>"
        f"<td>{escape(_verdict(audit, name))}</td></tr>"
        for name, how in audit.checks.items()
    )
    findings = "\n".join(_finding(one, audit, table) for one in audit.findings)
    return document(
        f"Audit of {audit.data}",
        f"""<p>{escape(_summary(audit))} Fingerprint of the data: <code>{audit.fingerprint[:24]}</code>.</p>
<div class="table" role="region" aria-label="Checks" tabindex="0"><table>
<caption>Checks</caption>
<thead><tr><th scope=col>Check</th><th scope=col>Looks for</th><th scope=col>Found</th><th scope=col>Verdict</th></tr>
</thead>
<tbody>
{rows}
</tbody></table></div>
{findings}
""",
    )


def _summary(audit: Audit) -> str:
    if audit.passed:
        return "Nothing was found that makes results wrong."
    waived = f", {len(audit.waived)} of them waived by a person" if audit.waived else ""
    checks = {one.check for one in audit.findings if one.level == "stop"}
    return f"{len(checks)} of {len(audit.checks)} checks found what makes results wrong{waived}."


def _verdict(audit: Audit, name: str) -> str:
    levels = {one.level for one in audit.findings if one.check == name}
    if "stop" in levels:
        return f"waived: {audit.waived[name]}" if name in audit.waived else "stops a run"
    return "to be looked at" if "warn" in levels else "passed"


def _finding(finding: Finding, audit: Audit, table) -> str:
    waived = f"<p>Waived: {escape(audit.waived[finding.check])}</p>" if finding.check in audit.waived else ""
    shown = finding.pairs[:MOST]
    pictures = "\n".join(_pair(table, *pair) for pair in shown)
    more = f"<p>{len(finding.pairs) - MOST} more pairs are in audit.json.</p>" if len(finding.pairs) > MOST else ""
    sheet = f'<div class="pairs">{pictures}</div>' if pictures else ""
    return (
        f'<section class="{finding.level}"><h2>{_WORDS[finding.level]}: {escape(finding.check)}</h2>'
        f"<p>{escape(finding.text)}</p>{waived}{sheet}{more}</section>"
    )


def _pair(table, one: str, other: str, kind: str, likeness: float) -> str:
    rows = [table.files.index(name) for name in (one, other)]
    pictures = "".join(f'<img alt="{escape(table.files[row])}" src="{picture(table.pixels[row])}"> ' for row in rows)
    classes = " and ".join(table.classes[table.labels[row]] for row in rows)
    alike = "" if math.isnan(likeness) else f", {likeness:.2f}"
    text = f"{one} and {other} ({classes}): {kind}{alike}"
    return f"<figure>{pictures}<figcaption>{escape(text)}</figcaption></figure>"
