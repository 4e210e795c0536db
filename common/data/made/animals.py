"""The animals of the drawn data set: what makes a breed, one animal of it, and its body in a pose."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from common.data.made.coats import Coat
from common.data.made.raster import Frame, Paint, Solid, Vector, between, over, render, stroke, turn
from common.data.made.scenery import backdrop, clutter_in_front, expose
from common.seeds import Stream


@dataclass(frozen=True)
class Breed:
    """How animals of one breed look. Lengths are in radii of the head.

    `coats` are alternatives, each "pattern base dark light" with a name of :data:`~common.data.made.coats.PATTERNS` and
    three of :data:`~common.data.made.coats.TONES`.
    """

    name: str
    coats: tuple[str, ...]
    ear_length: float
    ear_width: float
    ear_turn: float
    """Tangent of half the angle from upright: 0.15 pricked, 2 hanging."""
    ear_tip: float
    """From -1, round, to 1, pointed."""
    snout: float
    snout_width: float
    head_width: float
    eye: float
    """Radius."""
    slit: float
    """Pupil, from 0, round, to 1, a slit."""
    iris: Vector
    nose: float
    whiskers: float
    fur: float
    """Raggedness of the outline: 0.03 short, 0.15 long."""
    bulk: float
    legs: float
    length: float
    tail: float
    tail_width: float
    tail_curl: float


CAT = Breed("", ("tabby brown chocolate cream",), 0.75, 0.46, 0.20, 0.6, 0.1, 0.9, 1.0, 0.225, 0.75, (0.72, 0.66, 0.25),
            0.1, 1.0, 0.05, 0.66, 1.15, 1.5, 2.6, 0.15, 0.1)  # fmt: skip
DOG = Breed("", ("solid fawn brown cream",), 1.0, 0.42, 1.7, -0.5, 0.62, 1.0, 0.92, 0.17, 0.0, (0.28, 0.17, 0.09),
            0.19, 0.2, 0.05, 0.86, 1.35, 1.6, 1.6, 0.17, 0.25)  # fmt: skip


def individual(breed: Breed, rng: np.random.Generator) -> Breed:
    """One animal: the breed with one of its coats and every measure changed a little."""
    changed = {f.name: getattr(breed, f.name) * between(rng, 0.87, 1.15) for f in fields(Breed)[2:] if f.name != "iris"}
    iris = tuple(c * between(rng, 0.85, 1.15) for c in breed.iris)
    return replace(breed, **changed, iris=iris, coats=(breed.coats[rng.integers(len(breed.coats))],))


def one_tone(tone: Vector) -> Paint:
    """A paint of one colour."""
    return lambda x, y, z: np.broadcast_to(np.asarray(tone, np.float32), (len(x), 3))


def _eye(b: Breed, open_: float) -> Paint:
    def paint(x, y, z):
        r = x * x + y * y
        tone = np.broadcast_to(np.asarray((0.9, 0.88, 0.84), np.float32), (len(x), 3)).copy()
        tone[r < 0.72] = b.iris
        wide = 0.62 - 0.42 * b.slit * open_
        tone[(x / wide) * (x / wide) + (y / 0.66) * (y / 0.66) < 1] = (0.05, 0.05, 0.06)
        tone[(x + 0.25) * (x + 0.25) + (y - 0.35) * (y - 0.35) < 0.05] = (0.97, 0.97, 0.97)
        tone[np.abs(y) > 0.35 + 0.6 * open_] = (0.16, 0.13, 0.12)
        return tone

    return paint


def head(b: Breed, coat: Coat, at: Frame, open_eyes: float) -> list[Solid]:
    """The solids of a head that looks along the z of the frame `at`."""
    s, w, f = b.snout, b.snout_width, b.fur
    muzzle, bridge = coat.on("muzzle"), coat.on("head" if s < 0.3 else "muzzle")
    parts = [
        Solid(at, (b.head_width, 0.9, 0.95), coat.on("head"), f),
        Solid(at.at((0, -0.22, 0.45 + 0.45 * s)), (0.4 * w, 0.33, 0.5 + 0.5 * s), bridge, 0.03),
        Solid(at.at((0, -0.56, 0.5 + 0.7 * s)), (0.26 * w, 0.17, 0.34), muzzle, 0.03),
        Solid(at.at((0, -0.45, 0.58 + 0.8 * s)), (0.3 * w, 0.07, 0.3), one_tone((0.2, 0.1, 0.1))),
        Solid(at.at((0, -0.2, 0.93 + 0.93 * s)), (b.nose, 0.72 * b.nose, 0.1),
              one_tone((0.62, 0.38, 0.36) if b.nose < 0.13 and coat.base[0] > 0.4 else (0.1, 0.09, 0.1))),
    ]  # fmt: skip
    for side in (-1, 1):
        eye = at.at((side * 0.39 * b.head_width, 0.12, 0.68), turn(1, side * 0.16), turn(0, -0.04))
        lean = turn(2, -side * b.ear_turn)
        stand = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
        ear = at.at((side * 0.56 * b.head_width, 0.58 - 0.1 * b.ear_turn, -0.05), lean, stand)
        parts += [
            Solid(at.at((side * 0.42 * b.head_width, -0.3, 0.3)), (0.5, 0.45 + f, 0.5), coat.on("head"), f),
            Solid(at.at((side * 0.18 * w, -0.36, 0.6 + 0.85 * s)), (0.25 * w, 0.22, 0.3), muzzle, 0.03),
            Solid(eye.at((0, 0, -0.04)), (1.2 * b.eye, 1.15 * b.eye, 1.05 * b.eye), one_tone((0.13, 0.1, 0.1))),
            Solid(eye, (b.eye, 0.92 * b.eye, 1.2 * b.eye), _eye(b, open_eyes), gloss=True),
            Solid(ear, (b.ear_width, 0.2, b.ear_length), coat.on("ear"), 0.7 * f, b.ear_tip, 0.0),
        ]
    return parts


def _tail(b: Breed, coat: Coat, at: Frame, side: float) -> list[Solid]:
    """A tail that leaves along the z of `at` and bends by its curl, sideways by `side`."""
    parts, n = [], 9
    step = b.tail / n
    for i in range(n):
        wide = b.tail_width * (1.1 - 0.5 * i / n) + 0.6 * b.fur
        parts.append(Solid(at, (wide, wide, step + 0.5 * wide), coat.on("tail"), 1.3 * b.fur))
        at = at.at((0, 0, step), turn(0, -0.5 * b.tail_curl), turn(1, 0.12 * side))
    return parts


def body(b: Breed, coat: Coat, pose: str, at: Frame, rng: np.random.Generator) -> tuple[list[Solid], Vector]:
    """The solids of a body in a pose (sitting, standing or lying) that faces along z, and where its head sits."""
    w, legs, n, f = b.bulk, b.legs, b.length, b.fur
    fur, leg, paw = coat.on("body"), coat.on("leg"), coat.on("paw")
    swing = between(rng, -0.12, 0.12)
    side = 1 if rng.random() < 0.5 else -1
    if pose == "sitting":
        low = -1.7 - 0.5 * legs
        neck = (0.0, 1.35, 0.35)
        trunk = [((0, 0, 0), (0.86 * w, 1.05, 0.85 * w)), ((0, 0.5 * low, -0.55), (w, -0.6 * low, 0.95 * w))]
        thighs = [((s * 0.8 * w, low + 0.62, -0.35), (0.42 * w, 0.7, 0.72)) for s in (-1, 1)]
        shins = [((s * 0.4 * w, 0.55 * low - 0.2, 0.42), (0.26, -0.5 * low, 0.28)) for s in (-1, 1)]
        feet = [(x, low, z) for x, z in ((-0.42 * w, 0.6), (0.42 * w, 0.6), (-0.85 * w, 0.3), (0.85 * w, 0.3))]
        tail = at.at((side * 0.3, low + 0.15, -1.1), turn(1, -side * 1.3))
    elif pose == "standing":
        low = -0.75 * w - legs
        neck = (0.0, 1.0 + 0.35 * (1 - b.whiskers), 0.85)
        trunk = [((0, 0, 0), (0.8 * w, 0.92 * w, 1.0)), ((0, 0, -1.2 * n), (0.76 * w, 0.84 * w, 0.85)),
                 ((0, -0.08, -0.6 * n), (0.76 * w, 0.82 * w, 0.6 * n + 0.5))]  # fmt: skip
        thighs = [((s * 0.5 * w, -0.4, -1.25 * n), (0.36, 0.7, 0.5)) for s in (-1, 1)]
        spots = [(s * 0.45 * w, z + s * k * swing * 6) for z, k in ((0.25, 1), (-1.35 * n, -1)) for s in (-1, 1)]
        shins = [((x, 0.55 * low, z), (0.25, -0.5 * low, 0.27)) for x, z in spots]
        feet = [(x, low, z + 0.12) for x, z in spots]
        tail = at.at((0, 0.45 * w, -1.2 * n - 0.6), turn(0, 1.0 + 1.6 * min(1.0, b.tail_curl)), turn(1, 0.1 * side))
    else:
        low, neck = -0.75 * w, (0.0, 0.85, 0.75)
        trunk = [((0, 0, 0), (0.85 * w, 0.85 * w, 0.9)), ((0, -0.05, -1.1 * n), (0.95 * w, 0.8 * w, 0.9)),
                 ((0, -0.1, -0.55 * n), (0.88 * w, 0.75 * w, 0.6 * n + 0.5))]  # fmt: skip
        thighs = [((s * 0.75 * w, -0.3, -1.05 * n), (0.42, 0.5, 0.8)) for s in (-1, 1)]
        shins = [((s * 0.5 * w, low + 0.1, 0.8), (0.24, 0.22, 0.95)) for s in (-1, 1)]
        feet = [(x, low, z) for x, z in ((-0.5 * w, 1.6), (0.5 * w, 1.6), (-0.9 * w, -0.5 * n), (0.9 * w, -0.5 * n))]
        tail = at.at((side * 0.5, low + 0.2, -1.1 * n - 0.7), turn(1, side * 1.8))
    collar = tuple(0.5 * c for c in neck)
    parts = [Solid(at.at(collar), (0.58 * w + f, 0.85, 0.62 * w + f), fur, f)]
    parts += [Solid(at.at(c), r, fur, f) for c, r in trunk] + [Solid(at.at(c), r, fur, f) for c, r in thighs]
    parts += [Solid(at.at(c), r, leg, 0.6 * f) for c, r in shins]
    parts += [Solid(at.at(c), (0.28, 0.18, 0.38), paw, 0.04) for c in feet]
    return parts + _tail(b, coat, tail, side), neck


def photo(animal: Breed, identity: Stream, place: Stream, size: int, difficulty: float = 1.0) -> np.ndarray:
    """A photo of an animal.

    Parameters
    ----------
    animal : Breed
        From :func:`individual`.
    identity : Stream
        What is the animal's own in all its photos: the markings.
    place : Stream
        What is this photo's own: pose, camera, surroundings, light and flaws.
    size : int
        Pixels per side.
    difficulty : float
        In [0, 1]: how much an animal may be hidden, cut off, blurred or badly lit. Most photos stay well below it.

    Returns
    -------
    uint8 array (size, size, 3)
        RGB.
    """
    coat, rng = Coat(animal.coats[0], identity.numpy()), place.at("pose").numpy()
    difficulty *= rng.random() * rng.random()
    pose = ("sitting", "standing", "lying", "sitting")[rng.integers(4)]
    facing = (between(rng, -0.3, 0.3), between(rng, -0.7, 0.7), between(rng, -1.2, 1.2))[rng.integers(3)]
    camera = Frame().at((0, 0, 0), turn(0, between(rng, 0.0, 0.22)), turn(1, facing))
    parts, neck = body(animal, coat, pose, camera, rng)
    away = between(rng, -0.25, 0.25) - 0.55 * facing * rng.random()
    look = camera.at(neck, turn(1, away), turn(2, between(rng, -0.18, 0.18)), turn(0, between(rng, -0.14, 0.16)))
    parts += head(animal, coat, look, 1.0 if rng.random() < 0.85 else between(rng, 0, 0.5))
    boxes = [(p.frame.origin, p.extent()) for p in parts]
    left, right = min(o[0] - e[0] for o, e in boxes), max(o[0] + e[0] for o, e in boxes)
    bottom, top = min(o[1] - e[1] for o, e in boxes), max(o[1] + e[1] for o, e in boxes)
    if rng.random() < 0.65:
        zoom, middle = between(rng, 0.23, 0.37), (look.origin[0], look.origin[1] - between(rng, 0, 0.4))
    else:
        zoom = between(rng, 0.8, 1.15) / max(right - left, top - bottom)
        middle = ((left + right) / 2, (bottom + top) / 2)
    stray = 0.04 + 0.2 * difficulty * rng.random()
    middle = tuple(m + between(rng, -stray, stray) / zoom for m in middle)
    light = (between(rng, -0.7, 0.7), between(rng, 0.1, 0.8), 0.6)
    colour, cover = render(parts, size, zoom, middle, light, between(rng, 0.3, 0.6), rng)
    canvas = backdrop(place.at("backdrop").numpy(), size)
    shadow = between(rng, 0.1, 0.4) * np.roll(cover, (size // 20, size // 16), (0, 1))
    canvas = canvas * (1 - shadow)[..., None] * (1 - cover)[..., None] + colour

    def pixel(p: Vector) -> tuple[float, float]:
        x, y, _ = look.place(p)
        return (x - middle[0]) * zoom + 0.5, (middle[1] - y) * zoom + 0.5

    for side in (-1, 1) if animal.whiskers > 0.5 else ():
        for i in range(4):
            root = (side * 0.25 * animal.snout_width, -0.3 - 0.06 * i, 0.82 + 0.85 * animal.snout)
            tip = (side * (1.35 + 0.1 * i) * animal.whiskers, -0.1 - 0.22 * i, 0.75)
            if look.place(root)[2] - look.origin[2] > 0.1 or side * (look.place((1, 0, 0))[2] - look.origin[2]) > 0:
                over(canvas, 0.75 * stroke(size, pixel(root), pixel(tip), 0.014 * zoom), (0.92, 0.91, 0.9))
    clutter_in_front(canvas, place.at("clutter").numpy(), difficulty)
    return expose(canvas, place.at("camera").numpy(), difficulty)
