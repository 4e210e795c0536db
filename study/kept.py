"""What the study keeps: each finished unit at once, in a file of its own, and from these the tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from common.cli import UserError
from common.state import PROJECT, whole_file, work_folder
from common.tracking.code import code_digests
from common.tracking.identity import fingerprint
from common.training import Compute
from study.units import Source, Unit

PACKAGES = ("numpy", "optuna", "pandas", "pillow", "scikit-learn", "scipy", "torch", "torchvision")
DIGITS = {"trials": "%.5g", "predictions": "%.6g", "shared": "%.5g"}
"""How numbers are written in tables of many rows; elsewhere as Python writes them."""


def identity(sources: dict[str, Source], compute: Compute) -> dict[str, str]:
    """What the numbers depend on: data, packages, machine and each file of code, see :mod:`common.tracking.code`."""
    return {
        **{f"data.{name}": source.table.fingerprint[:16] for name, source in sources.items()},
        **{f"packages.{name}": version(name) for name in PACKAGES},
        "machine": compute.machine,
        **{f"code.{name}": digest for name, digest in code_digests([PROJECT / "study" / "units.py"]).items()},
    }


class Kept:
    """The finished units of one identity, in a folder of its own under ``cache/``."""

    def __init__(self, parts: dict[str, str]):
        self.parts = parts
        self.digest = fingerprint(parts)
        self.folder = work_folder("study") / self.digest

    def has(self, unit: Unit) -> bool:
        """Whether a unit has finished."""
        return self._file(unit).exists()

    def keep(self, unit: Unit, rows: dict[str, Any], code: str | None) -> None:
        """Write what :func:`study.units.run_unit` gave, with the commit of the code, whole or not at all."""
        rows["seconds"][0]["commit"] = code
        with whole_file(self._file(unit), "w") as file:
            json.dump(rows, file)

    def of(self, units: Iterable[Unit]) -> dict[str, pd.DataFrame]:
        """The tables that the finished units make, in the order of the units, and `seconds`."""
        rows: dict[str, list] = {}
        for unit in sorted(units):
            for name, of_unit in json.loads(self._file(unit).read_text()).items():
                rows.setdefault(name, []).extend(of_unit)
        return {name: pd.DataFrame(found) for name, found in rows.items()}

    def _file(self, unit: Unit) -> Path:
        return self.folder / f"{unit.name}.json"


def write_tables(tables: dict[str, pd.DataFrame], sources: dict[str, Source], folder: Path) -> None:
    """Write each table as CSV, and ``images.csv``: which image a row of the predictions is of."""
    images = [
        {"data": name, "image": row, "file": file, "class": table.classes[label], "label": label, "group": group}
        for name, table in ((name, source.table) for name, source in sources.items())
        if table.groups is not None
        for row, (file, label, group) in enumerate(zip(table.files, table.labels, table.groups, strict=True))
    ]
    try:
        for name, table in {**tables, "images": pd.DataFrame(images)}.items():
            if name != "seconds":
                with whole_file(folder / f"{name}.csv", "w") as file:
                    table.to_csv(file, index=False, float_format=DIGITS.get(name), lineterminator="\n")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error


def write_about(
    kept: Kept, done: Sequence[Unit], planned: Sequence[Unit], seconds: pd.DataFrame, folder: Path
) -> dict[str, object]:
    """Write ``about.json``: the command, the code, the machine, how long it took, and what was left out; returns it."""
    about: dict[str, object] = {
        "command": "bash run_script.bash python -m study",
        "git_commits": sorted(set(seconds["commit"].dropna())),
        "identity": kept.digest,
        "python": ".".join(map(str, sys.version_info[:3])),
        "units": len(done),
        "fits": sum(unit.n_fits for unit in done),
        "cpu_seconds": round(float(seconds["cpu"].sum())),
        "wall_seconds": round(_union(seconds)),
        "not_run": sorted({f"{unit.data} {unit.method} seed {unit.seed}" for unit in set(planned) - set(done)}),
        "depends_on": kept.parts,
    }
    with whole_file(folder / "about.json", "w") as file:
        file.write(json.dumps(about, indent=1) + "\n")
    return about


def commit() -> str | None:
    """The commit of the code that runs; None where it is not that of a commit, or there is no git."""
    try:
        here = ["git", "-C", str(PROJECT)]
        changed = subprocess.run([*here, "status", "--porcelain", "--", "*.py"], capture_output=True, check=True)
        head = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if changed.stdout else head


def _union(seconds: pd.DataFrame) -> float:
    """Seconds in which at least one unit was computed."""
    total, end = 0.0, 0.0
    for began, wall in seconds.sort_values("began")[["began", "wall"]].to_numpy():
        total += max(0.0, began + wall - max(end, began))
        end = max(end, began + wall)
    return total
