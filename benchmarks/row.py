"""One row of the benchmarks, in the copy of the project that it was started in."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from common import cli


def main() -> None:
    row, size, data, results = sys.argv[1:]
    source = cli.PROJECT / "data" / "drawn" if data == "drawn" else Path(data)
    figures = importlib.import_module(f"benchmarks.{row}").measure(size, source)
    Path(results).write_text(json.dumps([vars(figure) for figure in figures]))


if __name__ == "__main__":
    cli.run(main)
