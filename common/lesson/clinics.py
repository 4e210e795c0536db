"""Slices through phantoms as clinics have them: patients of several sites, each with its scanner, and few lesions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.data.made.phantoms import draw_phantoms, grey_png
from common.state import whole_folder

SCANNERS: dict[str, tuple[float, float]] = {"Northlight": (1.0, 0.0), "Southfield": (0.8, 25.0), "Eastman": (0.6, 60.0)}
"""What each site's scanner makes of a shade x, from 0 to 255: slope * x + offset."""


def make_clinic(
    folder: Path,
    scanners: Mapping[str, tuple[float, float]],
    n_patients: int = 200,
    n_slices: int = 2,
    size: int = 64,
    seed: int = 0,
    one_in: int = 4,
) -> Path:
    """Draw slices of :func:`common.data.made.phantoms.draw_phantoms` into a folder, dealt evenly to sites.

    Writes ``<class>/patient_<number>_<slice>.png``, ``info.csv`` (`files`, `type`, which is the class, `site` and
    `sex`), and ``groups.csv`` (`files`, `group`, the patient).

    Parameters
    ----------
    folder : Path
        Must not exist yet, or be empty.
    scanners : mapping from site to (slope, offset)
        Such as some of :data:`SCANNERS`.
    n_patients, n_slices, size, seed
        As there.
    one_in : int
        Of the patients with a lesion, who are half of all, only every so-manyth comes to the clinic; at least 1.

    Returns
    -------
    Path
        The folder.
    """
    sites, info, groups = list(scanners), ["files,type,site,sex\n"], ["files,group\n"]
    with whole_folder(folder) as scratch:
        for name in ("healthy", "lesion"):
            (scratch / name).mkdir()
        for patient, number, name, pixels in draw_phantoms(n_patients, n_slices, size, seed):
            pair = patient // 2  # of one without and one with a lesion
            if name == "lesion" and pair % one_in:
                continue
            nth = pair // one_in if name == "lesion" else pair
            site, sex = sites[nth % len(sites)], "FM"[nth // len(sites) % 2]
            slope, offset = scanners[site]
            file = f"{name}/patient_{patient:03d}_{number}.png"
            (scratch / file).write_bytes(grey_png(np.clip(slope * pixels + offset, 0, 255).astype(np.uint8)))
            info.append(f"{file},{name},{site},{sex}\n")
            groups.append(f"{file},patient_{patient:03d}\n")
        (scratch / "info.csv").write_text("".join(info))
        (scratch / "groups.csv").write_text("".join(groups))
    return folder
