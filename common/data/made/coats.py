"""The coats of the animals of the drawn data set: colours and patterns of fur, part by part."""

from __future__ import annotations

import numpy as np

from common.data.made.raster import Paint, Vector, between, smooth, wave

TONES: dict[str, Vector] = {
    "white": (0.93, 0.91, 0.88), "cream": (0.88, 0.79, 0.63), "fawn": (0.78, 0.62, 0.43), "ginger": (0.80, 0.49, 0.22),
    "red": (0.60, 0.32, 0.16), "tan": (0.70, 0.47, 0.26), "brown": (0.46, 0.32, 0.21), "chocolate": (0.31, 0.21, 0.15),
    "silver": (0.72, 0.72, 0.71), "grey": (0.52, 0.52, 0.53), "blue": (0.41, 0.45, 0.51),
    "charcoal": (0.26, 0.26, 0.27), "black": (0.14, 0.13, 0.13),
}  # fmt: skip
"""Colours of fur, RGB in [0, 1]."""

PATTERNS = ("solid", "tabby", "spots", "patches", "points", "marked", "saddle", "mask", "bib")


class Coat:
    """The colours of one animal's fur, part by part, as paints for solids."""

    def __init__(self, coat: str, rng: np.random.Generator):
        self.pattern, *tones = coat.split()
        level = between(rng, 0.85, 1.12)
        self.base, self.dark, self.light = (
            np.asarray([c * level * between(rng, 0.97, 1.03) for c in TONES[tone]], np.float32) for tone in tones
        )
        self.phase = [[between(rng, -0.5, 0.5) for _ in range(4)] for _ in range(3)]
        self.stripes, self.bib = between(rng, 1.6, 2.6), between(rng, 0, 1)

    def _blotches(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: float) -> np.ndarray:
        """Random smooth blobs in [0, 1] over local coordinates."""
        total = 0.0
        for i, (a, b, c, d) in enumerate(self.phase):
            mine = ((1 + a, b, c), (a, 1 + b, c), (a, b, 1 + c))[i]
            total = total + smooth(wave(scale * (mine[0] * x + mine[1] * y + mine[2] * z) + d))
        return total * np.float32(1 / 3)

    def _weights(self, part: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple:
        """How dark and how light the fur is at local coordinates."""
        end = part in ("muzzle", "ear", "paw", "tail")
        under = smooth((-0.25 - y) * 2) if part in ("body", "head") else float(part in ("muzzle", "paw"))
        if self.pattern == "tabby":
            if part == "head":
                return smooth((wave(x * 2.2 + 0.25 + 0.15 * y) - 0.45) * 5) * smooth(y * 3 + 0.2), 0.8 * under
            bands = wave(self.stripes * z + 0.4 * self.phase[0][0] * x + self.phase[0][1])
            return smooth((bands - 0.5) * 5) * 0.85 * (part not in ("muzzle", "ear")), 0.6 * under
        if self.pattern == "spots":
            return smooth((self._blotches(x, y, z, 2.2 if part == "body" else 1.6) - 0.6) * 9) * (not end), 0.7 * under
        if self.pattern == "patches":
            patch = smooth((self._blotches(x, y, z, 0.75) - 0.5) * 14)
            return patch * (part != "muzzle"), 0.0 if part in ("ear", "tail") else 1 - patch
        if self.pattern == "points":
            face = smooth((0.75 - x * x - (y + 0.2) * (y + 0.2) * 1.3) * 1.6) * 0.8 if part == "head" else 0.0
            return (0.95 if end or part == "leg" else face), 0.4 * under
        if self.pattern == "marked":
            low = smooth((-0.1 - y) * 3) if part == "leg" else under
            across, up = np.abs(x) - 0.4, y - 0.48
            brow = smooth((0.05 - across * across - up * up) * 30) * (part == "head")
            return 1.0, np.maximum(low, brow)
        if self.pattern == "saddle":
            top = smooth((y - 0.05 + 0.3 * self.phase[0][0] * z) * 4) if part == "body" else float(part == "tail")
            blaze = smooth((0.16 - np.abs(x)) * 8) * (part == "head")
            return top, np.maximum(blaze, float(part in ("muzzle", "paw", "leg")))
        if self.pattern == "mask":
            return (0.9 if part in ("muzzle", "ear") else 0.0), 0.5 * under * (part == "body")
        if self.pattern == "bib":
            front = smooth((z - 0.1 + 0.5 * self.bib) * 3) * smooth((0.3 - y) * 2) * (part == "body")
            return 0.0, np.maximum(front, float(part in ("muzzle", "paw")) * (self.bib > 0.3))
        return 0.0, 0.15 * under

    def on(self, part: str) -> Paint:
        """The paint of a part: head, muzzle, ear, body, leg, paw or tail."""

        def paint(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
            dark, light = (np.asarray(w, np.float32) for w in self._weights(part, x, y, z))
            tone = self.base + dark[..., None] * (self.dark - self.base)
            tone = np.broadcast_to(tone + light[..., None] * (self.light - tone), (len(x), 3))
            if part == "ear":
                inner = smooth((y - 0.25) * 3) * smooth((0.75 - np.abs(x)) * 4) * 0.75
                tone = tone + inner[:, None] * (np.asarray((0.72, 0.5, 0.45), np.float32) * (0.4 + 0.6 * tone) - tone)
            return tone

        return paint
