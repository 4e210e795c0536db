"""Data under DVC: their present version recorded, and told."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

from common.cli import UserError
from common.versions.program import find_dvc, md5_in, open_dvc, pointer_of, transfer
from common.versions.repository import (
    commit_files,
    find_place,
    find_repository,
    git,
    ignoring_rule,
    push_branch,
    recorded,
)

STORE = "dvcstore"
"""The folder, in the repository and ignored by git, that is the remote where DVC is begun."""

CONFIG = f"""\
[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = ../{STORE}
"""

IGNORED = f"/{STORE}\ndataset_splits*.json\n"
"""What DVC ignores where it is begun: splits are no data, although those of a folder of images lie in it."""


def track(path: Path, push: bool = False, commit: bool = False, git_push: bool = False) -> str:
    """Put a file or folder under DVC, or record its new version; nothing is done where nothing changed.

    Where the repository has no DVC yet it gets it, with a remote in ``dvcstore/``.

    Parameters
    ----------
    path : Path
    push : bool
        Copy the data to the remote.
    commit : bool
        Commit the ``.dvc`` file, and what else of DVC's is new, with git; nothing else that is staged or changed.
    git_push : bool
        Push the branch to its upstream, so that others find the version; needs `push` and `commit`.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    UserError
        With what DVC or git says: what was done before stays, and the same command does the rest. Before anything is
        changed: when there is no such path or no repository, the path is inside of tracked data, git or DVC ignores
        the ``.dvc`` file, DVC has no remote or its folder is not there, or git cannot push.
    """
    if git_push and not (push and commit):
        raise UserError("--git-push: expected --push and --commit too, since others need the data and the commit")
    repository, data = find_place(path)
    pointer, name = pointer_of(data), data.relative_to(repository).as_posix()
    _check_trackable(repository, data, pointer)
    if git_push:
        push_branch(repository, "--dry-run")
    root = find_dvc(data.parent, repository) or _begin_dvc(repository)
    before = pointer.read_text() if pointer.exists() else None
    with open_dvc(root) as repo:
        if push:
            _check_remote(repo)
        repo.add(str(data), relink=False)
        text = pointer.read_text()
        md5 = md5_in(text) or ""
        did = ["recorded"] if text != before else []
        did += _push(repo, data, md5) if push else []
    message = f"Data: {name} is {md5[:8]}"
    if commit and commit_files(repository, _files_to_commit(repository, root, pointer), message):
        did.append("committed")
    if git_push and push_branch(repository):
        did.append("branch pushed")
    return f"{name}: {', '.join(did) or 'nothing to do'}; md5 {md5}"


def version_of(path: Path) -> dict[str, str | None] | None:
    """Which version of the data a path is, for a run to log.

    Returns
    -------
    dict or None
        None where neither the path nor a folder around it is under DVC. Otherwise ``path`` (of what is under DVC, in
        the repository), ``state`` (``clean``, or ``modified`` where the data differ from their ``.dvc`` file), ``md5``
        and ``git_revision``, the commit that brought this version: both None for modified data, which are no version,
        and the latter None while the version is not committed.

    Raises
    ------
    UserError
        When the ``.dvc`` file is none, or with what DVC says.
    """
    path = Path(os.path.abspath(path))
    path = path.parent.resolve() / path.name
    data = next((p for p in (path, *path.parents) if p.name and pointer_of(p).is_file()), path)
    pointer = pointer_of(data)
    repository = find_repository(data) if pointer.is_file() else None
    root = find_dvc(data.parent, repository) if repository else None
    if repository is None or root is None:
        return None
    md5 = md5_in(pointer.read_text())
    if md5 is None:
        raise UserError(f"{pointer}: not a .dvc file of one file or folder")
    name = data.relative_to(repository).as_posix()
    with open_dvc(root) as repo:
        if repo.data_status([data.relative_to(root)])["uncommitted"]:
            return {"path": name, "state": "modified", "md5": None, "git_revision": None}
    commits = chain(recorded(repository, pointer), recorded(repository, pointer, "--all"))
    at = next((commit for commit, its in commits if its == md5), None)
    return {"path": name, "state": "clean", "md5": md5, "git_revision": at}


def status(path: Path) -> str:
    """Which version the data at a path are, in one line."""
    repository, data = find_place(path)
    version = version_of(data)
    if version is None:
        return f"{path}: not under DVC"
    name, md5, commit = version["path"], version["md5"], version["git_revision"]
    hidden = _hidden(repository, repository / f"{name}.dvc")
    warning = f"; {hidden}" if hidden else ""
    if md5 is None:
        return f"{name}: modified, no version (differs from {name}.dvc){warning}"
    return f"{name}: clean, {f'commit {commit[:8]}' if commit else 'not committed'}, md5 {md5}{warning}"


def _check_trackable(repository: Path, data: Path, pointer: Path) -> None:
    if data == repository or not data.exists():
        raise UserError(f"{data}: no such file or folder in {repository}; expected data to track")
    whole = next((p for p in data.parents if p.is_relative_to(repository) and pointer_of(p).is_file()), None)
    if whole is not None:
        raise UserError(f"{data}: inside {whole}, which is tracked as a whole; track that")
    hidden = _hidden(repository, pointer)
    if hidden:
        raise UserError(f"{data}: {hidden}")


def _hidden(repository: Path, pointer: Path) -> str | None:
    """Why git does not see a ``.dvc`` file, or DVC does not, and what helps; None where both see it.

    DVC looks for ``.dvc`` files in folders that git does not ignore, and deletes the data of those it does not find.
    """
    folders = [p for p in reversed(pointer.parents) if p != repository and p.is_relative_to(repository)]
    for number, place in enumerate([*folders, pointer]):
        rule = ignoring_rule(repository, place if place == pointer else f"{place}/")
        if rule and ignoring_rule(repository, place):
            names = [folder.relative_to(repository).as_posix() for folder in folders]
            lines = [line for name in names[number:] for line in (f"!/{name}/", f"/{name}/?*")]
            lines.append("/".join(["!", *names[-1:], "*.dvc"]))
            return (
                f"git ignores {pointer.relative_to(repository)}, which is to keep the version ({rule}); "
                f"with {' '.join(lines)} as lines at the end of .gitignore it sees it"
            )
        if rule:
            better = re.sub(r"\*+(/?)$", r"?*\1", rule.rsplit(": ", 1)[1])
            return (
                f"DVC takes {place.relative_to(repository)}/ for ignored, and dvc checkout would delete the data "
                f"({rule}); with {better} in place of that line it does not"
            )
    return None


def _begin_dvc(root: Path) -> Path:
    """Make ``.dvc``, whole or not at all, and stage nothing as ``dvc init`` would."""
    part = root / ".dvc.part"
    try:
        (root / STORE).mkdir(exist_ok=True)
        (root / STORE / ".gitignore").write_text("*\n")
        if not (root / ".dvcignore").exists():
            (root / ".dvcignore").write_text(IGNORED)
        part.mkdir(exist_ok=True)
        (part / "config").write_text(CONFIG)
        os.replace(part, root / ".dvc")
    except OSError as error:
        raise UserError(f"{error.filename or root}: DVC cannot begin here ({error.strerror})") from error
    return root


def _check_remote(repo: Any) -> None:
    """Refuse a remote that is a missing folder, such as a disk that is not mounted: DVC would make it."""
    name = repo.config["core"].get("remote")
    if name is None:
        raise UserError("DVC has no remote; dvc remote add --default NAME URL sets one")
    url = repo.config["remote"].get(name, {}).get("url", "")
    if os.path.isabs(url) and not os.path.isdir(url):
        raise UserError(f"DVC's remote {name}: {url} is no folder; make it, or configure another")


def _push(repo: Any, data: Path, md5: str) -> list[str]:
    """Push data and say how many files; DVC does not look for single files that the remote has lost."""
    pushed = transfer(repo, "push", [pointer_of(data)])
    name = data.relative_to(repo.root_dir)
    lost = repo.data_status([name], granular=True, not_in_remote=True, remote_refresh=True)["not_in_remote"]
    if lost:
        again = f"without files/md5/{md5[:2]}/{md5[2:]} there the same command pushes what it lacks"
        raise UserError(f"DVC's remote has lost {lost[0]} (of {len(lost)}); {again}")
    return [f"{pushed} file{'s' * (pushed > 1)} pushed"] if pushed else []


def _files_to_commit(repository: Path, root: Path, pointer: Path) -> list[Path]:
    """The ``.dvc`` file, DVC's own files where they are new, and .gitignore where DVC alone has changed it."""
    own = [root / ".dvc" / "config", root / ".dvc" / ".gitignore", root / ".dvcignore"]
    held = {file: git(repository, "show", f"HEAD:{file.relative_to(repository)}") for file in own}
    files = [pointer, *(file for file in own if file.exists() and held[file] is None)]
    ignore = pointer.with_name(".gitignore")
    if ignore.exists():
        before = (git(repository, "show", f"HEAD:{ignore.relative_to(repository)}") or "").splitlines()
        now = ignore.read_text().splitlines()
        new = [re.sub(r"\\(.)", r"\1", line[1:]) for line in now[len(before) :]]  # /name, escaped
        if now[: len(before)] == before and all(ignore.with_name(f"{name}.dvc").exists() for name in new):
            files.append(ignore)
    return files
