"""The heads of the embedded medical data set: their parts, what makes a patient, and a slice as a scanner shows it.

As in :mod:`common.data.made.raster`, only ``+ - * /``, square roots and comparisons of IEEE floats are used, so that
the same numbers come out on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from common.data.made.raster import between, smooth


@dataclass(frozen=True)
class Part:
    """An ellipsoid that adds `value` to the head's density.

    Lengths are in half widths of the field of view: x to the right, y to the forehead, z to the crown. `t` is the
    tangent of half the angle by which it is turned in the plane of the slices, `soft` the width of its border.
    """

    value: float
    radii: tuple[float, float, float]
    centre: tuple[float, float, float]
    t: float = 0.0
    soft: float = 0.0

    def cover(self, x: np.ndarray, y: np.ndarray, level: float, pixel: float) -> np.ndarray:
        """How much of each pixel at (x, y), `pixel` wide, lies inside the section at a level: float32 in [0, 1]."""
        height = (level - self.centre[2]) / self.radii[2]
        if height * height >= 1:
            return np.zeros_like(x)
        shrunk = math.sqrt(1 - height * height)
        a, b = self.radii[0] * shrunk, self.radii[1] * shrunk
        c, s = (1 - self.t * self.t) / (1 + self.t * self.t), 2 * self.t / (1 + self.t * self.t)
        dx, dy = x - self.centre[0], y - self.centre[1]
        u, v = (c * dx + s * dy) / a, (c * dy - s * dx) / b
        edge = min(a, b) / (pixel + self.soft)
        return np.clip(0.5 + (1 - np.sqrt(u * u + v * v)) * edge, 0, 1)

    def varied(self, rng: np.random.Generator, amount: float) -> Part:
        """The part of another head: its value, radii, place and angle changed a little."""
        return replace(
            self,
            value=self.value * between(rng, 1 - 2 * amount, 1 + 2 * amount),
            radii=tuple(r * between(rng, 1 - amount, 1 + amount) for r in self.radii),
            centre=tuple(c + between(rng, -0.2, 0.2) * amount for c in self.centre),
            t=self.t + between(rng, -0.3, 0.3) * amount,
        )


AIR = -0.35
SKULL = (
    Part(0.6, (0.735, 0.965, 0.85), (0, 0, 0)),  # skin
    Part(0.75, (0.69, 0.92, 0.81), (0, 0, 0)),
    Part(-0.8, (0.6624, 0.874, 0.78), (0, -0.0184, 0)),  # what the skull encloses
)
BRAIN = (
    Part(-0.2, (0.075, 0.29, 0.34), (0.15, 0.03, 0.02), -0.1584),  # lateral ventricles, turned by 18 degrees
    Part(-0.2, (0.075, 0.29, 0.34), (-0.15, 0.03, 0.02), 0.1584),
    Part(-0.18, (0.05, 0.2, 0.2), (0.19, -0.36, -0.02), 0.2),  # their horns at the back
    Part(-0.18, (0.05, 0.2, 0.2), (-0.19, -0.36, -0.02), -0.2),
    Part(-0.14, (0.02, 0.13, 0.16), (0, -0.06, -0.1)),  # third ventricle
    Part(0.03, (0.21, 0.25, 0.41), (0, 0.35, -0.15), soft=0.1),
    Part(0.04, (0.1, 0.14, 0.2), (0.11, -0.08, -0.1), soft=0.03),  # thalami
    Part(0.04, (0.1, 0.14, 0.2), (-0.11, -0.08, -0.1), soft=0.03),
    Part(0.05, (0.06, 0.16, 0.2), (0.27, 0.13, -0.08), -0.12, soft=0.03),  # basal ganglia
    Part(0.05, (0.06, 0.16, 0.2), (-0.27, 0.13, -0.08), 0.12, soft=0.03),
    Part(-0.14, (0.15, 0.016, 0.2), (0.5, 0.14, -0.1), 0.15),  # Sylvian fissures
    Part(-0.14, (0.15, 0.016, 0.2), (-0.5, 0.14, -0.1), -0.15),
    Part(-0.12, (0.022, 0.2, 0.7), (0, 0.68, 0)),  # between the hemispheres
    Part(-0.1, (0.018, 0.18, 0.7), (0, -0.7, 0)),
    Part(0.2, (0.007, 0.24, 0.7), (0, 0.66, 0)),  # falx
    Part(0.2, (0.007, 0.22, 0.7), (0, -0.68, 0)),
)
"""Roughly the ten ellipsoids of the modified Shepp-Logan phantom, the ventricles slimmer, and some anatomy more."""

CALCIFIED = ((0.5, (0, -0.2)), (0.4, (0.2, -0.3)), (0.4, (-0.2, -0.3)), (0.3, (0.01, 0.6)), (0.3, (0.0, -0.62)))
"""Where harmless calcifications are usual (pineal gland, choroid plexus, falx), and how often."""


@dataclass(frozen=True, eq=False)
class Patient:
    """What the slices of one patient share.

    Attributes
    ----------
    skull, parts : tuple of Part
    folds : ndarray of float32, shape (5, 25, 25)
        Noise in [0, 1) on a lattice of levels, y and x, from which the folds of the brain come.
    level : float
        Height of the middle slice.
    stretch : tuple of float
        Width and length of this head relative to others.
    t : float
        Tangent of half the angle by which the head lies turned.
    """

    skull: tuple[Part, ...]
    parts: tuple[Part, ...]
    folds: np.ndarray
    level: float
    stretch: tuple[float, float]
    t: float


def a_patient(rng: np.random.Generator, lesion: bool) -> Patient:
    """A patient with or without a lesion, which all slices near the patient's level cut."""
    size = between(rng, 0.6, 1.25)  # ventricles grow with age
    parts = [p.varied(rng, 0.1) for p in BRAIN]
    parts[:5] = [replace(p, radii=(p.radii[0] * size, p.radii[1], p.radii[2])) for p in parts[:5]]
    level = between(rng, -0.15, 0.25)
    spots = [place for chance, place in CALCIFIED if rng.random() < chance]
    spots += [_inside_the_brain(rng) for _ in range(int(rng.integers(4)))]
    for x, y in spots:
        r = between(rng, 0.012, 0.03)
        centre = (x + between(rng, -0.02, 0.02), y + between(rng, -0.03, 0.03), level + between(rng, -0.1, 0.1))
        parts.append(Part(between(rng, 0.15, 0.5), (r, r * between(rng, 0.8, 1.6), 0.1), centre, between(rng, -1, 1)))
    parts.append(Part(between(rng, 0.05, 0.3), (0.06, 0.05, 0.7), (0, -0.8, 0), soft=0.03))  # sagittal sinus
    if lesion:
        parts += _lesion(rng, level)
    return Patient(
        skull=tuple(p.varied(rng, 0.008) for p in SKULL),
        parts=tuple(parts),
        folds=rng.random((5, 25, 25), dtype=np.float32),
        level=level,
        stretch=(between(rng, 0.92, 1.06), between(rng, 0.92, 1.04)),
        t=between(rng, -0.1, 0.1),
    )


def _lesion(rng: np.random.Generator, level: float) -> list[Part]:
    """A swelling, darker than the brain, with a denser, lobed mass in it."""
    x, y = _inside_the_brain(rng)
    z, r, density = level + between(rng, -0.04, 0.04), between(rng, 0.09, 0.15), between(rng, 0.12, 0.23)
    t, wide = between(rng, -1, 1), between(rng, 1.6, 2.2) * r
    parts = [Part(-0.5 * density, (wide, wide * between(rng, 0.8, 1.2), 0.35), (x, y, z), t, soft=0.08)]
    for _ in range(2):
        centre = (x + between(rng, -0.4, 0.4) * r, y + between(rng, -0.4, 0.4) * r, z)
        parts.append(Part(0.7 * density, (r, r * between(rng, 0.7, 1.3), 0.25), centre, between(rng, -1, 1), soft=0.03))
    return parts


def _inside_the_brain(rng: np.random.Generator) -> tuple[float, float]:
    """A place that is neither at the brain's rim nor on the midline."""
    while True:
        x, y = between(rng, -0.5, 0.5), between(rng, -0.68, 0.65)
        if abs(x) > 0.1 and x * x / 0.25 + y * y / 0.46 < 1:
            return x, y


def _fold_noise(folds: np.ndarray, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """The noise of a lattice at points of a slice, as smooth as a cubic."""
    slab = min(max((level + 0.5) * 4, 0), 3.999)
    below, part = int(slab), smooth(slab - int(slab))
    plane = folds[below] + np.float32(part) * (folds[below + 1] - folds[below])
    u, v = (np.clip((a + 1) * 12, 0, 23.99) for a in (x, y))
    i, j = u.astype(np.int64), v.astype(np.int64)
    u, v = smooth(u - np.floor(u)), smooth(v - np.floor(v))
    near = plane[j, i] + u * (plane[j, i + 1] - plane[j, i])
    far = plane[j + 1, i] + u * (plane[j + 1, i + 1] - plane[j + 1, i])
    return near + v * (far - near)


def draw_slice(patient: Patient, level: float, rng: np.random.Generator, size: int) -> np.ndarray:
    """A slice through a patient's head at a level, as a scanner shows it.

    Parameters
    ----------
    rng : Generator
        What is this slice's own: how the head lies, the window, the shading and the noise.

    Returns
    -------
    ndarray of uint8, shape (size, size)
    """
    zoom = between(rng, 1.04, 1.12)
    grid = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / size * 2 - 1) * np.float32(zoom)
    right, up = grid[None, :] - between(rng, -0.03, 0.03), between(rng, -0.03, 0.03) - grid[:, None]
    t = patient.t + between(rng, -0.03, 0.03)
    c, s, shear = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t), between(rng, -0.05, 0.05)
    y = (c * up - s * right) / patient.stretch[1]
    x = (c * right + s * up + shear * y) / patient.stretch[0]
    pixel = 2 * zoom / size

    density = np.full((size, size), AIR, np.float32)
    for part in patient.skull:
        density += part.value * part.cover(x, y, level, pixel)
    brain = replace(patient.skull[-1], radii=tuple(r - 0.02 for r in patient.skull[-1].radii))
    inside = brain.cover(x, y, level, pixel)
    inner = np.zeros_like(density)
    for part in patient.parts:
        inner += part.value * part.cover(x, y, level, pixel)
    depth = replace(brain, soft=0.4).cover(x, y, level, pixel)  # 0.5 at the rim of the brain, 1 from 0.2 inwards
    away = 0.35 + 0.7 / (np.sqrt(x * x + y * y) + 0.1)  # the folds run to the rim
    noise = _fold_noise(patient.folds, away * x, away * y, level)
    sulci = smooth(1.3 - np.abs(noise - 0.5) * 9) * np.clip((1 - depth) * 3, 0, 1)
    white = smooth((depth - 0.77 + (noise - 0.5) * 0.3) * 10)
    density += inside * (inner - 0.13 * sulci - 0.05 * white) - 0.15 * (
        patient.skull[-1].cover(x, y, level, pixel) - inside
    )

    shade = between(rng, -0.05, 0.05) * x + between(rng, -0.05, 0.05) * y + between(rng, 0, 0.08) * (x * x + y * y)
    low, width = between(rng, -0.18, -0.06), between(rng, 0.5, 0.76)
    grain = rng.random((3, size, size), dtype=np.float32)
    grain = grain[0] + grain[1] + grain[2] - np.float32(1.5)
    grain = 0.5 * grain + 0.25 * (np.roll(grain, 1, 0) + np.roll(grain, 1, 1))
    seen = (density + shade * inside - low) / width + between(rng, 0.06, 0.16) * grain
    return (np.clip(seen, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
