"""DVC in a git repository: begun, opened, asked about data, and about what its cache and its remote hold."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from common.cli import UserError

STORE = "dvcstore"
"""The folder, in the repository and ignored by git, that is the remote where none is configured."""

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

DEBRIS = re.compile(r"\.[\w-]{22}\.tmp")
"""Names of the files that DVC leaves behind when it is killed while it copies."""


def pointer_of(data: Path) -> Path:
    """The ``.dvc`` file of a file or folder."""
    return data.with_name(f"{data.name}.dvc")


def md5_in(text: str | None) -> str | None:
    """The MD5 sum in the text of a ``.dvc`` file; None where there is none, or several."""
    found = re.findall(r"^[- ] md5: ([0-9a-f]{32}(?:\.dir)?)$", text or "", re.MULTILINE)
    return found[0] if len(found) == 1 else None


def find_dvc(start: Path, top: Path) -> Path | None:
    """The nearest folder with DVC, from `start` up to `top`."""
    return next((p for p in (start, *start.parents) if p.is_relative_to(top) and (p / ".dvc").is_dir()), None)


def begin_dvc(root: Path) -> Path:
    """Begin DVC in a folder, with a remote in :data:`STORE`; returns the folder.

    ``.dvc`` appears whole or not at all. (DVC's own `init` would also stage its files.)

    Raises
    ------
    UserError
        When the folder cannot be written.
    """
    part = root / ".dvc.part"
    try:
        (root / STORE).mkdir(exist_ok=True)
        (root / STORE / ".gitignore").write_text("*\n")
        if not (root / ".dvcignore").exists():
            (root / ".dvcignore").write_text(IGNORED)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / "config").write_text(CONFIG)
        os.replace(part, root / ".dvc")
    except OSError as error:
        raise UserError(f"{error.filename or root}: DVC cannot begin here ({error.strerror})") from error
    return root


def import_dvc():
    """DVC's class of repositories; nothing is sent to its makers.

    Raises
    ------
    UserError
        When DVC is not installed.
    """
    os.environ["DVC_NO_ANALYTICS"] = "1"
    try:
        from dvc.repo import Repo
    except ImportError as error:
        raise UserError("versions of data need DVC: pip install 'reproai[versions]'") from error
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logger = logging.getLogger(name)
        logger.propagate, logger.handlers = False, [logging.NullHandler()]
    logging.getLogger("dvc").setLevel(logging.INFO)  # so it shows its progress
    return Repo


@contextlib.contextmanager
def open_dvc(root: Path) -> Iterator:
    """DVC in a folder, as ``dvc.repo.Repo``; within the context its errors are :class:`UserError`.

    Raises
    ------
    UserError
        When DVC is not installed, or with what it says.
    """
    repo_class = import_dvc()
    from dvc.exceptions import DvcException

    _drop_torn_lock(root / ".dvc" / "tmp" / "rwlock")
    try:
        with repo_class(str(root)) as repo:
            repo.scm_context.quiet = True
            yield repo
    except (DvcException, OSError) as error:
        raise UserError(f"DVC: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def output_of(repo, pointer: Path):
    """The data that a ``.dvc`` file describes, as ``dvc.output.Output``.

    Raises
    ------
    UserError
        When the file is none, or none with data.
    """
    from dvc.dvcfile import load_file
    from dvc.exceptions import DvcException

    try:
        (out,) = load_file(repo, str(pointer)).stage.outs
        if out.hash_info:
            return out
    except (DvcException, ValueError):
        pass
    raise UserError(f"{pointer}: not a .dvc file of one file or folder")


def check_remote(repo) -> None:
    """Refuse a remote that is not configured or does not answer.

    Raises
    ------
    UserError
    """
    from dvc.config import NoRemoteError

    try:
        remote = repo.cloud.get_remote()
    except NoRemoteError as error:
        raise UserError("DVC has no remote; dvc remote add --default NAME URL sets one") from error
    if remote.fs.protocol == "local":
        if not os.path.isdir(remote.path):
            raise UserError(f"DVC's remote {remote.name}: {remote.path} is no folder; make it, or configure another")
        if not os.access(remote.path, os.W_OK):
            raise UserError(f"DVC's remote {remote.name}: {remote.path} cannot be written")
        return
    try:
        remote.fs.info(remote.path)
    except Exception as error:  # each kind of remote has errors of its own
        if isinstance(error, FileNotFoundError) and not isinstance(error.__cause__, OSError):
            return  # it answers: nothing has been pushed yet
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"DVC's remote {remote.name}: {remote.path} does not answer ({reason})") from error


def push_version(repo, pointer: Path, md5: str) -> int:
    """Copy a version to the remote, and see that all of it is there; returns how many objects were copied.

    DVC keeps an index of what the remote has, and does not look again: where files of the remote are gone, or an
    interrupted push has left them out, it would take them for pushed.

    Raises
    ------
    UserError
        When the remote still lacks some of it.
    """
    from dvc_data.hashfile.db import get_index
    from dvc_data.hashfile.hash_info import HashInfo

    pushed = repo.push(targets=[str(pointer)])
    remote = repo.cloud.get_remote()
    if remote.worktree or remote.fs.version_aware:  # they keep files under their names
        return pushed
    sums = {md5, *(info.value for info in _files_of(repo, md5))}
    lacking = sums - set(remote.odb.oids_exist(sums))
    if lacking:
        with contextlib.closing(get_index(remote.odb)) as index:
            index.clear()
        pushed += len(repo.cloud.push([HashInfo("md5", each) for each in sorted(lacking)]).transferred)
        lacking -= set(remote.odb.oids_exist(lacking))
    if lacking:
        raise UserError(f"DVC's remote {remote.name}: lacks {len(lacking)} objects of {pointer.stem} after the push")
    return pushed


def fetch_version(repo, data: Path, md5: str) -> None:
    """Bring a version into the cache, from the remote where the cache lacks some of it.

    Raises
    ------
    UserError
        When the remote does not have it, or does not answer.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    if _lacking(repo, md5):
        check_remote(repo)
        repo.cloud.pull([HashInfo("md5", md5)])
        repo.cloud.pull([HashInfo("md5", each) for each in _lacking(repo, md5)])
    if _lacking(repo, md5):
        raise UserError(f"{data}: version {md5} is neither in the cache nor in the remote")


def _lacking(repo, md5: str) -> list[str]:
    """What the cache lacks of a version: the list of a folder's files, or any of them."""
    cache = repo.cache.local
    if not cache.exists(md5):
        return [md5]
    return [info.value for info in _files_of(repo, md5) if not cache.exists(info.value)]


def _files_of(repo, md5: str) -> list:
    """The sums of the files of a folder, from its list in the cache; of a file none."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    return [info for _, _, info in Tree.load(repo.cache.local, HashInfo("md5", md5))] if md5.endswith(".dir") else []


def unsaved_file(repo, data: Path) -> Path | None:
    """A file of the present data that the cache does not hold; None where it holds all of them."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    if not data.exists():
        return None
    _, _, found = build(cache, str(data), repo.fs, "md5", dry_run=True, ignore=repo.dvcignore)
    files = [(key, info) for key, _, info in found] if isinstance(found, Tree) else [((), found.hash_info)]
    lost = (data.joinpath(*key) for key, info in files if not cache.exists(info.value))
    return next((path for path in lost if not DEBRIS.fullmatch(path.name)), None)


def _drop_torn_lock(path: Path) -> None:
    """DVC does not start with a list of locks that a killed process has left half-written."""
    try:
        json.loads(path.read_text())
    except ValueError:
        path.unlink(missing_ok=True)
    except OSError:
        pass
