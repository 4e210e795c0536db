"""What takes space on this machine's disk, and what of it nobody needs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from common.cli import UserError
from common.results.kept_networks import dev_score
from common.results.opening import open_trees, trees_at
from common.results.sizes import TreeSize, bytes_of, checkpoint_folders, files_below, run_folders, tree_sizes
from common.results.trees import LEVELS, MARKED, RootRun, Trees
from common.search.kept import delete_studies, is_own, study_names
from common.state import cache_folder, data_folder, state_folder, work_folder
from common.tracking.at_work import is_at_work, kept_from_work
from common.tracking.store import other_stores
from common.tracking.upkeep import store_uri

Keep = Literal["best", "all", "none"]
DAY = 24 * 3600
SETTLED = 3600
"""Seconds for which what seems to belong to no run is left alone: its run may be on its way."""


@dataclass
class Waste:
    """Something to remove: what it is, of which run (empty where there is none), where it lies, and its bytes."""

    what: str
    run: str
    path: Path
    size: int


def disk_use() -> pd.DataFrame:
    """What takes space, the largest first.

    Returns
    -------
    DataFrame
        Columns ``what, of, count, bytes``: artifacts of runs and their networks by experiment, logged models,
        checkpoints, caches by data set, data sets, databases, studies without a run, and orphans of runs that are gone.
        Networks are of the artifacts, and not counted twice.
    """
    trees = open_trees()
    members, roots = trees.members(), all_roots(trees)
    by_id, marked = {root.run_id: root for root in roots}, {root.run_id for root in trees.roots(MARKED)}
    names = {root.params.get("data_fingerprint", "")[:24]: root.params.get("data_name", "") for root in roots}
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(what: str, of: str, size: int, count: int = 1) -> None:
        found[what, of][0] += count
        found[what, of][1] += size

    for run_id, size in tree_sizes(trees, members).items():
        of = by_id[run_id].experiment if run_id in by_id else ""
        kept = sum(bytes_ for _, bytes_ in size.networks)
        add("runs deleted in MLflow" if run_id in marked else "runs", of, size.artifacts - kept, 1)
        add("networks of runs", of, kept, len(size.networks))
        add("logged models", of, size.models, size.models > 0)
        add("checkpoints", of, size.checkpoints, size.checkpoints > 0)
    for path in cache_folder().glob("*"):
        digits = re.search(r"-([0-9a-f]{24})", path.name)
        if path.is_file() and not path.name.startswith("."):
            add("cache", names.get(digits[1], "no run") if digits else "other", path.stat().st_size)
    for folder in data_folder().glob("*"):
        add("data sets", folder.name, bytes_of(folder))
    for path in state_folder().glob("*.db*"):
        add("databases", path.name.split(".")[0], path.stat().st_size)
    for waste in orphans(trees, members):
        add(waste.what, "no run", waste.size)
    rows = [(*key, *value) for key, value in found.items() if value[1] or key[0].startswith("orphan")]
    table = pd.DataFrame(rows, columns=["what", "of", "count", "bytes"])
    return table.sort_values(["bytes", "what"], ascending=[False, True], ignore_index=True)


def all_roots(trees: Trees) -> list[RootRun]:
    """Root runs, those on their way in or out too."""
    return [root for level in LEVELS for root in trees.roots(level)]


def orphans(trees: Trees, members: dict[str, str]) -> list[Waste]:
    """What belongs to runs that are gone: folders of artifacts, checkpoints, studies (without a path's bytes)."""
    found = []
    own = store_uri(state_folder() / "mlflow.db")
    if trees.uri != own and (state_folder() / "mlflow.db").exists():  # such as of a time without a server
        members = members | trees_at(own).members()
    only_here = not other_stores(trees.uri)  # else they may be of runs there
    for folder in run_folders(trees):
        if folder.name not in members and _is_settled(folder):
            kind = "orphaned models" if folder.name.startswith("m-") else "orphaned artifacts"
            found.append(Waste(kind, folder.name, folder, bytes_of(folder)))
    for folder in checkpoint_folders() if only_here else ():
        if folder.name not in members and _is_settled(folder) and re.fullmatch("[0-9a-f]{32}", folder.name):
            found.append(Waste("orphaned checkpoints", folder.name, folder, bytes_of(folder)))
    summaries = (state_folder() / "models").glob("model_summary_*.txt")
    for path in summaries if only_here else ():
        run_id = path.stem.removeprefix("model_summary_")
        if run_id not in members and _is_settled(path):
            found.append(Waste("orphaned summaries", run_id, path, path.stat().st_size))
    own_studies = only_here and is_own()  # others of a group may have theirs in the same database
    for name in study_names() if own_studies else ():
        run_id = name.split(" root ")[0]
        if re.fullmatch("[0-9a-f]{32}", run_id) and run_id not in members:
            found.append(Waste("orphaned studies", name, Path(), 0))
    return found


def wasted(keep_networks: Keep = "all", older: float = 0.0) -> list[Waste]:
    """What :func:`tidy` would remove.

    Parameters
    ----------
    keep_networks : str
        ``best``: of each outer fold of a finished run the network with the highest dev ROC AUC; ``all`` or ``none``.
    older : float
        Days for which a run must have ended for its networks and checkpoints to go; orphans go in any case.
    """
    trees = open_trees()
    members, before = trees.members(), time.time() - older * DAY
    found = orphans(trees, members)
    gone = {root.run_id: root for root in all_roots(trees) if (root.end or root.start) / 1000 <= before}
    for folder in checkpoint_folders():
        root = gone.get(folder.name)
        if root is not None and (root.status == "FINISHED" or older > 0):
            found.append(Waste("checkpoints", folder.name, folder, bytes_of(folder)))
    if keep_networks != "all":
        for run_id, size in tree_sizes(trees, members).items():
            if run_id in gone and gone[run_id].status == "FINISHED":
                found += [Waste("networks", run_id, *each) for each in losing(trees, run_id, size, keep_networks)]
    return found


def losing(trees: Trees, run_id: str, size: TreeSize, keep: Keep) -> list[tuple[Path, int]]:
    """The networks of a run that are not kept, with their bytes; where scores cannot be read, all are kept."""
    if keep == "none":
        return size.networks
    dev: dict[Path, tuple[int, int, float]] = {}
    for path, _ in size.networks:
        with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
            dev[path] = dev_score(path.with_name("predictions.csv"))
    best: dict[int, Path] = {}
    for path, (fold, _, score) in sorted(dev.items(), key=lambda found: found[1][:2]):  # of equals the first
        if fold not in best or score > dev[best[fold]][2]:
            best[fold] = path
    return [(path, bytes_) for path, bytes_ in size.networks if path in dev and path not in best.values()]


def tidy(keep_networks: Keep = "all", older: float = 0.0, really: bool = False) -> pd.DataFrame:
    """Remove what nobody needs; unless `really`, only say what that is.

    Parameters
    ----------
    keep_networks, older
        As for :func:`wasted`.

    Returns
    -------
    DataFrame
        Columns ``what, run, path, bytes``.

    Raises
    ------
    UserError
        When something cannot be removed.
    """
    found = wasted(keep_networks, older)
    if really:
        found = remove(found)
    rows = [(waste.what, waste.run, str(waste.path), waste.size) for waste in found]
    return pd.DataFrame(rows, columns=["what", "run", "path", "bytes"])


def remove(found: Iterable[Waste]) -> list[Waste]:
    """Remove these, but for what a process works on; returns what is gone. What was interrupted is found again.

    Raises
    ------
    UserError
        When something cannot be removed.
    """
    shutil.rmtree(work_folder("removed"), ignore_errors=True)  # of one that was killed
    gone = []
    for waste in found:
        if waste.what == "orphaned studies":
            delete_studies([waste.run])
        elif is_at_work(run_id := waste.run.removeprefix("m-")):
            continue
        else:
            with kept_from_work(run_id):
                _remove_path(waste.path)
        gone.append(waste)
    for path in (state_folder() / "mlflow.db", state_folder() / "optuna.db"):
        _shrink(path)
    return gone


def _remove_path(path: Path) -> None:
    """A folder takes another name first: half of it is never taken for the whole."""
    try:
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        aside = work_folder("removed") / f"{path.name}-{os.getpid()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # on another disk
            path = Path(shutil.move(path, aside)) if os.stat(path).st_dev == os.stat(aside.parent).st_dev else path
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{path}: cannot be removed ({error.strerror})") from error


def _shrink(database: Path) -> None:
    """Give the disk back what rows that were deleted leave, unless somebody works there."""
    if database.exists():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database, timeout=1)) as connection:
            (pages,), (free,) = (
                connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
            )
            if free > pages / 4:
                connection.execute("VACUUM")


def _is_settled(path: Path) -> bool:
    try:
        return time.time() - max(path.stat().st_mtime, *(p.stat().st_mtime for p, _ in files_below(path)), 0) > SETTLED
    except OSError:
        return False
