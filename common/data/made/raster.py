"""Raster work of the drawn data set: shaded solids in space, and flat shapes, lines and clouds.

Only ``+ - * /``, square roots and comparisons of IEEE floats are used, and rotations are given by the tangent of half
their angle, so that the same numbers come out on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
Paint = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def turn(axis: int, t: float) -> tuple[Vector, Vector, Vector]:
    """The rotation matrix about axis 0, 1 or 2 by the angle 2 arctan(`t`)."""
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rows = [list(row) for row in UPRIGHT]
    rows[i][i] = rows[j][j] = c
    rows[i][j], rows[j][i] = -s, s
    return tuple(map(tuple, rows))


@dataclass(frozen=True)
class Frame:
    """A place in space: `rotation` (columns are its axes) and `origin`; x to the right, y up, z to the viewer."""

    rotation: tuple[Vector, Vector, Vector] = UPRIGHT
    origin: Vector = (0.0, 0.0, 0.0)

    def place(self, p: Vector) -> Vector:
        """Where the frame's point `p` is outside."""
        rows = zip(self.origin, self.rotation, strict=True)
        return tuple(o + r[0] * p[0] + r[1] * p[1] + r[2] * p[2] for o, r in rows)

    def at(self, p: Vector, *rotations: tuple[Vector, Vector, Vector]) -> Frame:
        """The frame at point `p` of this one, turned by `rotations` (the first is the outermost)."""
        m = self.rotation
        for b in rotations:
            m = tuple(tuple(a[0] * b[0][j] + a[1] * b[1][j] + a[2] * b[2][j] for j in range(3)) for a in m)
        return Frame(m, self.place(p))


@dataclass(frozen=True)
class Solid:
    """A solid of revolution about its frame's z, stretched by `radii`: x² + y² = (1 - z)(1 - `tip` z), `low` ≤ z ≤ 1.

    `tip` = -1 with `low` = -1 is an ellipsoid, 0 a paraboloid and 1 a cone. `paint` gives RGB in [0, 1], shape (n, 3),
    for local coordinates; `fur` is the raggedness of the outline; `gloss` leaves out the shading (eyes).
    """

    frame: Frame
    radii: Vector
    paint: Paint
    fur: float = 0.0
    tip: float = -1.0
    low: float = -1.0
    gloss: bool = False

    def extent(self) -> tuple[float, float]:
        """Half the width and height of a box around the solid as seen, about its origin."""
        rows = self.frame.rotation[:2]
        if self.tip == -1.0 == self.low:
            return tuple(math.sqrt(sum((r * a) * (r * a) for r, a in zip(w, self.radii, strict=True))) for w in rows)
        return tuple(sum(abs(r * a) for r, a in zip(w, self.radii, strict=True)) for w in rows)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [`low`, `high`)."""
    return low + (high - low) * rng.random()


def smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, a cubic between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def wave(u: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1 in [0, 1]."""
    return np.abs(2 * (u - np.floor(u)) - 1)


def render(
    solids: list[Solid], size: int, zoom: float, centre: tuple[float, float], light: Vector, ambient: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Draw solids seen along z, with `zoom` image widths per unit of space and `centre` in the middle.

    Returns
    -------
    colour : float32 array (size, size, 3)
        Already multiplied by the cover.
    cover : float32 array (size, size)
        In [0, 1].
    """
    n = 2 * size
    grid = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5) / zoom
    rough = rng.random((3, n, n), dtype=np.float32) - 0.5
    for step in (1, 2):
        rough[:, step:] += rough[:, :-step].copy()
    rough[:, :, 1:] += rough[:, :, :-1].copy()
    rough *= np.float32(0.55)
    colour = np.zeros((n, n, 3), np.float32)
    depth = np.full((n, n), -1e9, np.float32)
    for solid in solids:
        (cx, cy, cz), (ex, ey) = solid.frame.origin, solid.extent()
        middle = ((cx - centre[0]) * zoom + 0.5, (centre[1] - cy) * zoom + 0.5)
        reach = [(e + solid.fur) * zoom for e in (ex, ey)]
        x0, y0 = (max(0, math.floor((m - e) * n)) for m, e in zip(middle, reach, strict=True))
        x1, y1 = (min(n, math.ceil((m + e) * n)) for m, e in zip(middle, reach, strict=True))
        if x0 >= x1 or y0 >= y1:
            continue
        window = (slice(y0, y1), slice(x0, x1))
        x = solid.fur * rough[0][window] + (grid[x0:x1] + (centre[0] - cx))
        y = solid.fur * rough[1][window] + (centre[1] - cy - grid[y0:y1])[:, None]
        m = [[row[i] / solid.radii[i] for row in solid.frame.rotation] for i in range(3)]
        ox, oy, oz = (r[0] * x + r[1] * y for r in m)
        dx, dy, dz = (r[2] for r in m)
        k, bend = solid.tip, (1 + solid.tip) / 2
        a = dx * dx + dy * dy - k * dz * dz
        a = a if abs(a) > 1e-6 else 1e-6
        b = ox * dx + oy * dy + (bend - k * oz) * dz
        root = b * b - a * (ox * ox + oy * oy - 1 + (2 * bend - k * oz) * oz)
        seen = root > 0
        root = np.sqrt(np.maximum(root, 0))
        s = (root - b) / a if a > 0 else (-root - b) / a
        if solid.low > -1:
            z = oz + s * dz
            far = (-root - b) / a if a > 0 else (root - b) / a
            s = np.where((z >= solid.low) & (z <= 1), s, far)
            z = oz + s * dz
            seen &= (z >= solid.low) & (z <= 1)
        seen &= s + cz > depth[window]
        if not seen.any():
            continue
        s = s[seen]
        depth[window][seen] = s + cz
        x, y, z = ox[seen] + s * dx, oy[seen] + s * dy, oz[seen] + s * dz
        tone = solid.paint(x, y, z)
        if not solid.gloss:
            g = (x, y, bend - k * z)
            normal = [g[0] * m[0][i] + g[1] * m[1][i] + g[2] * m[2][i] for i in range(3)]
            length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]) + 1e-6
            lit = (normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]) / length * 0.5 + 0.5
            shade = ambient + (1 - ambient) * lit * lit * 1.25
            shade *= 0.72 + 0.28 * np.abs(normal[2]) / length
            shade *= 1 + 0.16 * rough[2][window][seen]
            tone = tone * shade[:, None]
        colour[window][seen] = tone
    cover = (depth > -1e8).astype(np.float32)
    return _halve(np.minimum(colour, 1.2)), _halve(cover)


def _halve(a: np.ndarray) -> np.ndarray:
    return (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) * np.float32(0.25)


def over(canvas: np.ndarray, alpha: np.ndarray, colour: Vector | np.ndarray) -> None:
    """Lay `colour`, one or shape (size, size, 3), on the canvas, where `alpha`, shape (size, size), says how much."""
    rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colour = np.asarray(colour, np.float32)
    under = canvas[window]
    under += alpha[window][..., None] * ((colour if colour.ndim == 1 else colour[window]) - under)


def shape(size: int, x: float, y: float, w: float, h: float, t: float = 0.0, box: bool = False, soft: float = 0.0):
    """Cover of an ellipse or a box at (x, y) with half axes (w, h) in image widths, turned by 2 arctan(`t`)."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    dx, dy = grid - x, (grid - y)[:, None]
    u, v = (c * dx + s * dy) / w, (c * dy - s * dx) / h
    edge = min(w, h) / (1 / size + soft)
    if box:
        return np.clip(0.5 + np.minimum((1 - np.abs(u)) * w, (1 - np.abs(v)) * h) / min(w, h) * edge, 0, 1)
    return np.clip(0.5 + (1 - np.sqrt(u * u + v * v)) * edge, 0, 1)


def stroke(size: int, start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
    """Cover of a line from `start` to `end` (x, y), thinning towards its end, in image widths."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = grid - start[0], (grid - start[1])[:, None]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    x, y = x - along * dx, y - along * dy
    return np.clip((width * (1 - 0.7 * along) - np.sqrt(x * x + y * y)) * size + 0.5, 0, 1)


def cloud(rng: np.random.Generator, size: int, rows: int, columns: int) -> np.ndarray:
    """Smooth noise in [0, 1], shape (size, size), with the given number of cells."""
    a = rng.random((rows + 1, columns + 1), dtype=np.float32)
    for cells in (rows, columns):
        at = np.arange(size, dtype=np.float32) * np.float32(cells / size)
        cell = at.astype(np.int64)
        part = smooth(at - cell)[:, None]
        a = (a[cell] + part * (a[cell + 1] - a[cell])).T
    return a
