"""The image table: sorted files with their labels, groups and fingerprint, and their decoded pixels."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from common.cli import UserError, escaped
from common.data.cache import cached_array, copied_array, open_array
from common.data.copies import first_copies, united
from common.data.decoded import cache_name, decode_all, digest_files
from common.data.decoding import png_of
from common.data.scans import decoders
from common.state import cache_folder


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Labelled images, in the order of their file names.

    Attributes
    ----------
    name : str
        Name of the data set, and of its folder under ``data/``.
    root : Path
        Folder that `files` are relative to.
    files : tuple of str
        Sorted relative paths with forward slashes; of a file of several images with the part, ``head.nii#axial=90``.
    labels : ndarray of int64, shape (n,)
        Index into `classes`.
    classes : tuple of str
        Class names; of two, the second is the positive one.
    groups : ndarray of str, shape (n,), or None
        Images of one group (one animal, one patient) belong on the same side of every split.
    grouped_by : str
        What a group is, in one word: ``subject``, ``run``, …; ``study`` or ``file`` where patients are not known.
    about : dict, optional
        How arrays were made from recordings: :attr:`common.eeg.epochs.Epochs.metadata`; or under ``scans`` how medical
        images are shown: :func:`common.medical.list_scans`.
    digests : tuple of str
        SHA-256 of each file's bytes, with the part of it; of arrays, and of images in idx files, of their values.
    skipped : tuple of str
        What was left out, and why, for people to read.
    pixels : ndarray of uint8, shape (n, C, size, size), or None
        Decoded images, memory-mapped; see :func:`decode`. C is 3 (RGB), or 1 where all images are grey.
    cached : bool
        Whether what is computed from the images is kept under ``cache/``.
    parts : ndarray of str, shape (n,), or None
        What each image is for, where the data come split: ``train``, ``dev`` or ``test``.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None
    digests: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    pixels: np.ndarray | None = field(default=None, repr=False)
    cached: bool = True
    grouped_by: str = "group"
    about: dict | None = field(default=None, repr=False)
    parts: np.ndarray | None = None

    @property
    def is_arrays(self) -> bool:
        """Whether it holds arrays instead of images: float32, of any shape (n, ...)."""
        return self.root.suffix == ".npz" and self.pixels is not None and self.pixels.dtype == np.float32

    @property
    def has_scans(self) -> bool:
        """Whether some of its images are medical ones: DICOM or NIfTI."""
        return "scans" in (self.about or {})

    @property
    def units(self) -> str:
        """What splits put on one side or another, in the plural: ``images``, ``groups of images``, ``subjects``, …"""
        if self.groups is not None and self.grouped_by != "group":
            return f"{self.grouped_by}s"
        of_samples = "samples" if self.root.suffix == ".npz" else "images"
        if self.groups is None:
            return of_samples if self.unit_of is None else f"different {of_samples}"
        return f"groups of {of_samples}"

    @cached_property
    def same_as(self) -> np.ndarray:
        """For each image the row of the first one with equal pixels (n,): see :func:`first_copies`."""
        key = f"{self.fingerprint[:24]}-{decoders(self.has_scans)}"
        return first_copies(self.root, self.files, self.digests, self.pixels, key, self.cached)

    @cached_property
    def unit_of(self) -> np.ndarray | None:
        """What splits keep on one side, a number for each image (n,): groups and copies, see :func:`united`.

        Raises
        ------
        UserError
            When images with equal pixels are of different classes.
        """
        wrong = np.flatnonzero(self.labels != self.labels[self.same_as])
        if wrong.size:
            pair = " and ".join(
                f"{self.files[i]} ({self.classes[self.labels[i]]})" for i in (self.same_as[wrong[0]], wrong[0])
            )
            more = f"; {wrong.size - 1} more such pairs" if wrong.size > 1 else ""
            raise UserError(
                f"{self.root}: {pair} are copies of each other{more}; expected one class for all copies of an image"
            )
        return united(self.groups, self.same_as)

    @cached_property
    def version(self) -> dict[str, str | None] | None:
        """Which version of the data this is, where it is under DVC: see :func:`common.versions.version_of`."""
        data = self.root.parent.resolve() / self.root.name
        if not any(path.with_name(f"{path.name}.dvc").is_file() for path in (data, *data.parents) if path.name):
            return None
        from common.versions import version_of

        return version_of(self.root)

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict:
        """Pickle the pixels by their path, so that processes share the pages."""
        state = dict(self.__dict__)
        if isinstance(self.pixels, np.memmap):
            state["pixels"] = Path(self.pixels.filename), self.pixels.shape[-1]
        return state

    def __setstate__(self, state: dict) -> None:
        pixels = state["pixels"]
        self.__dict__.update(state)
        if isinstance(pixels, tuple):
            self.__dict__["pixels"] = None
            self.__dict__["pixels"] = self._find(*pixels)

    def _find(self, path: Path, size: int) -> np.ndarray:
        """The pixels on this machine: in a cache of its own, on a disk that it shares, or decoded from the images."""
        own, decoded = cache_folder() / path.name, cache_folder() / f"{cache_name(self, size)}.npy"
        for there in (own, decoded):
            if there.exists():
                return open_array(there)
        if path.exists():
            return copied_array(path) if os.environ.get("REPROAI_CACHE") else open_array(path)
        here, are_images = socket.gethostname(), path.name.startswith("images-")
        if not are_images or not self.root.exists():
            source = f" nor {self.root}" if are_images else ""
            raise UserError(
                f"{here}: neither {path} nor {own}{source} is there; expected REPROAI_STATE on a shared disk"
            )
        if not path.stem.endswith(f"-{decoders(self.has_scans)}"):
            found = f"images would be decoded by {decoders(self.has_scans)}"
            raise UserError(f"{here}: {found}; expected the version of the run, as in {path.name}")

        def make(new) -> tuple[np.ndarray, dict]:
            if digest_files(self.root, list(self.files)) != self.digests:
                found = f"other images than those of the run, fingerprint {self.fingerprint[:12]}"
                raise UserError(f"{here}: {self.root}: {found}")
            pixels, notes = decode_all(self, size, new)
            for file, reason in notes["unreadable"].items():
                raise UserError(f"{here}: {self.root / file}: {reason}; the run could read it")
            return pixels, notes

        return cached_array(decoded.stem, make)[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the file names, classes, groups and contents: equal tables have equal fingerprints."""
        groups = [None] * len(self) if self.groups is None else self.groups.tolist()
        names = [self.classes[label] for label in self.labels]
        rows = list(zip(self.files, names, groups, self.digests, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def describe(self) -> str:
        """Name, counts per class and group, fingerprint, and a line for each thing left out."""
        counts = ", ".join(f"{(self.labels == i).sum()} {name}" for i, name in enumerate(self.classes))
        n_groups = 0 if self.groups is None else len(set(self.groups))
        groups = f" in {n_groups} {self.grouped_by}{'s' * (n_groups > 1)}" if n_groups else ""
        kind = f"arrays of {self.pixels.shape[1:]}" if self.is_arrays else "images"
        if self.parts is not None:
            kinds = [(part, int((self.parts == part).sum())) for part in ("train", "dev", "test")]
            groups += ", split as given: " + ", ".join(f"{count} {part}" for part, count in kinds if count)
        first = f"data {self.name}: {len(self)} {kind}{groups} ({counts}), fingerprint {self.fingerprint[:12]}"
        notes = [f"  left out: {line}" for line in self.skipped]
        of_pixels = len(self) - len(set(self.same_as.tolist()))
        if of_pixels:
            of_bytes = len(self) - len(set(self.digests))
            copies = f"{of_pixels} {kind.split()[0]} are copies of others, {of_bytes} of them byte for byte"
            also = "" if self.groups is None else f", with their {self.grouped_by}s"
            notes.append(f"  {copies}" + f": copies are on one side of every split{also}" * (self.parts is None))
        return "\n".join(map(escaped, [first, *notes]))

    def example(self) -> bytes | np.ndarray:
        """The first image file, or the first array, (1, ...); a medical image as PNG, without the tags of its file."""
        if self.is_arrays:
            return np.array(self.pixels[:1])
        first = self.root / self.files[0]
        return png_of(first) if self.has_scans else first.read_bytes()

    def without(self, unreadable: dict[str, str]) -> ImageTable:
        """The table less some files; `unreadable` maps each to the reason."""
        keep = [i for i, name in enumerate(self.files) if name not in unreadable]
        return replace(
            self,
            files=tuple(self.files[i] for i in keep),
            labels=self.labels[keep],
            groups=None if self.groups is None else self.groups[keep],
            digests=tuple(self.digests[i] for i in keep),
            parts=None if self.parts is None else self.parts[keep],
            skipped=self.skipped + tuple(f"{name}: {reason}" for name, reason in unreadable.items()),
        )


def decode(table: ImageTable, size: int, skip_unreadable: bool = False) -> ImageTable:
    """The table with its `pixels` at `size` x `size`, decoded once and kept under ``cache/`` unless it is not `cached`.

    Raises
    ------
    UserError
        Naming the first image that cannot be read, unless `skip_unreadable`, which leaves such images out.
    """
    if table.is_arrays or (table.pixels is not None and table.pixels.shape[-1] == size):
        return table

    make = partial(decode_all, table, size)
    pixels, notes = cached_array(cache_name(table, size), make, table.cached)
    unreadable = notes["unreadable"]
    if unreadable and not skip_unreadable:
        file, reason = next(iter(unreadable.items()))
        more = f"; {len(unreadable) - 1} more like it" if len(unreadable) > 1 else ""
        raise UserError(f"{table.root / file}: {reason}{more}; --skip-unreadable leaves such images out")
    return replace(table.without(unreadable), pixels=pixels)


def check_classes(table: ImageTable) -> ImageTable:
    """The table, if it has images of at least two classes; else a UserError with what was found."""
    found = Counter(table.classes[label] for label in table.labels)
    if len(found) < 2:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(found.items())) or "none"
        kind = "samples" if table.is_arrays else "images"
        raise UserError(f"{table.root}: expected {kind} of two or more classes, found {len(found)}: {listed}")
    return table
