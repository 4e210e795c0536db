"""A zip file of results: its first member lists the others with sizes and SHA-256, and all are checked at first."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from common.cli import UserError, writing
from common.progress import one_by_one
from common.results.sizes import in_words_of
from common.state import regular, state_folder, whole

MANIFEST = "manifest.json"
PRODUCT = "reproai results"
FORMAT = 1
"""Of the archive; one of a higher number is of a newer version of the project."""
BLOCK = 1 << 20
MOST_MANIFEST = 1 << 28
MOST_MEMBERS = 2_000_000
MOST_RATIO = 200
"""How many times as large as in the archive its members may be: above this it is no archive of results."""
PACKED = {".safetensors", ".npz", ".png", ".zip", ".pt", ".gz"}
"""Kinds of files that do not get smaller."""


def write_archive(path: Path, files: Mapping[str, Path | bytes], about: Mapping[str, Any]) -> None:
    """Write files into an archive by their names there; it appears whole or not at all, with the same bytes each time.

    Raises
    ------
    UserError
        When it cannot be written, or a name is one that :func:`open_archive` refuses.
    """
    if odd := next((name for name in files if not _is_inside(name)), None):
        raise UserError(f"{odd!r}: has a backslash or a control character in its name; expected another name")
    members = {name: dict(zip(("bytes", "sha256"), _digest(files[name]), strict=True)) for name in sorted(files)}
    manifest = {"product": PRODUCT, "format": FORMAT, **about, "members": members}
    with writing(path), whole(path) as part, ZipFile(part, "w") as archive:
        archive.writestr(_info(MANIFEST), json.dumps(manifest, indent=1))
        for name in one_by_one(members, "packing", "file"):
            content = files[name]
            with archive.open(_info(name), "w", force_zip64=True) as target:
                if isinstance(content, bytes):
                    target.write(content)
                else:
                    with open(content, "rb") as source:
                        shutil.copyfileobj(source, target, BLOCK)


def _info(name: str) -> ZipInfo:
    info = ZipInfo(name)  # of 1980, so that the bytes do not depend on the time
    info.compress_type = ZIP_STORED if Path(name).suffix in PACKED else ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _digest(content: Path | bytes) -> tuple[int, str]:
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


class Archive:
    """An archive whose members were all checked."""

    def __init__(self, path: Path, file: ZipFile, manifest: Mapping[str, Any]):
        self.path, self._file, self.manifest = path, file, manifest

    def names(self, folder: str) -> list[str]:
        """The members below a folder of the archive, as they are called from there."""
        return [name.removeprefix(f"{folder}/") for name in self.manifest["members"] if name.startswith(f"{folder}/")]

    def read(self, name: str) -> bytes:
        """A member; a UserError where the archive has none of this name."""
        try:
            return self._file.read(name)
        except KeyError:
            raise UserError(f"{self.path}: {name} is missing; expected an archive of common.results export") from None

    def extract(self, name: str, to: Path) -> None:
        """Write a member to a file; the folders above it are made."""
        to.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open(name) as source, open(to, "wb") as target:
            shutil.copyfileobj(source, target, BLOCK)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """An archive of results, once all of it is known to be whole and harmless: nothing was written before that.

    Raises
    ------
    UserError
        When it cannot be read, is none, is of a newer version, is damaged or incomplete, or has a member that is a
        link, would lie outside of it, is not listed, or is larger than it says.
    """
    try:
        with ZipFile(regular(path)) as file:
            manifest = _manifest(path, file)
            _check_members(path, file, manifest)
            yield Archive(path, file, manifest)
    except (BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # of zipfile
        raise UserError(f"{path}: damaged, or no archive of common.results export ({error})") from None
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from None


def _manifest(path: Path, file: ZipFile) -> dict[str, Any]:
    infos = file.infolist()
    if not infos or infos[0].filename != MANIFEST or not infos[0].file_size <= MOST_MANIFEST:
        raise UserError(f"{path}: not an archive of common.results export; expected {MANIFEST} as its first member")
    try:
        manifest = json.loads(_read(file, infos[0], infos[0].file_size))
        product, number, members = (manifest[name] for name in ("product", "format", "members"))
        sizes = [int(member["bytes"]) for member in members.values() if len(member["sha256"]) == 64]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: {MANIFEST} is not that of an archive of common.results export") from None
    if product != PRODUCT:
        raise UserError(f"{path}: an archive of {product!r:.40}; expected one of {PRODUCT!r}")
    if number != FORMAT:
        raise UserError(f"{path}: of a newer version (format {number!r:.20}); expected format {FORMAT}")
    if len(sizes) != len(members) or min(sizes, default=0) < 0:
        raise UserError(f"{path}: {MANIFEST} is not that of an archive of common.results export")
    packed = path.stat().st_size
    if sum(sizes) > MOST_RATIO * packed or len(infos) > MOST_MEMBERS:
        raise UserError(
            f"{path}: would be {in_words_of(sum(sizes))} from {in_words_of(packed)}; no results are like that"
        )
    place = next(folder for folder in (state_folder(), *state_folder().parents) if folder.exists())
    if sum(sizes) > (free := shutil.disk_usage(place).free):
        raise UserError(f"{path}: takes {in_words_of(sum(sizes))}, and the disk has {in_words_of(free)} left")
    return manifest


def _check_members(path: Path, file: ZipFile, manifest: Mapping[str, Any]) -> None:
    members, seen = manifest["members"], set()
    for info in file.infolist()[1:]:
        name = info.filename
        mode = info.external_attr >> 16
        if not _is_inside(name):
            raise UserError(f"{path}: its member {name!r:.80} leads out of it; expected names within")
        if info.is_dir() or (mode and not stat.S_ISREG(mode)):
            raise UserError(f"{path}: its member {name!r:.80} is a link or no file; expected files")
        if name in seen or name not in members:
            what = "there twice" if name in seen else f"not in {MANIFEST}"
            raise UserError(f"{path}: its member {name!r:.80} is {what}; expected each once, and listed")
        seen.add(name)
        expected = members[name]
        if info.file_size != expected["bytes"]:
            raise UserError(f"{path}: its member {name!r:.80} has {info.file_size} bytes; expected {expected['bytes']}")
    if missing := sorted(members.keys() - seen):
        raise UserError(f"{path}: its member {missing[0]!r:.80} is missing, as {len(missing) - 1} more; it was cut")
    for info in one_by_one(file.infolist()[1:], "checking", "file"):
        digest = hashlib.sha256()
        for block in _blocks(file, info, info.file_size):
            digest.update(block)
        if digest.hexdigest() != members[info.filename]["sha256"]:
            raise UserError(f"{path}: its member {info.filename!r:.80} is damaged; expected what {MANIFEST} says of it")


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    bad = not name or re.search(r"[\\\x00-\x1f\ud800-\udfff]", name) or name.startswith("/") or name != "/".join(parts)
    return not bad and ".." not in parts


def _read(file: ZipFile, info: ZipInfo, most: int) -> bytes:
    return b"".join(_blocks(file, info, most))


def _blocks(file: ZipFile, info: ZipInfo, most: int) -> Iterator[bytes]:
    """What a member really holds, refused where that is more than it says."""
    total = 0
    with file.open(info) as source:
        stream: IO[bytes] = source
        while block := stream.read(BLOCK):
            total += len(block)
            if total > most:
                raise BadZipFile(f"{info.filename} is larger than it says")
            yield block
    if total != most:
        raise BadZipFile(f"{info.filename} is shorter than it says")
