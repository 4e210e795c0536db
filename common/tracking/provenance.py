"""Where a result comes from: code, packages, data, command, hardware and seeds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from common.cli import UserError, masked, printable
from common.state import PROJECT


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
        ``uncommitted.diff`` (``git apply`` turns the commit into the code that ran) and ``packages.txt``.

    Raises
    ------
    UserError
        When the data differ from their ``.dvc`` file, unless `allow_changed_data`.
    """
    commit = _git("rev-parse", "HEAD").decode().strip()
    diff = _uncommitted() if commit else b""
    lock = PROJECT / "requirements.txt"
    params = {
        "git_commit": commit or "no git repository",
        "git_dirty": bool(diff),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "no lock",
        "data_name": printable(table.name),
        "data_fingerprint": table.fingerprint,
        **_data_version(table.version, allow_changed_data),
        "seed": stream.root_seed,
        "command": json.dumps([masked(word) for word in sys.argv]),
        "device": compute.description,
        "precision": compute.precision_description,
        "deterministic": compute.deterministic,
        "threads": compute.threads,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    packages = sorted(f"{d.metadata['Name']}=={d.version}" for d in distributions())
    return params, {"uncommitted.diff": diff, "packages.txt": "\n".join([*packages, ""]).encode()}


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


def _git(*arguments: str, **environment: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],
            capture_output=True,
            env={**os.environ, **environment},
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout


def _uncommitted() -> bytes:
    """The difference between the commit and the files as they are, new ones too, made beside the real index."""
    with tempfile.TemporaryDirectory() as folder:
        objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
        beside = {
            "GIT_INDEX_FILE": str(Path(folder) / "index"),
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        _git("read-tree", "HEAD", **beside)
        _git("add", "--all", "--ignore-errors", "--", ".", **beside)
        return _git("diff-index", "--cached", "--binary", "HEAD", **beside)  # whatever the user's settings of git diff


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
