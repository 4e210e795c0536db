"""Installs the dependencies that the Python at hand lacks, and leaves its torch alone: for Colab.

python docker/install_lacking.py [--dry-run]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

KEPT = ("numpy", "torch", "torchvision")
"""Never replaced: the others are built for these, and these for the machine's GPU."""
NOT_NEEDED = ("ipykernel", "jupyterlab")
"""A hosted notebook is what they are for."""


def lacking(needs: Iterable[Requirement], version: Callable[[str], str | None]) -> list[Requirement]:
    """What must be installed: needs that are missing or too old, but for those kept as they are and not needed.

    Parameters
    ----------
    needs : iterable of Requirement
    version : callable
        The installed version of a package, or None.
    """
    found = []
    for need in needs:
        installed = version(need.name)
        if need.name in NOT_NEEDED or (installed and need.name in KEPT):
            continue
        if installed is None or not need.specifier.contains(installed, prereleases=True):
            found.append(need)
    return found


def installed_version(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def main() -> int:
    table = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
    needs = [Requirement(text) for text in table["project"]["dependencies"]]
    for need in needs:
        version = installed_version(need.name)
        if need.name in KEPT and version and not need.specifier.contains(version, prereleases=True):
            print(f"{need.name} {version} stays, although this project is made for {need}")
    names = [str(need) for need in lacking(needs, installed_version)]
    print(f"to install: {', '.join(names) or 'nothing'}")
    if not names or "--dry-run" in sys.argv[1:]:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "constraints.txt"
        pins.write_text("".join(f"{name}=={version}\n" for name in KEPT if (version := installed_version(name))))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(pins)]
        return subprocess.run([*pip, *names]).returncode


if __name__ == "__main__":
    sys.exit(main())
