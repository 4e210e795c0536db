"""Data under DVC: their present version recorded, and told."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.cli import UserError
from common.versions.dvc_repo import (
    STORE,
    begin_dvc,
    check_remote,
    find_dvc,
    import_dvc,
    md5_in,
    open_dvc,
    output_of,
    pointer_of,
    push_version,
)
from common.versions.repository import Repository, find_place
from common.versions.restoring import interrupted


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
        Before anything is changed: when there is no such path or no repository, git or DVC ignores the ``.dvc`` file,
        git keeps the data itself, the repository is in the middle of something, the branch has no upstream, or DVC's
        remote cannot be reached. After the commit: when git cannot push.
    """
    if git_push and not (push and commit):
        raise UserError("--git-push: expected --push and --commit too, since others need the data and the commit")
    import_dvc()
    repository, data = find_place(path)
    pointer = pointer_of(data)
    _check_trackable(repository, data, pointer)
    repository.check_ready(commit)
    if git_push:
        repository.upstream()
    with repository.alone():
        version = interrupted(repository).get(repository.name(pointer))
        if version is not None:
            again = f"python -m common.versions checkout {version} {path}"
            raise UserError(f"{path}: a checkout was interrupted and these data are no version; run it again: {again}")
        root = find_dvc(data.parent, repository.root) or begin_dvc(repository.root)
        with open_dvc(root) as repo:
            if push:
                check_remote(repo)
            changed = _has_changed(repo, pointer)
            if changed:
                repo.add(str(data), relink=False)
            pushed = push_version(repo, pointer, md5_in(pointer.read_text())) if push else 0
        md5 = md5_in(pointer.read_text())
        files = _files_to_commit(repository, root, pointer)
        committed = commit and repository.commit(files, f"Data: {repository.name(data)} is {md5[:8]}")
        branch_pushed = git_push and repository.push()
    did = {
        "recorded": changed,
        f"{pushed} object{'s' * (pushed > 1)} pushed": pushed,
        "committed": committed,
        "branch pushed": branch_pushed,
    }
    done = ", ".join(what for what, yes in did.items() if yes) or "nothing to do"
    return f"{repository.name(data)}: {done}; md5 {md5}"


def version_of(path: Path) -> dict[str, str | None] | None:
    """Which version of the data a path is, for a run to log.

    Returns
    -------
    dict or None
        None where neither the path nor a folder around it is under DVC. Otherwise ``path`` (of what is under DVC, in
        the repository), ``state`` (``clean``, or ``modified`` where the data differ from their ``.dvc`` file), ``md5``
        and ``git_revision``, the commit that brought this version: both None for modified data, which are no version,
        and the latter None while the version is not committed.
    """
    path = Path(os.path.abspath(path))
    path = path.parent.resolve() / path.name
    data = next((p for p in (path, *path.parents) if p.name and pointer_of(p).is_file()), None)
    if data is None:  # most often: then neither git nor DVC needs to be there
        return None
    repository = Repository.around(data)
    if repository is None:
        return None
    pointer, root = pointer_of(data), find_dvc(data.parent, repository.root)
    if root is None:
        return None
    with open_dvc(root) as repo:
        out = output_of(repo, pointer)
        md5 = None if out.workspace_status() else out.hash_info.value
    commits = repository.history(pointer) + repository.history(pointer, everywhere=True)
    at = next((r for r in commits if md5_in(repository.text_at(r, pointer)) == md5), None)
    return {
        "path": repository.name(data),
        "state": "clean" if md5 else "modified",
        "md5": md5,
        "git_revision": at if md5 else None,
    }


def status(path: Path) -> str:
    """Which version the data at a path are, in one line."""
    repository, data = find_place(path)
    version = version_of(data)
    if version is None:
        return f"{path}: not under DVC"
    hidden = _hidden(repository, pointer_of(repository.root / version["path"]))
    warning = f"; {hidden}" if hidden else ""
    if version["state"] == "modified":
        return f"{version['path']}: modified, no version (differs from {version['path']}.dvc){warning}"
    at = f"commit {version['git_revision'][:8]}" if version["git_revision"] else "not committed"
    return f"{version['path']}: clean, {at}, md5 {version['md5']}{warning}"


def _check_trackable(repository: Repository, data: Path, pointer: Path) -> None:
    if data.is_symlink() or not data.exists():
        found = "a symbolic link" if data.is_symlink() else "no such file or folder"
        raise UserError(f"{data}: {found}; expected data to track")
    if data == repository.root or data.suffix == ".dvc" or {".git", ".dvc", STORE} & set(data.parts):
        raise UserError(f"{data}: not data; expected a file or folder inside {repository.root}")
    if data.is_dir() and not any(data.iterdir()):
        raise UserError(f"{data}: an empty folder; expected data to track")
    whole = next((p for p in data.parents if p.is_relative_to(repository.root) and pointer_of(p).is_file()), None)
    if whole is not None:
        raise UserError(f"{data}: inside {whole}, which is tracked as a whole; track that")
    if repository.git("ls-files", "--", str(data)):
        raise UserError(f"{data}: kept by git itself; git rm -r --cached {repository.name(data)} leaves it to DVC")
    hidden = _hidden(repository, pointer)
    if hidden:
        raise UserError(f"{data}: {hidden}")


def _hidden(repository: Repository, pointer: Path) -> str | None:
    """Why git does not see a ``.dvc`` file, or DVC does not, and what helps; None where both see it.

    DVC looks for ``.dvc`` files in folders that git does not ignore, and deletes the data of those it does not find.
    """
    folders = [p for p in reversed(pointer.parents) if p != repository.root and p.is_relative_to(repository.root)]
    for number, place in enumerate([*folders, pointer]):
        rule = repository.ignoring_rule(place if place == pointer else f"{place}/")
        if rule and repository.ignoring_rule(place):
            names = [repository.name(folder) for folder in folders]
            lines = [line for name in names[number:] for line in (f"!/{name}/", f"/{name}/?*")]
            lines.append("/".join(["!", *names[-1:], "*.dvc"]))
            return (
                f"git ignores {repository.name(pointer)}, which is to keep the version ({rule}); "
                f"with {' '.join(lines)} as lines at the end of .gitignore it sees it"
            )
        if rule:
            better = re.sub(r"\*+(/?)$", r"?*\1", rule.rsplit(": ", 1)[1])
            return (
                f"DVC takes {repository.name(place)}/ for ignored, and dvc checkout would delete the data ({rule}); "
                f"with {better} in place of that line it does not"
            )
    return None


def _has_changed(repo, pointer: Path) -> bool:
    """Whether data differ from their ``.dvc`` file; one that a killed process has left half-written is removed."""
    if not pointer.exists():
        return True
    try:
        return bool(output_of(repo, pointer).status())
    except UserError:
        if pointer.read_text().startswith("outs:\n- md5: ") or not pointer.read_text():
            pointer.unlink()
            return True
        raise


def _files_to_commit(repository: Repository, root: Path, pointer: Path) -> list[Path]:
    """The ``.dvc`` file, DVC's own files where they are new, and .gitignore where DVC alone has changed it."""
    own = [root / ".dvc" / "config", root / ".dvc" / ".gitignore", root / ".dvcignore"]
    files = [pointer] + [file for file in own if file.exists() and repository.text_at("HEAD", file) is None]
    ignore = pointer.with_name(".gitignore")
    if ignore.exists():
        before = (repository.text_at("HEAD", ignore) or "").splitlines()
        now = ignore.read_text().splitlines()
        new = [re.sub(r"\\(.)", r"\1", line[1:]) for line in now[len(before) :]]  # /name, escaped
        if now[: len(before)] == before and all(ignore.with_name(f"{name}.dvc").exists() for name in new):
            files.append(ignore)
    return files
