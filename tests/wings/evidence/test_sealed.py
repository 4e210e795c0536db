"""Sealed labels: nobody reads them without the key, predictions are scored as often as allowed, by the ladder."""

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from common import data
from common.cli import UserError
from common.data import find_images
from common.data.decoding import digest_pixels
from common.evidence import encryption, score, seal
from common.evidence.ladder import is_better, rung
from common.seeds import Stream
from conftest import PROJECT

BREEDS = {"Bengal": "cat", "beagle": "dog"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """60 pictures of 30 animals, whose EXIF tells the breed, two animals of which share a picture."""
    root, rng, lines = tmp_path_factory.mktemp("photos") / "pets", np.random.default_rng(0), ["files,group"]
    (root / "images").mkdir(parents=True)
    for number in range(60):
        breed = list(BREEDS)[number % 2]
        exif = Image.Exif()
        exif[0x010E] = f"a {breed}"
        image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
        name = f"images/{breed}_{number + 1}.{'png' if number < 6 else 'jpg'}"
        image.save(root / name, exif=exif)
        lines.append(f"{name},animal {number // 4}{breed}")
    shutil.copy(root / "images/Bengal_1.png", root / "images/Bengal_5.png")
    (root / "groups.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def sealed_once(photos, tmp_path_factory):
    """What the command leaves: the folder `sealed`, `key` and `key.reads`."""
    place = tmp_path_factory.mktemp("place")
    seal.main(["--data", str(photos), "--output", str(place / "sealed"), "--key", str(place / "key"), "--budget", "3"])
    return place


@pytest.fixture
def place(sealed_once, tmp_path):
    """A copy of it, to score in."""
    return shutil.copytree(sealed_once, tmp_path / "place")


def truth(place):
    """The names of the sealed images, and whether each is a dog."""
    record = encryption.decrypted("labels", place / "sealed" / "labels.sealed", place / "key")
    return list(record["images"]), np.array([label for label, _ in record["images"].values()])


def written(place, probabilities, name="predictions.csv", names=None, column="probability"):
    path = place / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", column), *zip(names or truth(place)[0], probabilities, strict=True)])
    return path


def scored(place, path, *more):
    return score.main([str(place / "sealed"), "--key", str(place / "key"), "--predictions", str(path), *more])


def test_the_folder_has_neither_label_nor_name_of_a_sealed_image(photos, sealed_once):
    folder = sealed_once / "sealed"
    assert {path.name for path in folder.iterdir()} == {"learn", "sealed", "labels.sealed"}
    images = list((folder / "sealed").iterdir())
    for path in (*images, folder / "labels.sealed"):
        content = path.read_bytes() + path.name.encode()
        assert not any(word in content for word in (b"Bengal", b"beagle", b"animal", b"images", b"classes"))
    for path in images:
        assert Image.open(path).info == {} and path.suffix == ".png" and path.stat().st_mtime == 0
    assert len({len(path.name) for path in images}) == 1
    labels = dict(zip(*truth(sealed_once), strict=True))
    in_order = [labels[name] for name in sorted(labels)]
    assert sorted(in_order) != in_order != sorted(in_order, reverse=True)
    of_pixels = {digest_pixels(path): path.name for path in (photos / "images").iterdir()}
    for path in images:  # lossless: the same pixels, and the label is theirs
        assert BREEDS[of_pixels[digest_pixels(path)].split("_")[0]] == ("cat", "dog")[labels[path.name]]


def test_animals_and_copies_are_on_one_side_and_the_rest_can_be_learnt_from(photos, sealed_once):
    source, learn = find_images(str(photos)), find_images(str(sealed_once / "sealed" / "learn"))
    sealed = {digest_pixels(path) for path in (sealed_once / "sealed" / "sealed").iterdir()}
    of_pixels = [digest_pixels(source.root / name) for name in source.files]
    units = {
        unit: {of_pixels[row] in sealed for row in np.flatnonzero(source.unit_of == unit)} for unit in source.unit_of
    }
    assert all(len(sides) == 1 for sides in units.values())
    names = {name.split("/")[-1] for name in learn.files}
    assert {name for name, digest in zip(source.files, of_pixels, strict=True) if digest not in sealed} == {
        f"images/{name}" for name in names
    }
    assert learn.classes == ("cat", "dog") and set(learn.groups) < set(source.groups)
    labels = truth(sealed_once)[1]
    assert abs(len(labels) / 60 - 0.2) < 0.1 and abs(labels.mean() - 0.5) < 0.2


def test_the_share_is_the_seeds(photos):
    table = data.load_images(str(photos), 64)
    chosen = [seal.choose_sealed(table, Fraction(1, 5), Stream(number))[1].tolist() for number in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    half = seal.choose_sealed(table, Fraction(3, 10), Stream(0))
    assert 12 <= len(half[1]) <= 24 and len(np.intersect1d(*half)) == 0


def test_the_key_is_outside_and_only_its_owner_reads_it(photos, place, tmp_path):
    assert os.stat(place / "key").st_mode & 0o777 == 0o600
    assert not [path for path in (place / "sealed").rglob("*") if "key" in path.name]
    for output, key, problem in (
        ("new", "new/key", "--key .*: lies in"),
        ("place/sealed", "key", "--output .*: exists already"),
        ("new/sealed", "none/key", "--key .*/none/key: no folder"),
        ("new", "place/key", "--key .*: exists already"),
    ):
        with pytest.raises(UserError, match=problem):
            seal.main(["--data", str(photos), "--output", str(tmp_path / output), "--key", str(tmp_path / key)])
    assert {path.name for path in tmp_path.iterdir()} == {"place"}


def test_near_copies_on_both_sides_are_refused(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "pets")
    rows = []
    for number in range(8, 60):
        breed = list(BREEDS)[number % 2]
        name = f"images/{breed}_{number + 101}.png"
        Image.open(folder / f"images/{breed}_{number + 1}.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            folder / name
        )
        rows.append(f"\n{name},another {number}")
    with (folder / "groups.csv").open("a") as file:
        file.writelines(rows)
    with pytest.raises(UserError, match="the audit says that results would be wrong"):
        seal.main(["--data", str(folder), "--output", str(tmp_path / "s"), "--key", str(tmp_path / "k")])
    assert {path.name for path in tmp_path.iterdir()} == {"pets"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "key").write_text("not a key"),
        lambda place: (place / "key").write_bytes(encryption.new_key()),
        lambda place: (place / "key").unlink(),
        lambda place: (place / "key.reads").unlink(),
        lambda place: shutil.copy(place / "sealed" / "labels.sealed", place / "key.reads"),
        lambda place: shutil.copy(place / "key.reads", place / "sealed" / "labels.sealed"),
        lambda place: flip(place / "sealed" / "labels.sealed"),
        lambda place: flip(place / "key.reads"),
    ],
)
def test_a_wrong_key_and_a_changed_bit_are_one_line(damage, place):
    predictions = written(place, truth(place)[1])
    damage(place)
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        scored(place, predictions)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_command_ends_with_2_and_one_line(place):
    command = [sys.executable, "-m", "common.evidence.score", str(place / "sealed"), "--key", str(place / "none")]
    done = subprocess.run([*command, "--predictions", "none"], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"error: {place / 'none'}: No such file or directory\n")


def test_the_best_score_is_told_as_often_as_the_budget_allows_and_the_same_again_costs_nothing(place, capsys):
    names, labels = truth(place)
    record = encryption.decrypted("labels", place / "sealed" / "labels.sealed", place / "key")
    n = len({patient for _, patient in record["images"].values()})
    half = written(place, np.full(len(names), 0.5), "half.csv")
    first = scored(place, half)
    assert first == {"loss": rung(np.full(n, 0.25)), "patients": n, "reads": 1, "budget": 3}
    by_class = place / "by_class.csv"
    with by_class.open("w", newline="") as file:  # as common.production.predict writes it, in another order
        rows = [
            (f"a folder/{name}", 0.9 - 0.8 * dog, 0.1 + 0.8 * dog, "?") for name, dog in zip(names, labels, strict=True)
        ]
        csv.writer(file).writerows([("file", "probability_cat", "probability_dog", "prediction"), *rows[::-1]])
    assert scored(place, by_class)["loss"] == rung(np.full(n, 0.01))
    assert scored(place, half) == {**first, "reads": 2}
    with pytest.raises(UserError, match="all 1 reads are used"):
        scored(place, written(place, 1 - labels), "--budget", "1")
    worse = written(place, 1 - labels)
    assert scored(place, worse)["loss"] == rung(np.full(n, 0.01))
    perfect = written(place, labels, "perfect.csv")
    with pytest.raises(UserError, match="all 3 reads are used"):
        scored(place, perfect)
    assert scored(place, worse)["reads"] == 3
    assert capsys.readouterr().out.splitlines()[-1] == "reads: 3 of 3"
    assert len((place / "sealed" / "reads.csv").read_text().splitlines()) == 4


def test_an_older_count_of_reads_is_noticed(place):
    labels = truth(place)[1]
    shutil.copy(place / "key.reads", place / "old")
    scored(place, written(place, labels))
    shutil.copy(place / "old", place / "key.reads")
    with pytest.raises(UserError, match="lacks reads that"):
        scored(place, written(place, 1 - labels))


def test_predictions_that_are_none_cost_no_read(place, sealed_once):
    names, labels = truth(place)
    good = labels.astype(float).tolist()
    for probabilities, of, column, problem in (
        (good[1:], names[1:], "probability", "is missing"),
        ([*good, 0.5], [*names, "other.png"], "probability", "is not sealed"),
        ([*good, 0.5], [*names, names[0]], "probability", "is listed twice"),
        ([math.nan, *good[1:]], names, "probability", "line 2: probability is 'nan'; expected a number from 0 to 1"),
        ([1.5, *good[1:]], names, "probability", "expected a number from 0 to 1"),
        (["many", *good[1:]], names, "probability", "expected a number from 0 to 1"),
        (good, names, "score", "expected the columns file,probability_cat,probability_dog"),
    ):
        with pytest.raises(UserError, match=rf"^{place}/predictions\.csv[^\n]*{problem}[^\n]*$"):
            scored(place, written(place, probabilities, names=of, column=column))
    with pytest.raises(UserError, match="No such file"):
        scored(place, place / "none.csv")
    sums = place / "sums.csv"
    with sums.open("w", newline="") as file:
        rows = [(name, 0.5, 0.6) for name in names]
        csv.writer(file).writerows([("file", "probability_cat", "probability_dog"), *rows])
    with pytest.raises(UserError, match=r"sum up to 1\.1"):
        scored(place, sums)
    sums.write_text(sums.read_text().replace(",0.6", ",0.5,1,2"))
    with pytest.raises(UserError, match=r"sums\.csv, line 2: more fields than the header has"):
        scored(place, sums)
    assert (place / "key.reads").read_bytes() == (sealed_once / "key.reads").read_bytes()


def test_a_patient_counts_once_however_many_images():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    losses = score.brier_losses(probabilities, np.array([0, 0, 1, 1]), np.array([7, 7, 7, 3]))
    assert losses.tolist() == pytest.approx([0, (0.03 + 1 + 0) / 3])


MOMENTS = {  # right before the labels, the key, the count of reads, and the folder's name are written
    "labels": (encryption, "encrypted"),
    "key": (seal, "_new_key_file"),
    "reads": (seal, "whole_file"),
    "name": (os, "replace"),
}


@pytest.mark.hostile("a killed seal leaves a whole folder with its key, or no folder", cases=len(MOMENTS))
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_seal_is_never_half(moment, photos, tmp_path):
    table = data.load_images(str(photos), 64)
    halves = seal.choose_sealed(table, Fraction(1, 5), Stream(0))
    pid = os.fork()
    if pid == 0:
        module, name = MOMENTS[moment]
        usual = getattr(module, name)

        def killed(*args):
            is_moment = moment != "name" or args[1] == tmp_path / "sealed"
            return os.kill(os.getpid(), signal.SIGKILL) if is_moment else usual(*args)

        setattr(module, name, killed)
        seal.write_seal(table, *halves, 3, tmp_path / "sealed", tmp_path / "key")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "sealed").exists()
    assert (tmp_path / "key").exists() == (moment in ("reads", "name"))
    for name in ("key", "key.reads"):
        (tmp_path / name).unlink(missing_ok=True)
    seal.write_seal(table, *halves, 3, tmp_path / "sealed", tmp_path / "key")
    assert truth(tmp_path)[1].size == len(halves[1])


def attacked(told, kept, labels, k, rng):
    """The attack of Blum & Hardt (section 4): k random predictions, and the majority of those with a better score."""
    tried = rng.integers(0, 2, (k, len(labels)))
    answers = np.array([told((one != labels).astype(float)) for one in tried])
    return told(((tried[kept(answers)].mean(axis=0) > 0.5) != labels).astype(float))


def a_ladder():
    reads = {"answers": [], "losses": None}

    def told(losses):
        reads["answers"].append((len(reads["answers"]), score._climb(reads, losses)))
        return reads["answers"][-1][1]

    return told


def test_an_attacker_gains_far_with_plain_scores_and_little_on_the_ladder():
    n, k, times = 200, 200, 20
    plain, ladder = [], []
    for number in range(times):
        rng = np.random.default_rng(number)
        labels = rng.integers(0, 2, n)
        plain.append(attacked(np.mean, lambda answers: answers < 0.5, labels, k, rng))
        ladder.append(attacked(a_ladder(), lambda answers: np.diff(answers, prepend=0.5) < 0, labels, k, rng))
    # Hoeffding: what k + 1 predictions, all made before the first answer, would gain by chance in one of 20 tries
    bound = 0.5 - math.sqrt(math.log(2 * (k + 1) * times / 0.05) / (2 * n))
    print(f"truth 0.5; told: plain {np.mean(plain):.3f}, ladder {np.mean(ladder):.3f}; bound {bound:.3f}")
    assert np.mean(plain) < bound < min(ladder)
    assert 0.5 - np.mean(ladder) < (0.5 - np.mean(plain)) / 2


def test_what_differs_for_one_patient_alone_is_never_better():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        losses = rng.random(50)
        other = losses.copy()
        other[rng.integers(50)] *= rng.random()
        assert not is_better(other, rung(losses), losses)
        assert is_better(losses - 0.01, losses.mean(), losses)
