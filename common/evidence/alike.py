"""Pictures that are nearly the same: copies that were turned, compressed or made brighter, and crops of one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy import fft

SIDE = 64
"""Pixels per side at which pictures are compared."""
BITS = 10
"""Of 64: a pair whose hashes differ in more is not looked at."""
ALIKE, AROUND = 0.2, 0.3
"""Distance of a copy, and of pairs that would be far more frequent than copies were all pictures alike."""
CROP = 0.7
"""Least correlation of a crop with the part of the picture that it was cut out of."""
SCALES = (0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76)
"""Sides of crops that are tried, as shares of the picture's."""
MOST_PER_IMAGE = 5
"""Candidates for crops; where there are more, all pictures are alike."""
MOST_FOR_CROPS = 20_000
"""Images among which crops are looked for: it takes minutes with more."""
SAMPLE, CHUNK, BLOCK = 1000, 512, 256


class Likeness(NamedTuple):
    """Two images: rows of the table, ``copy`` or ``crop`` (of the first), and how alike, in [0, 1]."""

    first: int
    second: int
    kind: str
    likeness: float


class Alike(NamedTuple):
    """What was found.

    Attributes
    ----------
    pairs : list of Likeness
        Of images of different units, the most alike first.
    untold : dict from {"copy", "crop"} to str
        What cannot be told among these images, and why.
    """

    pairs: list[Likeness]
    untold: dict[str, str]


def alike(pixels: np.ndarray, units: np.ndarray) -> Alike:
    """Copies and crops among images of different units.

    Candidates are pairs whose 64-bit perceptual hashes (signs of the 8 x 8 lowest coefficients of a cosine transform)
    differ in at most :data:`BITS`: in any of eight orientations, or between one image and a window of another. Copies
    are those whose correlation, also without coarse shades, is 1 but for :data:`ALIKE` of what it lacks in the most
    alike hundredth of all pairs. A crop is found again in the other image by its correlation, at :data:`SCALES`.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, C, size, size)
    units : ndarray of int, shape (n,)
        Images of one unit may be alike.

    References
    ----------
    Zauner (2010), Implementation and benchmarking of perceptual image hash functions, Hagenberg, section 3.2.
    """
    windows = [(0, 0, SIDE), *(_windows() if len(pixels) <= MOST_FOR_CROPS else ())]
    low = np.empty((len(windows), len(pixels)), np.uint64)
    hashes = np.empty((8, len(pixels)), np.uint64)
    for start in range(0, len(pixels), CHUNK):
        pictures = grey(pixels[start : start + CHUNK])
        for number, coefficients in enumerate(_lowest(pictures, windows, 8)):
            low[number, start : start + CHUNK] = _bits(coefficients)
            if number == 0:
                for way in range(8):
                    hashes[way, start : start + CHUNK] = _bits(_turned_coefficients(coefficients, way))
    near = _distances(pixels, units, hashes)
    copies = [Likeness(*pair, "copy", 1 - distance) for pair, distance in near.items() if distance <= ALIKE]
    crops = _crops(pixels, units, low, windows, {pair[:2] for pair in copies})
    of_crops = {(min(pair[:2]), max(pair[:2])) for pair in crops or []}
    around = sum(distance > ALIKE for pair, distance in near.items() if pair not in of_crops)
    too_alike = "images of different groups are as much alike"
    untold = {"copy": too_alike} if around > len(copies) else {}
    if len(windows) == 1:
        untold["crop"] = f"they are looked for among up to {MOST_FOR_CROPS:,} images"
    elif crops is None:
        untold["crop"] = too_alike
    pairs = [*(copies if around <= len(copies) else []), *(crops or [])]
    return Alike(sorted(pairs, key=lambda pair: -pair.likeness), untold)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Images at :data:`SIDE` in grey: float32, shape (n, SIDE, SIDE)."""
    weights = np.array([0.299, 0.587, 0.114] if pixels.shape[1] == 3 else [1 / pixels.shape[1]] * pixels.shape[1])
    shades = np.einsum("nchw,c->nhw", pixels.astype(np.float32), weights.astype(np.float32))
    if shades.shape[1:] == (SIDE, SIDE):
        return shades
    return _resized(torch.from_numpy(shades)[:, None], SIDE)


def _resized(pictures: torch.Tensor, side: int) -> np.ndarray:
    resized = torch.nn.functional.interpolate(pictures, (side, side), mode="bilinear", antialias=True)
    return resized[:, 0].numpy()


def turned(pictures: np.ndarray, way: int) -> np.ndarray:
    """Pictures (..., size, size) in one of their eight orientations; 0 is as they are."""
    if way & 4:
        pictures = pictures.swapaxes(-1, -2)
    if way & 2:
        pictures = pictures[..., ::-1, :]
    return pictures[..., ::-1] if way & 1 else pictures


def _windows() -> list[tuple[int, int, int]]:
    found = []
    for share in (0.95, 0.9, 0.85, 0.8, 0.75):
        side = round(SIDE * share)
        starts = np.unique(np.linspace(0, SIDE - side, round((1 - share) / 0.05) + 1).round().astype(int)).tolist()
        found += [(y, x, side) for y in starts for x in starts]
    return found


def _lowest(pictures: np.ndarray, windows: list[tuple[int, int, int]], order: int) -> Iterator[np.ndarray]:
    """The lowest coefficients (n, order, order) of a cosine transform of each window of the pictures."""
    waves = {side: fft.dct(np.eye(side, dtype=np.float32), axis=0, norm="ortho")[:order] for _, _, side in windows}
    rows: dict[tuple[int, int], np.ndarray] = {}
    for y, x, side in windows:
        if (y, side) not in rows:
            rows[y, side] = waves[side] @ pictures[:, y : y + side]
        yield rows[y, side][:, :, x : x + side] @ waves[side].T


def _bits(coefficients: np.ndarray) -> np.ndarray:
    signs = (coefficients > 0).reshape(len(coefficients), 64)
    return np.packbits(signs, axis=1).view(np.uint64)[:, 0]


def _turned_coefficients(coefficients: np.ndarray, way: int) -> np.ndarray:
    """The coefficients of turned pictures: a mirror changes the signs of the odd ones."""
    odd = np.where(np.arange(coefficients.shape[1]) % 2, -1, 1)
    if way & 4:
        coefficients = coefficients.swapaxes(1, 2)
    if way & 2:
        coefficients = coefficients * odd[:, None]
    return coefficients * odd if way & 1 else coefficients


def _near(first: np.ndarray, second: np.ndarray, units: np.ndarray, later: bool) -> Iterator[tuple[int, int, int]]:
    """Rows of different units whose hashes are near, and in how many bits they differ; only i < j if `later`."""
    for start in range(0, len(first), BLOCK):
        begin = start if later else 0
        differ = np.bitwise_count(first[start : start + BLOCK, None] ^ second[None, begin:])
        rows, columns = np.nonzero(differ <= BITS)
        found = units[rows + start] != units[columns + begin]
        if later:
            found &= rows + start < columns + begin
        rows, columns = rows[found], columns[found]
        yield from zip(rows + start, columns + begin, differ[rows, columns], strict=True)


def _details(pictures: np.ndarray, without: int) -> np.ndarray:
    """Coefficients (n, SIDE ** 2) of length 1, less the mean or the lowest."""
    found = fft.dctn(pictures, axes=(1, 2), norm="ortho")
    found[:, : max(1, without), : max(1, without)] = 0
    found = found.reshape(len(found), -1)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)


def _distances(pixels: np.ndarray, units: np.ndarray, hashes: np.ndarray) -> dict[tuple[int, int], float]:
    """Pairs up to :data:`AROUND`, and their distance: by how much their correlation lacks 1, 1 being usual."""
    sample = np.sort(np.random.default_rng(0).permutation(len(pixels))[:SAMPLE])
    differ = units[sample][:, None] != units[sample]
    if not differ.any():
        return {}
    usual = {}
    for without in (0, 4, 8):
        parts = _details(grey(pixels[sample]), without)
        usual[without] = 1 - min(0.99, float(np.quantile((parts @ parts.T)[differ], 0.99)))
    found: dict[tuple[int, int], float] = {}
    for way in range(8):
        pairs = np.array([pair[:2] for pair in _near(hashes[0], hashes[way], units, later=True)]).reshape(-1, 2)
        for start in range(0, len(pairs), CHUNK):
            first, second = pairs[start : start + CHUNK].T
            one, other = grey(pixels[first]), turned(grey(pixels[second]), way)
            distances = [
                (1 - (_details(one, without) * _details(other, without)).sum(1)) / lack
                for without, lack in usual.items()
            ]
            for i, j, distance in zip(first.tolist(), second.tolist(), np.max(distances, axis=0).tolist(), strict=True):
                if distance <= min(AROUND, found.get((i, j), AROUND)):
                    found[i, j] = distance
    return found


def _crops(
    pixels: np.ndarray, units: np.ndarray, hashes: np.ndarray, windows: list[tuple[int, int, int]], known: set
) -> list[Likeness] | None:
    """Crops; None where too many pairs have hashes that are near."""
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for number in range(1, len(windows)):
        for whole, part, bits in _near(hashes[number], hashes[0], units, later=False):
            best[whole, part] = min((int(bits), number), best.get((whole, part), (64, 0)))
        if len(best) > MOST_PER_IMAGE * len(pixels):
            return None
    candidates = [(*pair, number) for pair, (_, number) in best.items() if tuple(sorted(pair)) not in known]
    candidates = [pair for pair in candidates if _coarse(pixels, windows, *pair) > 0.5]
    if not candidates:
        return []
    first, second, _ = np.array(candidates).T
    rng = np.random.default_rng(0)
    some, others = rng.integers(0, len(pixels), (2, 200))
    usual = float(np.quantile(_found_again(pixels, some, others)[units[some] != units[others]], 0.99))
    least = max(CROP, 1 - 0.5 * (1 - usual))
    scores: dict[tuple[int, int], float] = {}
    for whole, part, score in zip(
        first.tolist(), second.tolist(), _found_again(pixels, first, second).tolist(), strict=True
    ):
        if score >= least and score > scores.get((part, whole), 0):
            scores.pop((part, whole), None)
            scores[whole, part] = score
    return [Likeness(*pair, "crop", score) for pair, score in scores.items()]


def _coarse(pixels: np.ndarray, windows: list[tuple[int, int, int]], whole: int, part: int, number: int) -> float:
    """Correlation of the coarse shades of a window of one image and of another image."""
    found = [
        next(_lowest(grey(pixels[row : row + 1]), [window], 12))[0]
        for row, window in ((whole, windows[number]), (part, windows[0]))
    ]
    for coefficients in found:
        coefficients[:4, :4] = 0
    one, other = (coefficients.ravel() / max(np.linalg.norm(coefficients), 1e-6) for coefficients in found)
    return float(one @ other)


def _found_again(pixels: np.ndarray, wholes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Highest correlation of each part, made smaller, with any place of its whole; both without coarse shades."""
    found = np.full(len(wholes), -1.0)
    for start in range(0, len(wholes), CHUNK):
        here = slice(start, start + CHUNK)
        pictures = [_without_shades(grey(pixels[rows[here]])) for rows in (wholes, parts)]
        small = torch.from_numpy(pictures[1])[:, None]
        for scale in SCALES:
            side = round(SIDE * scale)
            found[here] = np.maximum(found[here], _best_match(pictures[0], _resized(small, side)))
    return found


def _without_shades(pictures: np.ndarray) -> np.ndarray:
    coefficients = fft.dctn(pictures, axes=(1, 2), norm="ortho")
    coefficients[:, :4, :4] = 0
    return fft.idctn(coefficients, axes=(1, 2), norm="ortho")


def _best_match(pictures: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Highest normalised cross-correlation of each template (n, k, k) with a place of its picture (Lewis, 1995)."""
    side, n = templates.shape[1], pictures.shape[1]
    templates = templates - templates.mean((1, 2), keepdims=True)
    templates /= np.maximum(np.linalg.norm(templates, axis=(1, 2), keepdims=True), 1e-6)
    spectrum = fft.rfft2(pictures) * np.conj(fft.rfft2(templates, (n, n)))
    products = fft.irfft2(spectrum, (n, n))[:, : n - side + 1, : n - side + 1]

    def sums(values: np.ndarray) -> np.ndarray:
        total = np.pad(values.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
        return total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]

    wide = pictures.astype(np.float64)
    variances = sums(wide**2) - sums(wide) ** 2 / side**2
    return (products / np.sqrt(np.maximum(variances, 1e-3))).max((1, 2))
