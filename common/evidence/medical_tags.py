"""What an audit says of the tags of DICOM files: one patient in two groups, and what identifies a person."""

from __future__ import annotations

import math

from common.data.images import ImageTable
from common.evidence.findings import Finding, counted, counted_files, named


def of_one_patient(table: ImageTable, tags: dict | None) -> list[Finding]:
    """Findings of images of different groups whose tags say that they are of one patient.

    Parameters
    ----------
    table : ImageTable
    tags : dict, optional
        Of :func:`common.medical.look_at_tags`.
    """
    if tags is None:
        return []
    findings, kinds = [], {**dict.fromkeys(tags["shared"], "stop"), "name and birth date": "warn"}
    for name, rows in {**tags["shared"], "name and birth date": tags["alike"]}.items():
        pairs = [(table.files[i], table.files[j], f"one {name}", math.nan) for i, j in rows]
        if pairs:
            text = f"{counted(len(pairs), 'pair')} of files of different groups have one {name} ({named(pairs)})"
            text += "; expected one group for each patient: groups.csv (files,group) says which"
            findings.append(Finding("identity", kinds[name], text, pairs))
    return findings


def privacy(table: ImageTable, tags: dict | None) -> tuple[str, list[Finding]]:
    """How the check of what identifies a person went, and what it found: names of tags, never their values.

    Nothing where there are no DICOM files.
    """
    if tags is None or not tags["files"]:
        return "", []
    findings = []
    if found := tags["in_names"]:
        text = ", ".join(f"{name} in {counted(count, 'name')}" for name, count in found.items())
        text = f"names of files or folders hold what a tag says of a person: {text}; names are kept with each run: "
        findings.append(
            Finding("privacy", "stop", f"{text}rename the files, or say in tag (0012,0062) that it is no person")
        )
    for rows, why in (
        (tags["burnt_in"], "have BurnedInAnnotation YES"),
        (tags["perhaps_burnt_in"], "are secondary captures or ultrasound that do not say whether text is burnt in"),
    ):
        if rows:
            text = f"{counted_files(rows, table.files)} {why}: text in the pixels may name a person, and be learned"
            findings.append(Finding("privacy", "warn", text))
    if found := tags["identifying"]:
        text = ", ".join(f"{name} {count}" for name, count in found.items())
        text = f"tags that identify a person, and in how many files: {text}; none of them leaves the files"
        findings.append(Finding("privacy", "note", text))
    return f"{counted(tags['files'], 'DICOM file')}", findings
