"""Where a result comes from: code, packages, data, command, hardware and seeds."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag

from common.cli import UserError, escaped, masked
from common.state import PROJECT
from common.tracking.code import reached
from common.tracking.identity import packages

MOST = 1_000_000
"""Bytes of one tracked file's change, and of untracked code in all, that are recorded."""
LISTED = 1000
"""Files that are listed by name and size."""


def provenance(table, stream, compute, allow_changed_data: bool = False) -> tuple[dict[str, object], dict[str, bytes]]:
    """What it takes to repeat a run.

    Parameters
    ----------
    table : common.data.ImageTable
    stream : common.seeds.Stream
    compute : common.training.Compute
    allow_changed_data : bool
        Take data that are under DVC and differ from their ``.dvc`` file; the parameters say that they are no version.

    Returns
    -------
    params : dict
        Commit and whether files differ from it, SHA-256 of the lock, name and fingerprint of the data, their version
        (MD5 sum, path and git revision) where they are under DVC, root seed, command line, device, precision, whether
        algorithms are deterministic, threads, processor, cores, memory (GiB), Python and platform.
    artifacts : dict from name to bytes
        ``uncommitted.diff`` (``git apply`` turns the commit into the code that ran): what has changed of the files that
        git tracks, and the run's code that it does not; ``not_recorded.txt``: size and name of untracked files
        otherwise, and of changes over :data:`MOST`; and ``packages.txt``.

    Raises
    ------
    UserError
        When the data differ from their ``.dvc`` file, unless `allow_changed_data`.
    """
    commit = _git("rev-parse", "HEAD").decode().strip()
    is_dirty, artifacts = _uncommitted() if commit else (False, {"uncommitted.diff": b"", "not_recorded.txt": b""})
    lock = PROJECT / "requirements.txt"
    params = {
        "git_commit": commit or "no git repository",
        "git_dirty": is_dirty,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "no lock",
        "data_name": escaped(table.name),
        "data_fingerprint": table.fingerprint,
        **_data_version(table.version, allow_changed_data),
        "seed": stream.root_seed,
        "command": json.dumps([masked(word) for word in sys.argv]),
        "device": compute.description,
        "precision": compute.precision_description,
        "deterministic": compute.deterministic and not compute.mixed,
        "threads": compute.threads,
        "cpu": compute.cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return params, {**artifacts, "packages.txt": "\n".join([*packages(), ""]).encode()}


def source_tags(script: str, params: dict[str, object]) -> dict[str, str]:
    """What MLflow's own columns show: script, commit, from the parameters of :func:`provenance`, and user."""
    tags = {"mlflow.source.name": script, "mlflow.source.type": "LOCAL"}
    if re.fullmatch("[0-9a-f]+", commit := str(params["git_commit"])):
        tags["mlflow.source.git.commit"] = commit
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def dataset_of(table) -> DatasetInput:
    """Name, fingerprint and size of a :class:`common.data.ImageTable`, for MLflow's column of datasets."""
    name, classes = escaped(table.name), [escaped(name) for name in table.classes]
    dataset = Dataset(
        name=name[:500],
        digest=table.fingerprint[:16],
        source_type="local",
        source=json.dumps({"name": name}),
        profile=json.dumps({"num_rows": len(table), "classes": classes[:100]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _data_version(version: dict[str, str | None] | None, allow_changed: bool) -> dict[str, str]:
    if version is None:
        return {}
    path, md5, commit = (version[name] for name in ("path", "md5", "git_revision"))
    if md5 is None and not allow_changed:
        raise UserError(
            f"{path}: differs from {path}.dvc, so it is no version; python -m common.versions track {path} "
            "makes it one, --allow-changed-data trains on it as it is"
        )
    return {
        "data_version": md5 or f"none, differs from {path}.dvc",
        "data_version.path": path,
        "data_version.git_revision": commit or "not committed",
    }


def _git(*arguments: str, stdin: bytes = b"", **environment: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "--literal-pathspecs", "-C", str(PROJECT), *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout


def _uncommitted() -> tuple[bool, dict[str, bytes]]:
    """Whether there is a difference between the commit and the code that runs, and it, made beside the real index."""
    tracked, untracked = _files(), _files("--others", "--exclude-standard")
    code, total = [], 0
    for name in sorted(_code(untracked) & untracked, key=_size):
        if (total := total + _size(name)) > MOST:
            print(f"{name}: more than {MOST} bytes of untracked code; it is not recorded", file=sys.stderr)
        else:
            code.append(name)
    staged = [name for name in tracked if os.path.lexists(PROJECT / name)]
    with tempfile.TemporaryDirectory() as folder:
        objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
        beside = {
            "GIT_INDEX_FILE": str(Path(folder) / "index"),
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        _git("read-tree", "HEAD", **beside)
        _git("add", "--update", "--ignore-errors", "--", ".", **beside)
        names = b"\0".join(os.fsencode(name) for name in [*staged, *code])
        from_stdin = ("--pathspec-from-file=-", "--pathspec-file-nul")
        _git("add", "--force", "--ignore-errors", *from_stdin, stdin=names, **beside)
        diff = _git("diff-index", "--cached", "--binary", "HEAD", **beside)  # whatever the user's settings of git diff
    changes = re.split(rb"(?m)^(?=diff --git )", diff)
    left_out = [f"{len(change)} {_name_in(change)} (its change)" for change in changes if len(change) > MOST]
    others = sorted(untracked - set(code))
    left_out += [f"{_size(name)} {name if name.isprintable() else repr(name)}" for name in others[:LISTED]]
    if rest := others[LISTED:]:
        left_out.append(f"{sum(map(_size, rest))} in {len(rest)} more files")
    return bool(diff), {
        "uncommitted.diff": b"".join(change for change in changes if len(change) <= MOST),
        "not_recorded.txt": "".join(f"{line}\n" for line in left_out).encode(),
    }


def _files(*which: str) -> set[str]:
    return {os.fsdecode(name) for name in _git("ls-files", "-z", *which).split(b"\0") if name}


def _size(name: str) -> int:
    try:
        return (PROJECT / name).lstat().st_size
    except OSError:
        return 0


def _name_in(change: bytes) -> str:
    """The file that a change is of: its first line is ``diff --git a/NAME b/NAME``."""
    names = change.split(b"\n", 1)[0].removeprefix(b"diff --git ")
    return names[: len(names) // 2].decode(errors="replace").strip('"').removeprefix("a/")


def _code(untracked: set[str]) -> set[str]:
    """Files in the project folder of modules that are loaded, among them script and config, or that these import."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    folders = {folder: Path(folder).resolve() for folder in {os.path.dirname(file) for file in files if file}}
    ours = {folder: path for folder, path in folders.items() if path.is_relative_to(PROJECT)}
    loaded = {ours[folder] / name for folder, name in map(os.path.split, filter(None, files)) if folder in ours}
    found = {path for path in loaded if _is_ours(path)}
    names = {str(path.relative_to(PROJECT)) for path in found}
    if any(name.endswith((".py", ".pyi")) for name in untracked - names):
        names = {str(path.relative_to(PROJECT)) for path in reached(found, _is_ours)}
    return names


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(PROJECT) and not path.is_relative_to(sys.prefix) and "site-packages" not in path.parts
