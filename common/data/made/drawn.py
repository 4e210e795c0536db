"""The embedded data set: cats and dogs of 37 breeds, drawn by a seeded program in the Oxford-IIIT Pet layout."""

from __future__ import annotations

import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from tqdm import tqdm

from common.data.made.animals import CAT, DOG, Breed, individual, photo
from common.seeds import Stream
from common.state import whole_folder

GREEN, BLUE, COPPER, GOLD = (0.45, 0.62, 0.30), (0.40, 0.60, 0.82), (0.80, 0.45, 0.15), (0.80, 0.66, 0.22)


def _cat(name: str, *coats: str, **measures) -> Breed:
    return replace(CAT, name=name, coats=coats, **measures)


def _dog(name: str, *coats: str, **measures) -> Breed:
    return replace(DOG, name=name, coats=coats, **measures)


CATS = (
    _cat("Abyssinian", "solid red brown fawn", "solid tan brown cream", ear_length=0.95, ear_width=0.52, bulk=0.58,
         snout=0.2),
    _cat("Bengal", "spots tan chocolate cream", "spots fawn brown white", iris=GREEN),
    _cat("Birman", "points cream chocolate white", "points cream blue white", iris=BLUE, fur=0.12, bulk=0.76),
    _cat("Bombay", "solid black black black", "solid charcoal black black", iris=COPPER),
    _cat("British_Shorthair", "solid blue charcoal grey", "solid cream fawn white", iris=COPPER, head_width=1.15,
         bulk=0.88, ear_length=0.55, legs=0.95, tail=2.0, tail_width=0.2),
    _cat("Egyptian_Mau", "spots silver charcoal white", "spots grey black silver", iris=GREEN, bulk=0.58, legs=1.3),
    _cat("Maine_Coon", "tabby brown black white", "tabby ginger red white", fur=0.15, ear_tip=0.9, snout=0.3,
         bulk=0.85, tail_width=0.28, ear_length=0.9),
    _cat("Persian", "solid white cream white", "solid ginger red cream", "solid grey charcoal silver", fur=0.16,
         snout=-0.02, ear_length=0.45, ear_tip=-0.2, head_width=1.18, eye=0.28, bulk=0.95, legs=0.8, iris=COPPER,
         tail_width=0.28),
    _cat("Ragdoll", "points white brown white", "bib cream brown white", iris=BLUE, fur=0.12, bulk=0.85),
    _cat("Russian_Blue", "solid blue grey silver", "solid grey blue silver", iris=GREEN, ear_length=0.85, bulk=0.6,
         snout=0.2),
    _cat("Siamese", "points cream black fawn", "points fawn chocolate cream", iris=BLUE, ear_length=1.05,
         ear_width=0.55, ear_turn=0.3, head_width=0.86, snout=0.35, bulk=0.52, legs=1.35),
    _cat("Sphynx", "solid fawn tan cream", "patches fawn charcoal cream", ear_length=1.15, ear_width=0.62, fur=0.0,
         head_width=0.86, whiskers=0.55, bulk=0.56, tail_width=0.09, iris=GOLD),
)  # fmt: skip
"""The 12 cat breeds of Oxford-IIIT Pet, loosely after the real ones."""

DOGS = (
    _dog("american_bulldog", "patches brown brown white", "solid white fawn white", snout=0.35, snout_width=1.35,
         bulk=1.05),
    _dog("american_pit_bull_terrier", "bib brown chocolate white", "bib blue charcoal white", snout=0.45,
         snout_width=1.25, ear_length=0.7, ear_turn=0.9, tail=1.9),
    _dog("basset_hound", "saddle tan black white", "patches red red white", ear_length=1.7, ear_turn=3.0, legs=0.5,
         length=2.1, snout=0.75, ear_width=0.48),
    _dog("beagle", "saddle tan black white", "saddle red brown white", ear_length=1.25, ear_turn=2.4, snout=0.6),
    _dog("boxer", "mask fawn black white", "mask red chocolate white", snout=0.28, snout_width=1.3, ear_length=0.8,
         bulk=0.95, legs=1.6),
    _dog("chihuahua", "solid fawn brown cream", "marked tan black cream", "bib cream fawn white", ear_length=0.95,
         ear_width=0.5, ear_turn=0.4, ear_tip=0.5, snout=0.32, snout_width=0.75, eye=0.23, nose=0.13, bulk=0.55,
         legs=1.1),
    _dog("english_cocker_spaniel", "solid ginger red tan", "solid black black charcoal", ear_length=1.5,
         ear_turn=2.6, ear_width=0.52, fur=0.1),
    _dog("english_setter", "spots white charcoal white", "spots white brown white", ear_length=1.3, ear_turn=2.5,
         snout=0.8, fur=0.09, legs=1.6),
    _dog("german_shorthaired", "spots grey chocolate chocolate", "solid chocolate brown brown", ear_length=1.15,
         ear_turn=2.3, snout=0.8, legs=1.7, bulk=0.8),
    _dog("great_pyrenees", "solid white cream white", "bib cream fawn white", fur=0.15, ear_length=0.85,
         ear_turn=1.9, bulk=1.1, tail_width=0.3),
    _dog("havanese", "patches grey black white", "solid cream fawn white", "bib black black white", fur=0.17,
         snout=0.35, ear_length=1.1, ear_turn=2.1, legs=0.9),
    _dog("japanese_chin", "patches black black white", "patches ginger red white", fur=0.14, snout=0.08, eye=0.24,
         ear_length=1.0, ear_turn=1.8, bulk=0.7, legs=0.9, nose=0.15),
    _dog("keeshond", "mask silver charcoal cream", "mask grey black silver", fur=0.17, ear_length=0.6, ear_turn=0.2,
         ear_tip=0.5, snout=0.5, tail=2.0, tail_curl=0.8, tail_width=0.28),
    _dog("leonberger", "mask ginger black tan", "mask fawn chocolate tan", fur=0.15, bulk=1.1, ear_length=0.95,
         snout=0.65),
    _dog("miniature_pinscher", "marked tan black tan", "solid red brown tan", ear_length=0.95, ear_turn=0.16,
         ear_tip=0.7, snout=0.6, snout_width=0.75, bulk=0.62, legs=1.5, head_width=0.82, tail=0.6),
    _dog("newfoundland", "solid black black charcoal", "solid chocolate black brown", fur=0.15, bulk=1.15,
         snout=0.55, snout_width=1.2, ear_length=0.85),
    _dog("pomeranian", "solid ginger red cream", "solid cream fawn white", "solid charcoal black grey", fur=0.19,
         ear_length=0.42, ear_turn=0.3, ear_tip=0.3, snout=0.3, snout_width=0.75, legs=0.8, tail_curl=0.8,
         tail_width=0.3, nose=0.13),
    _dog("pug", "mask fawn black cream", "mask silver black silver", "solid black black charcoal", snout=0.04,
         snout_width=1.25, ear_length=0.55, ear_turn=1.3, eye=0.24, head_width=1.05, legs=0.9, tail_curl=1.1, tail=1.2),
    _dog("saint_bernard", "patches red red white", "patches brown brown white", fur=0.1, bulk=1.15, snout=0.5,
         snout_width=1.35),
    _dog("samoyed", "solid white cream white", "solid cream cream white", fur=0.17, ear_length=0.6, ear_turn=0.28,
         ear_tip=0.2, snout=0.5, tail_curl=0.8, tail=2.0, tail_width=0.3),
    _dog("scottish_terrier", "solid black black charcoal", "solid fawn tan cream", ear_length=0.7, ear_turn=0.12,
         ear_tip=0.8, ear_width=0.3, snout=0.75, snout_width=1.1, fur=0.13, legs=0.5, length=1.9, tail=0.9),
    _dog("shiba_inu", "bib ginger red white", "marked tan black cream", ear_length=0.62, ear_turn=0.22, ear_tip=0.4,
         snout=0.45, tail_curl=0.9, tail=1.9, fur=0.07),
    _dog("staffordshire_bull_terrier", "bib charcoal black white", "solid brown chocolate tan", snout=0.4,
         snout_width=1.3, ear_length=0.65, ear_turn=1.0, bulk=1.0, legs=1.0),
    _dog("wheaten_terrier", "solid fawn tan cream", "solid cream fawn cream", fur=0.15, ear_length=0.7,
         ear_turn=1.4, snout=0.6, snout_width=1.15),
    _dog("yorkshire_terrier", "marked tan blue tan", "marked tan grey fawn", fur=0.16, ear_length=0.6, ear_turn=0.2,
         ear_tip=0.6, snout=0.32, snout_width=0.8, legs=0.7, bulk=0.65, nose=0.13, tail=0.9),
)  # fmt: skip
"""The 25 dog breeds of Oxford-IIIT Pet, loosely after the real ones."""

LEAST_EACH = 100
"""Photos for each process: fewer are drawn before it has begun."""
_HEADER = """\
#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-12:Cat 1-25:Dog
#All images with 1st letter as capital are cat images
#images with small first letter are dog images
"""


def make_drawn_pets(folder: Path, n_images: int = 600, size: int = 128, seed: int = 0) -> None:
    """Draw cats and dogs into `folder`, in the layout of Oxford-IIIT Pet (Parkhi et al. 2012).

    Writes ``images/<Breed_name>_<number>.jpg`` (cat breeds begin with a capital), ``annotations/list.txt`` and
    ``groups.csv`` (`files`, relative to `folder`, and `group`, the animal). Animals are cats and dogs in turn and go
    round the breeds; each is in 3 to 5 photos, the last one in what is left. The same arguments give the same bytes on
    every machine. The folder appears when it is complete and not before.

    Parameters
    ----------
    folder : Path
        Must not exist yet, or be empty.
    n_images : int
        At least 1. From 250 on, every breed appears.
    size : int
        Pixels per side.
    seed : int
        Non-negative.

    Raises
    ------
    OSError
        If `folder` holds something or cannot be written.
    """
    with (
        whole_folder(folder) as scratch,
        tqdm(total=n_images, desc="drawing cats and dogs", unit="photo", disable=None) as bar,
    ):
        _draw(scratch, n_images, size, Stream(seed).at("drawn"), bar)


def _draw(folder: Path, n_images: int, size: int, stream: Stream, bar: tqdm) -> None:
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    class_ids = {b.name: i for i, b in enumerate(sorted(CATS + DOGS, key=lambda b: b.name.lower()), start=1)}
    taken: Counter[str] = Counter()
    rows, groups, photos = [], [], []
    for animal in range(n_images):
        species = animal % 2
        breeds = (CATS, DOGS)[species]
        breed_id = animal // 2 % len(breeds)
        mine = stream.at(str(animal))
        rng = mine.numpy()
        one = individual(breeds[breed_id], rng)
        for number in range(min(3 + int(rng.integers(3)), n_images - len(rows))):
            taken[one.name] += 1
            name = f"{one.name}_{taken[one.name]}"
            photos.append((one, mine.at("coat"), mine.at(str(number)), size))
            rows.append(f"{name} {class_ids[one.name]} {species + 1} {breed_id + 1}\n")
            groups.append(f"images/{name}.jpg,animal_{animal:03d}\n")
        if len(rows) == n_images:
            break
    for row, pixels in zip(rows, _photos(photos), strict=True):
        path = folder / "images" / f"{row.split()[0]}.jpg"
        Image.fromarray(pixels).save(path, quality=92, subsampling=0)
        bar.update()
    (folder / "annotations" / "list.txt").write_text(_HEADER + "".join(sorted(rows, key=str.lower)), newline="\n")
    (folder / "groups.csv").write_text("files,group\n" + "".join(sorted(groups)), newline="\n")


def _photos(photos: list[tuple[Breed, Stream, Stream, int]]) -> Iterator[np.ndarray]:
    """What :func:`photo` draws of each, by all cores."""
    n_jobs = max(1, min(cpu_count(), len(photos) // LEAST_EACH))
    if n_jobs == 1:
        yield from (photo(*one) for one in photos)
        return
    jobs = (delayed(photo)(*one) for one in photos)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ tasks", UserWarning)  # joblib's, where the drawing ends early
        resource_tracker.ensure_running()  # Python 3.11 unblocks the signal when it starts this one
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it: Ctrl-C is for this one
        try:
            drawn = Parallel(n_jobs, "loky", return_as="generator", batch_size=8)(jobs)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            yield from drawn
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            get_reusable_executor().shutdown()  # joblib would keep its processes for minutes
