"""A former version of data brought back, with DVC."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from common.cli import UserError
from common.versions.program import find_dvc, md5_in, open_dvc, pointer_of, transfer
from common.versions.repository import find_place, git, recorded


def checkout(version: str, path: Path | None = None) -> str:
    """Restore a former version of the data, and its ``.dvc`` file; the rest of the repository stays as it is.

    Parameters
    ----------
    version : str
        A git revision, or the beginning of an MD5 sum (4 characters or more) that a commit on any branch records.
    path : Path, optional
        What to restore; otherwise all that is under DVC in the revision, or what has the sum.

    Raises
    ------
    UserError
        With all as it was: when there is no such version, its data are neither in the cache nor in the remote, or the
        present data are in no version and would be lost.
    """
    repository, data = find_place(path or Path("any"))
    wanted = _wanted(repository, version, path and pointer_of(data))
    root = find_dvc(next(iter(wanted)).parent, repository)
    if root is None:
        raise UserError(f"{repository}: no DVC here; python -m common.versions track PATH begins it")
    texts = {p: git(repository, "show", f"{commit}:{p.relative_to(repository)}") or "" for p, commit in wanted.items()}
    sums = {p.relative_to(root).with_suffix(""): md5_in(text) for p, text in texts.items()}
    if None in sums.values():
        bad = next(data for data, md5 in sums.items() if md5 is None)
        raise UserError(f"{version}: {bad}.dvc is no .dvc file of one file or folder in it")
    told = " and ".join(f"{data} (md5 {md5})" for data, md5 in sums.items())
    before = {p: p.read_text() if p.exists() else None for p in wanted}
    try:
        _write(texts)
        _fetch(root, texts, told)
        _checkout(root, list(texts))
    except UserError:
        _write(before)
        raise
    return f"restored from commit {next(iter(wanted.values()))[:8]}: {told}"


def _wanted(repository: Path, version: str, pointer: Path | None) -> dict[Path, str]:
    """The ``.dvc`` files to restore, and the commit to take each from."""
    commit = git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{version}^{{commit}}")
    if commit is not None:
        commit = commit.strip()
        names = git(repository, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
    else:
        names = git(repository, "log", "--all", "--format=", "--name-only", "-z")
    known = {repository / name for name in (names or "").split("\0") if name.endswith(".dvc")}
    pointers = sorted(p for p in known if pointer in (None, p))
    if commit is not None and not pointers:
        what = pointer.relative_to(repository) if pointer else "file that ends in .dvc"
        raise UserError(f"{version}: commit {commit[:8]} holds no {what}")
    if commit is not None:
        return dict.fromkeys(pointers, commit)
    sums: dict[tuple[Path, str], str] = {}
    for p in pointers if re.fullmatch(r"[0-9a-f]{4,32}(\.dir)?", version) else []:
        for at, md5 in recorded(repository, p, "--all"):
            if md5 and md5.startswith(version):
                sums.setdefault((p, md5), at)
    if len(sums) != 1:
        found = " and ".join(f"{md5} of {p.relative_to(repository).with_suffix('')}" for p, md5 in sums) or "neither"
        raise UserError(f"{version}: expected a git revision or the beginning of one MD5 sum, found {found}")
    return {p: at for (p, _), at in sums.items()}


def _fetch(root: Path, pointers: Collection[Path], told: str) -> None:
    """Bring what the cache lacks from the remote, since without it DVC's checkout would delete the data."""
    data = [p.relative_to(root).with_suffix("") for p in pointers]
    try:
        with open_dvc(root) as repo:
            if not repo.data_status(data, granular=True)["not_in_cache"]:
                return
            transfer(repo, "fetch", pointers)
            lacking = repo.data_status(data, granular=True)["not_in_cache"]
            if lacking:
                raise UserError(f"the remote lacks {lacking[0]}")
    except UserError as error:
        raise UserError(f"version {told} is neither whole in the cache nor in the remote ({error})") from error


def _checkout(root: Path, pointers: list[Path]) -> None:
    data = [p.with_suffix("") for p in pointers]
    for path in (path for each in data for path in each.rglob(".*.tmp")):
        if re.fullmatch(r"\.[\w-]{22}\.tmp", path.name):  # what DVC has half-copied when it was killed
            path.unlink()
    try:
        with open_dvc(root) as repo:
            repo.checkout(targets=list(map(str, pointers)))
    except UserError as error:
        lost = re.search(r"unsaved files.* to force\. (.+)", str(error))
        if lost is None:
            raise
        again = f"python -m common.versions track {' or '.join(map(str, data))}"
        raise UserError(f"{lost[1]}: in no version and would be lost; {again} keeps it") from error


def _write(texts: Mapping[Path, str | None]) -> None:
    for path, text in texts.items():
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            part.write_text(text)
            os.replace(part, path)
