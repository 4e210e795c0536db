"""How many bytes runs, and all else that the project keeps, take on this machine's disk."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path

from common.results.trees import Trees
from common.state import work_folder

NETWORK = "model.safetensors"
IS_RUN = re.compile(r"(m-)?[0-9a-f]{32}")


@dataclass
class TreeSize:
    """Bytes of one tree on disk: all its artifacts, of these its networks (a file for each fold), and checkpoints."""

    artifacts: int = 0
    networks: list[tuple[Path, int]] = field(default_factory=list)
    models: int = 0
    checkpoints: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.artifacts + self.models + self.checkpoints


def tree_sizes(trees: Trees, members: dict[str, str] | None = None) -> dict[str, TreeSize]:
    """The size of each root run's tree, without rows of databases; others under an empty name.

    What lies on a server is not seen.
    """
    members = trees.members() if members is None else members
    sizes: dict[str, TreeSize] = defaultdict(TreeSize)
    for folder in run_folders(trees):
        root_id = members.get(folder.name)
        if root_id is None:
            continue
        for path, size in files_below(folder):
            if folder.name.startswith("m-"):
                sizes[root_id].models += size
                continue
            sizes[root_id].artifacts += size
            if path.name == NETWORK:
                sizes[root_id].networks.append((path, size))
    for folder in checkpoint_folders():
        sizes[folder.name].checkpoints += bytes_of(folder)
    return sizes


def run_folders(trees: Trees) -> Iterator[Path]:
    """The folders of runs and logged models in the experiments' folders on this machine."""
    for experiment in trees.client.search_experiments():
        place = experiment.artifact_location or ""
        if not (place.startswith("file:") or "://" not in place):
            continue
        top = Path(local_file_uri_to_path(place))
        for folder in (top, top / "models"):
            try:
                names = [entry.name for entry in os.scandir(folder) if IS_RUN.fullmatch(entry.name)]
            except OSError:
                continue
            yield from (folder / name for name in sorted(names))


def checkpoint_folders() -> list[Path]:
    """Where fits of runs stand."""
    folder = work_folder("checkpoints")
    return [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


def files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each file below a folder with its bytes; links are not followed, and what goes away meanwhile is left out."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))
        else:
            try:
                yield Path(entry.path), entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue


def bytes_of(path: Path) -> int:
    """Bytes of a file, or of all below a folder; 0 where there is none."""
    if path.is_dir():
        return sum(size for _, size in files_below(path))
    return path.stat().st_size if path.exists() else 0


def in_words_of(size: float) -> str:
    """A number of bytes for people: ``1.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
