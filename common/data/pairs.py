"""Lists beside images: CSV files with a row for each file, such as its class, its group or its part."""

from __future__ import annotations

import csv
from pathlib import Path

from common.cli import UserError
from common.state import regular


def read_pairs(path: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a CSV file as a dict; a UserError names the line where it is not as expected."""
    try:
        with open(regular(path), newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            if key not in header or value not in header:
                found = " ".join(",".join(header).splitlines()) or "nothing"
                raise UserError(f"{path}: expected the columns {key},{value}, found {found}")
            pairs: dict[str, str] = {}
            for row in reader:
                if not row[key] or not row[value]:
                    raise UserError(f"{path}, line {reader.line_num}: expected a value for {key} and for {value}")
                for text in (row[key], row[value]):
                    if len(f"{text}.".splitlines()) > 1:  # most often a quote that nothing closes
                        raise UserError(
                            f"{path}, line {reader.line_num}: expected a value on one line, found {text[:60]!r}"
                        )
                if row[key] in pairs:
                    raise UserError(f"{path}, line {reader.line_num}: {row[key]} is listed twice")
                pairs[row[key]] = row[value]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    return pairs
