"""The flags of the scripts that analyse a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.cli.flags import parser


def analysis_parser(description: str | None, step: int) -> argparse.ArgumentParser:
    """The flags of ``step_<step>/analyze_predictions.py``: those of step 1, which has no runs, lack ``--run-id``."""
    flags = parser(description)
    if step >= 2:
        flags.add_argument("--run-id", metavar="ID", help="a finished root run (default: the newest)")
    score_flags(flags)
    return flags


def score_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that say which further scores are wanted: ``--prevalence``, ``--subgroups``, ``--info``."""
    flags.add_argument(
        "--prevalence", type=_share, metavar="P", help="share of class 1 where it is to be used: for PPV and NPV"
    )
    flags.add_argument(
        "--subgroups", metavar="COLUMN", help="of info.csv, or site, maker, study_year, sex of DICOM files"
    )
    flags.add_argument("--info", type=Path, metavar="FILE", help="another CSV file for --subgroups")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, such as 0.05, found {text!r:.80}")
    return share
