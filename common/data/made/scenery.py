"""What surrounds the animals of the drawn data set: backdrops, things in the way, and the flaws of a photo."""

from __future__ import annotations

import numpy as np

from common.data.made.raster import Vector, between, cloud, over, shape, smooth, wave


def _colour(rng: np.random.Generator) -> Vector:
    """Anything from fur tones to paint: grey, earth or a hue."""
    level = between(rng, 0.12, 0.92)
    kind = rng.integers(4)
    if kind == 0:
        return (level, level * between(rng, 0.94, 1.02), level * between(rng, 0.88, 1.05))
    if kind == 1:
        return (level, level * between(rng, 0.68, 0.85), level * between(rng, 0.4, 0.7))
    return tuple(level * between(rng, 0.55, 1) for _ in range(3))


def _surface(rng: np.random.Generator, size: int, floor: bool) -> np.ndarray:
    """A textured surface, (size, size, 3): plain, stripes, tiles or bricks, planks, grass or leaves, a blanket."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    u, v = grid[None, :], grid[:, None]
    a, b = (np.asarray(_colour(rng), np.float32) for _ in range(2))
    kind = rng.integers(6)
    if kind == 0:
        mix = 0.25 * cloud(rng, size, 5, 5)
    elif kind == 1:
        width = rng.integers(4, 14)
        mix = smooth((wave(u * width + v * between(rng, -2, 2)) - 0.5) * 6) * between(rng, 0.2, 0.9)
    elif kind == 2:
        rows, columns = int(rng.integers(4, 12)), int(rng.integers(3, 9))
        shift = 0.5 * (np.floor(v * rows) - 2 * np.floor(v * rows / 2))
        mix = np.maximum(smooth((wave(v * rows) - 0.84) * 8), smooth((wave(u * columns + shift) - 0.88) * 8))
        mix = mix * between(rng, 0.4, 0.9) + 0.15 * cloud(rng, size, 8, 8)
    elif kind == 3:
        mix = 0.5 * cloud(rng, size, 3, 40) if rng.random() < 0.5 else 0.5 * cloud(rng, size, 40, 3)
    elif kind == 4:
        green = between(rng, 0.3, 0.75)
        a = np.asarray((green * between(rng, 0.4, 0.9), green, green * between(rng, 0.2, 0.5)), np.float32)
        b = a * np.float32(between(rng, 0.35, 0.7))
        mix = 0.6 * cloud(rng, size, 12 if floor else 20, 45 if floor else 20) + 0.4 * cloud(rng, size, 5, 6)
    else:
        mix = 0.55 * smooth((wave((u + v) * int(rng.integers(2, 9))) - 0.4) * 5)
        mix = mix + 0.45 * smooth((wave((u - v) * int(rng.integers(2, 9))) - 0.4) * 5)
    return a + np.broadcast_to(mix, (size, size))[..., None] * (b - a)


def _blur(canvas: np.ndarray, passes: int) -> np.ndarray:
    for _ in range(passes):
        canvas = 0.5 * canvas + 0.25 * (np.roll(canvas, 1, 0) + np.roll(canvas, -1, 0))
        canvas = 0.5 * canvas + 0.25 * (np.roll(canvas, 1, 1) + np.roll(canvas, -1, 1))
    return canvas


def _thing(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, r: float) -> None:
    """One object: a ball, a box, a striped cushion, a pot plant, or a furry bundle with eye-like buttons."""
    size, tone = len(canvas), np.asarray(_colour(rng), np.float32)
    t = between(rng, -0.5, 0.5)
    kind = rng.integers(5)
    if kind == 0:
        over(canvas, shape(size, x, y, r, r), tone)
        over(canvas, shape(size, x - 0.3 * r, y - 0.3 * r, 0.45 * r, 0.4 * r, soft=0.4 * r) * 0.4, (1.0, 1.0, 1.0))
    elif kind == 1:
        over(canvas, shape(size, x, y, r, r * between(rng, 0.4, 1.4), t, box=True), tone)
        over(canvas, shape(size, x, y, 0.8 * r, 0.15 * r, t, box=True) * 0.6, _colour(rng))
    elif kind == 2:
        grid = (np.arange(size, dtype=np.float32) + 0.5) / size
        stripes = 0.7 + 0.3 * smooth((wave((grid[None, :] + t * grid[:, None]) * 14) - 0.4) * 5)
        over(canvas, shape(size, x, y, 1.2 * r, 0.8 * r, t), tone * stripes[..., None])
    elif kind == 3:
        over(canvas, shape(size, x, y + 0.6 * r, 0.45 * r, 0.5 * r, box=True), tone)
        for _ in range(6):
            leaf = (x + between(rng, -0.8, 0.8) * r, y + between(rng, -1.1, 0.2) * r)
            green = between(rng, 0.25, 0.6)
            blade = shape(size, *leaf, 0.5 * r, 0.14 * r, between(rng, -1, 1))
            over(canvas, blade, (0.5 * green, green, 0.35 * green))
    else:
        over(canvas, shape(size, x, y, r, 0.8 * r, t, soft=0.02), tone)
        for side in (-1, 1):
            over(canvas, shape(size, x + side * 0.6 * r, y - 0.7 * r, 0.2 * r, 0.4 * r, 0.3 * side), tone * 0.8)
            over(canvas, shape(size, x + side * 0.3 * r, y - 0.1 * r, 0.1 * r, 0.1 * r), (0.08, 0.07, 0.07))


def backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A place with a wall or garden, a floor, furniture and clutter: float32 RGB (size, size, 3)."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    canvas = _surface(rng, size, floor=False)
    if rng.random() < 0.35:
        x, y = between(rng, 0.1, 0.9), between(rng, 0.05, 0.4)
        w, h = between(rng, 0.12, 0.3), between(rng, 0.15, 0.35)
        over(canvas, shape(size, x, y, w + 0.03, h + 0.03, box=True), _colour(rng))
        over(canvas, shape(size, x, y, w, h, box=True), (0.75, 0.86, 0.97))
        for bar in (shape(size, x, y, 0.01, h, box=True), shape(size, x, y, w, 0.01, box=True)):
            over(canvas, bar, (0.9, 0.9, 0.88))
    horizon = between(rng, 0.4, 0.85)
    below = smooth((grid[:, None] - horizon + between(rng, -0.15, 0.15) * (grid[None, :] - 0.5)) * size / 2 + 0.5)
    over(canvas, np.broadcast_to(below, (size, size)), _surface(rng, size, floor=True))
    if rng.random() < 0.4:
        tone = np.asarray(_colour(rng), np.float32)
        y = between(rng, 0.55, 0.8)
        for x in (-0.05, 0.5, 1.05):
            over(canvas, shape(size, x, y, 0.3, 0.32, soft=0.03), tone)
        over(canvas, shape(size, 0.5, y + 0.3, 0.7, 0.2, box=True, soft=0.02), tone * np.float32(0.85))
    for _ in range(rng.integers(6)):
        _thing(canvas, rng, rng.random(), between(rng, 0.25, 1), between(rng, 0.04, 0.16))
    return _blur(canvas, 1 + int(rng.integers(5)))


def clutter_in_front(canvas: np.ndarray, rng: np.random.Generator, amount: float) -> None:
    """Hide parts of the picture behind things, bars or leaves; `amount` in [0, 1] is how often."""
    size = len(canvas)
    if rng.random() < 0.6 * amount:
        for _ in range(rng.integers(1, 4)):
            _thing(canvas, rng, rng.random(), between(rng, 0.3, 1.05), between(rng, 0.06, 0.2))
    if rng.random() < 0.25 * amount:
        tone, gap, t = _colour(rng), between(rng, 0.14, 0.4), between(rng, -0.3, 0.3)
        for i in range(8):
            over(canvas, shape(size, i * gap, 0.5, between(rng, 0.008, 0.025), 1.2, t, box=True), tone)
    if rng.random() < 0.35 * amount:
        tone = np.asarray(_colour(rng), np.float32)
        for _ in range(rng.integers(3, 9)):
            leaf = (rng.random(), rng.random(), between(rng, 0.06, 0.2), between(rng, 0.015, 0.05))
            over(canvas, shape(size, *leaf, between(rng, -1, 1)), tone * np.float32(between(rng, 0.6, 1)))
    if rng.random() < 0.2 * amount:
        side = between(rng, 0.12, 0.3)
        x, y = ((side / 2, 0.5), (1 - side / 2, 0.5), (0.5, 1 - side / 2))[rng.integers(3)]
        extent = (side / 2, 0.8) if y == 0.5 else (0.8, side / 2)
        over(canvas, shape(size, x, y, *extent, between(rng, -0.1, 0.1), box=True, soft=0.01), _colour(rng))


def expose(canvas: np.ndarray, rng: np.random.Generator, flaws: float) -> np.ndarray:
    """The photo as a camera gives it: light falling off, blur, haze, cast, exposure, noise; uint8 (size, size, 3).

    `flaws` in [0, 1] is their strength.
    """
    size = len(canvas)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    slope = 1 + between(rng, -0.5, 0.5) * grid[None, :] + between(rng, -0.5, 0.5) * grid[:, None]
    off_centre = grid[None, :] * grid[None, :] + grid[:, None] * grid[:, None]
    canvas = canvas * (slope - between(rng, 0, 0.9) * off_centre)[..., None]
    canvas = _blur(canvas, int(rng.integers(1 + round(4 * flaws))))
    gain, haze = between(rng, 1 - 0.4 * flaws, 1.1 + 0.35 * flaws), between(rng, 0, 0.3 * flaws)
    cast = np.asarray([gain * between(rng, 0.93, 1.07) for _ in range(3)], np.float32)
    canvas = canvas * cast * np.float32(1 - haze) + np.float32(haze * between(rng, 0.3, 0.9))
    grain = rng.random((3, size, size, 3), dtype=np.float32)
    noise = np.float32(between(rng, 0.02, 0.04 + 0.11 * flaws))
    canvas = canvas + (grain[0] + grain[1] + grain[2] - np.float32(1.5)) * noise
    return (np.clip(canvas, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
