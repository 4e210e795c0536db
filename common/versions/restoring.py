"""A former version of data brought back, with DVC."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from common.cli import UserError
from common.versions.dvc_repo import fetch_version, find_dvc, md5_in, open_dvc, pointer_of, unsaved_file
from common.versions.repository import Repository, find_place


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
        Before anything is changed: when there is no such version, its data are neither in the cache nor in the remote,
        or the present data are in no version and would be lost.
    """
    repository, data = find_place(path or Path("any"))
    repository.check_ready(committing=False)
    with repository.alone():
        wanted = _wanted(repository, version, path and pointer_of(data))
        root = find_dvc(next(iter(wanted)).parent, repository.root)
        if root is None:
            raise UserError(f"{repository.root}: no DVC here; python -m common.versions track PATH begins it")
        with open_dvc(root) as repo:
            for pointer, commit in wanted.items():
                _check_restorable(repo, repository, pointer, commit)
        _mark_interrupted(repository, {repository.name(pointer): version for pointer in wanted})
        for pointer, commit in wanted.items():
            pointer.parent.mkdir(parents=True, exist_ok=True)
            _replace(pointer, repository.text_at(commit, pointer))
        with open_dvc(root) as repo:
            repo.checkout(targets=[str(pointer) for pointer in wanted], force=True)
        _mark_interrupted(repository, {})
    restored = (f"{repository.name(p)[:-4]} (md5 {md5_in(repository.text_at(c, p))})" for p, c in wanted.items())
    return f"restored from commit {next(iter(wanted.values()))[:8]}: {', '.join(restored)}"


def _wanted(repository: Repository, version: str, pointer: Path | None) -> dict[Path, str]:
    """The ``.dvc`` files to restore, and the commit to take each from."""
    commit = repository.revision(version)
    if commit is not None:
        listed = repository.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).split("\0")
        held = [repository.root / name for name in listed if name.endswith(".dvc")]
        found = [p for p in held if pointer in (None, p)]
        if not found:
            what = repository.name(pointer) if pointer else "file that ends in .dvc"
            raise UserError(f"{version}: commit {commit[:8]} holds no {what}")
        return dict.fromkeys(found, commit)
    sums = {}
    if re.fullmatch(r"[0-9a-f]{4,32}(\.dir)?", version):
        for p in [pointer] if pointer else repository.all_files_ever(".dvc"):
            for commit in repository.history(p, everywhere=True):
                md5 = md5_in(repository.text_at(commit, p))
                if md5 and md5.startswith(version):
                    sums.setdefault((p, md5), commit)
    if len(sums) == 1:
        ((p, _), commit) = next(iter(sums.items()))
        return {p: commit}
    found = " and ".join(f"{md5} of {repository.name(p)[:-4]}" for p, md5 in sums) or "neither"
    raise UserError(f"{version}: expected a git revision or the beginning of one MD5 sum, found {found}")


def _check_restorable(repo, repository: Repository, pointer: Path, commit: str) -> None:
    md5 = md5_in(repository.text_at(commit, pointer))
    if md5 is None:
        raise UserError(f"{repository.name(pointer)}: no .dvc file of one file or folder in commit {commit[:8]}")
    data = pointer.with_suffix("")
    lost = unsaved_file(repo, data)
    if lost is not None:
        raise UserError(f"{lost}: in no version and would be lost; python -m common.versions track {data} keeps it")
    fetch_version(repo, data, md5)


def interrupted(repository: Repository) -> dict[str, str]:
    """The ``.dvc`` files whose checkout was begun and not ended, and the version asked for."""
    try:
        return json.loads((repository.folder / "data_checkout.json").read_text())
    except FileNotFoundError:
        return {}


def _mark_interrupted(repository: Repository, versions: dict[str, str]) -> None:
    _replace(repository.folder / "data_checkout.json", json.dumps(versions))


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
