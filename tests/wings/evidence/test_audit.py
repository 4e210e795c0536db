"""The audit: planted leaks are found, clean data are not stopped, and a run says what a person has waived."""

import json
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import leaks
from common import data, training
from common.cli import UserError
from common.config import TrainingConfig
from common.data.folding import Fold
from common.data.made.drawn import make_drawn_pets
from common.data.made.phantoms import make_phantoms
from common.evidence import audit, auditing, looking, mislabelled, untouched
from common.evidence.alike import alike
from common.evidence.findings import Audit, as_json, waivers
from common.evidence.permuted import away_from_chance, permuted_aucs
from common.training.features import frozen_features


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """300 drawn pets."""
    folder = tmp_path_factory.mktemp("data") / "pets"
    make_drawn_pets(folder, 300, 96)
    return folder


@pytest.fixture(scope="module")
def some(drawn, tmp_path_factory):
    """Those of the first 34 animals."""
    folder = tmp_path_factory.mktemp("some") / "pets"
    lines = (drawn / "groups.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if int(line.rsplit("_", 1)[1]) < 34]
    (folder / "images").mkdir(parents=True)
    for line in kept:
        name = line.split(",")[0]
        shutil.copy(drawn / name, folder / name)
    (folder / "groups.csv").write_text("\n".join([lines[0], *kept, ""]))
    return folder


@pytest.fixture(scope="module")
def table(drawn):
    return replace(table_of(drawn), cached=True)


@pytest.fixture(scope="module")
def features(table):
    return audit.coarse_features(table)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def kept(cache, monkeypatch):
    """What an audit computes of the images of a cached table is computed once for all tests that use this."""
    monkeypatch.setenv("REPROAI_STATE", str(cache))


def table_of(folder, size=64):
    return data.load_images(str(folder), size, cached=False)


def outer_folds(table):
    splits = data.current_splits(table)
    return [data.folds_of(splits, root, 1)[0] for root in range(len(splits["root_splits"]))]


def audited(table, folds=None, features=None, **options):
    features = audit.coarse_features(table) if features is None else features
    return audit.audit(table, outer_folds(table) if folds is None else folds, features, **options)


def levels(found):
    return {(one.check, one.level) for one in found.findings}


KINDS = {"renamed": lambda image, rng: image, **leaks.KINDS}


@pytest.mark.slow
def test_of_planted_copies_of_each_kind_95_in_100_are_found_and_nothing_else(drawn, tmp_path):
    folder, rng = tmp_path / "pets", np.random.default_rng(1)
    shutil.copytree(drawn, folder)
    names = sorted(path.name for path in (folder / "images").iterdir())
    lines, planted = [], defaultdict(set)
    for number, row in enumerate(rng.permutation(len(names))):
        kind = list(KINDS)[number % len(KINDS)]
        image = Image.open(folder / "images" / names[row]).convert("RGB")
        copy = f"images/{'Copy' if names[row][0].isupper() else 'copy'}_{number + 1}.png"
        KINDS[kind](image, rng).save(folder / copy)
        lines.append(f"{copy},animal {number}\n")
        planted[kind].add(frozenset((f"images/{names[row]}", copy)))
    with (folder / "groups.csv").open("a") as file:
        file.writelines(lines)
    table = table_of(folder)
    renamed = [table.files.index(name) for name in next(iter(planted["renamed"]))]
    assert len(set(table.unit_of[renamed])) == 1
    level_of = {frozenset(pair[:2]): one.level for one in audited(table).findings for pair in one.pairs}
    for kind, pairs in planted.items():
        found = pairs & level_of.keys()
        print(f"{kind}: found {len(found)} of {len(pairs)}")
        assert len(found) >= 0.95 * len(pairs), kind
        levels_of_kind = {level_of[pair] for pair in found}
        assert levels_of_kind <= {"renamed": {"note"}, "cropped": {"warn"}}.get(kind, {"stop", "warn"}), kind
    assert level_of.keys() <= set().union(*planted.values())


def test_copies_among_learning_images_alone_are_a_warning(table, kept):
    double = replace(
        table,
        files=(*table.files, "images/Zebra_1.jpg"),
        labels=np.append(table.labels, table.labels[:1]),
        groups=np.append(table.groups, "another"),
        digests=(*table.digests, "0"),
        pixels=np.concatenate([table.pixels, table.pixels[:1, :, :, ::-1]]),
        root=table.root / "none",
    )
    rows = np.arange(1, 300)
    learnt = Fold(0, 0, np.append(rows[:250], [0, 300]), rows[250:270], rows[270:])
    tested = Fold(0, 0, np.append(rows[:250], 300), rows[250:270], np.append(rows[270:], 0))
    for fold, level in ((learnt, "warn"), (tested, "stop")):
        assert levels(audited(double, [fold])) == {("near-copies", level)}


def check_clean(table, features=None):
    found = audited(table, features=features)
    assert found.passed and not [pair for one in found.findings for pair in one.pairs], found.lines()
    assert list(found.checks) == ["copies", "near-copies", "identity", "shortcuts", "pipeline"]


def test_clean_data_are_not_stopped(table, features, kept, tmp_path):
    check_clean(table, features)
    make_phantoms(tmp_path / "heads", n_patients=60, size=64)
    check_clean(table_of(tmp_path / "heads"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drawn", "phantoms", "digits"])
def test_the_sources_that_are_made_here_are_not_stopped(name, monkeypatch, tmp_path):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    check_clean(data.load_images(name, 64))


@pytest.mark.slow
def test_of_the_real_photos_the_same_scenes_are_found_and_nothing_else_stops(pets_dir):
    found = audited(table_of(pets_dir), independent=True)
    (stop,) = [one for one in found.findings if one.level == "stop"]
    assert stop.check == "near-copies"
    assert {tuple(re.findall(r"\d+", one + other)) for one, other, *_ in stop.pairs} == {
        ("5", "87"),
        ("24", "56"),
        ("40", "63"),
    }


def altered(drawn, tmp_path, of_class, change):
    """A copy of the drawn pets, each file of a class changed and all saved in one way."""
    folder = tmp_path / "pets"
    shutil.copytree(drawn, folder)
    for path in sorted((folder / "images").iterdir()):
        is_cat = path.name[0].isupper()
        change(Image.open(path).convert("RGB"), path, is_cat == (of_class == "cat"))
    return folder


def test_a_border_around_the_images_of_one_class_is_found(drawn, tmp_path):
    def change(image, path, is_it):
        (ImageOps.expand(ImageOps.crop(image, 6), 6) if is_it else image).save(path, quality=90)

    found = audited(table_of(altered(drawn, tmp_path, "cat", change)))
    assert ("shortcuts", "stop") in levels(found)
    assert any("border alone tells the classes apart: ROC AUC 1.00" in line for line in found.lines())


@pytest.mark.slow
def test_a_site_with_another_maker_that_has_mostly_one_class_is_found(drawn, tmp_path):
    rng = np.random.default_rng(0)

    def change(image, path, is_it):
        exif = Image.Exif()
        exif[271] = "Maker A" if is_it == (rng.random() < 0.9) else "Maker B"
        image.save(path, quality=90, exif=exif)

    found = audited(table_of(altered(drawn, tmp_path, "dog", change)))
    assert levels(found) == {("shortcuts", "stop")}
    assert "tags alone" in found.lines()[0]


def test_a_patient_under_two_names_is_found_by_the_camera_and_the_time(some, tmp_path):
    folder = tmp_path / "pets"
    shutil.copytree(some, folder)
    names = sorted(path.name for path in (folder / "images").iterdir())
    for number, name in enumerate(names[:40]):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA431] = "4711"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:{1 + number // 2:02d} 10:00:{number % 2 * 20:02d}"
        Image.open(folder / "images" / name).save(folder / "images" / name, exif=exif, quality=95)
    groups = (folder / "groups.csv").read_text().splitlines()
    (folder / "groups.csv").write_text("\n".join([groups[0], *(f"{line} {i}" for i, line in enumerate(groups[1:]))]))
    (finding,) = [one for one in audited(table_of(folder)).findings if one.check == "identity"]
    assert (finding.level, len(finding.pairs)) == ("stop", 20)


def test_images_of_nobody_are_stopped_unless_a_person_says_that_each_is_by_itself(some, kept, tmp_path):
    shutil.copytree(some, tmp_path / "pets", ignore=shutil.ignore_patterns("groups.csv"))
    table = replace(table_of(tmp_path / "pets"), cached=True)
    features = audit.coarse_features(table)
    assert levels(audited(table, features=features)) == {("identity", "stop")}
    assert audited(table, features=features, independent=True).findings == []


def test_a_group_on_both_sides_shows_after_labels_are_permuted(table, kept):
    compute = training.set_up(parallel_fits=1, config=TrainingConfig())
    network = training.new_model(TrainingConfig(), table, compute, training_stream())
    features = np.concatenate([frozen_features(network, table), np.eye(300)[table.unit_of] * 20], axis=1)
    rows = np.random.default_rng(0).permutation(len(table))  # of images, not of animals
    torn = [Fold(i, 0, np.setdiff1d(rows, rows[i::5]), rows[:0], rows[i::5]) for i in range(5)]
    assert ("pipeline", "stop") in levels(audited(table, torn, features))
    assert audited(table, features=features).findings == []


@pytest.mark.slow
def test_of_sound_splits_the_permuted_labels_stop_about_one_in_a_thousand():
    rng, stopped = np.random.default_rng(0), 0
    for _ in range(1000):
        features, labels = rng.normal(size=(40, 64)), np.arange(40) % 2
        rows = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
        tests = [np.sort(np.concatenate([of[i : i + 4] for of in rows])) for i in (0, 4)]
        folds = [Fold(i, 0, np.setdiff1d(range(40), test), test[:0], test) for i, test in enumerate(tests)]
        stopped += away_from_chance(permuted_aucs(features, labels, np.arange(40), folds))
    assert stopped <= 5  # 1 is expected; more than 5 come once in 1,700 times


def training_stream():
    from common.seeds import Stream

    return Stream(0)


def test_what_is_fitted_on_the_test_images_too_is_found(drawn, monkeypatch):
    table = table_of(drawn, 32)
    fold, compute = outer_folds(table)[0], training.set_up(parallel_fits=1, config=TrainingConfig())
    assert untouched.touched_by_test(table, fold, TrainingConfig(), compute) == []

    def leaky(table, fold, compute, stream):
        scaled = replace(table, pixels=(table.pixels - table.pixels.mean()).astype(np.uint8))
        return untouched.fit_on.__wrapped__(scaled, fold, compute, stream)

    leaky.__wrapped__ = untouched.fit_on
    monkeypatch.setattr(untouched, "fit_on", leaky)
    assert "dev score" in untouched.touched_by_test(table, fold, TrainingConfig(), compute)


def test_a_run_on_data_with_a_leak_ends_before_its_first_fit_and_goes_on_when_waived(
    run_script, project, some, tmp_path
):
    folder = tmp_path / "leaking"
    shutil.copytree(some, folder)
    names = sorted(path.name for path in (folder / "images").iterdir())
    lines = []
    for number, name in enumerate(names[:30]):
        copy = f"images/{'Copy' if name[0].isupper() else 'copy'}_{number + 1}.png"
        ImageOps.mirror(Image.open(folder / "images" / name)).save(folder / copy)
        lines.append(f"{copy},copy {number}\n")
    with (folder / "groups.csv").open("a") as file:
        file.writelines(lines)
    flags = ("--root-splits", "1", "--inner-splits", "1", "--n-jobs", "1", "--json")
    command = ("step_3/train.py", "--data", folder, "--fast", *flags)
    stopped = run_script(*command)
    assert stopped.returncode == 2 and "fits:" not in stopped.stderr
    assert re.search(r"(?m)^audit: near-copies: \d+ pairs of images, nearly the same, with one for", stopped.stdout)
    assert stopped.stderr.strip().splitlines()[-1] == (
        f"error: --data {folder.name}: the audit says that results would be wrong (near-copies, see above); "
        "mend it, or: --waive near-copies REASON"
    )
    page = re.search(r"(?m)^page: (.+)$", stopped.stdout)[1]
    assert "data:image/png;base64," in Path(page).read_text()
    went_on = run_script(*command, "--waive", "near-copies", "they <b>are</b> twins")
    assert went_on.returncode == 0, went_on.stderr
    assert "; waived: they <b>are</b> twins" in went_on.stdout
    run_id = json.loads(went_on.stdout.splitlines()[-1])["run_id"]
    (kept,) = (path for path in project.rglob("audit.json") if run_id in str(path))
    assert json.loads(kept.read_text())["waived"] == {"near-copies": "they <b>are</b> twins"}
    assert "they &lt;b&gt;are&lt;/b&gt; twins" in kept.with_name("audit.html").read_text()


def test_what_was_found_is_kept_and_survives_a_damaged_file(some, monkeypatch, tmp_path):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    table = data.load_images(str(some), 64)
    features = audit.coarse_features(table)
    first = audited(table, features=features)
    for name in ("look_at_images", "look_at_folds"):
        monkeypatch.setattr(looking, name, None)
    assert audited(table, features=features) == first
    kept = list((tmp_path / "cache").glob("audit-*.json"))
    assert len(kept) == 2
    for path in kept:
        path.write_text("{")
    monkeypatch.undo()
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    assert audited(table, features=features) == first and json.loads(as_json(first))["passed"]


def test_a_full_disk_is_one_line_when_what_was_found_is_kept_or_shown(table, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    (tmp_path / "cache").write_text("")  # in place of the folder
    with pytest.raises(UserError, match=r"cannot be written \(.*\); --no-cache does without the cache"):
        auditing._kept(table, "any", dict)
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        audit._say(Audit("pets", table.fingerprint, {}, [], {}), table, tmp_path)


def test_arrays_are_audited_and_the_page_of_their_copies_has_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    values = np.random.default_rng(0).normal(size=(60, 4, 30)).astype(np.float32)
    values[1] = values[0]
    labels = np.array(["left", "left", "right"] * 20)
    np.savez(tmp_path / "waves.npz", X=values, y=labels, groups=np.arange(60) // 2)
    table = data.load_images(str(tmp_path / "waves.npz"), 64)
    found = audited(table)
    assert levels(found) == {("copies", "note")}
    assert found.checks["near-copies"] == "arrays are not compared"
    assert "<figure>" in audit.audit_page(found, table)


@pytest.mark.parametrize("command", [audit, mislabelled])
def test_a_page_has_the_name_of_one(command):
    arguments = ["nowhere"] if command is mislabelled else ["--data", "nowhere"]
    with pytest.raises(UserError, match=r"^--output x\.pdf: expected a name that ends with \.html$"):
        command.main([*arguments, "--output", "x.pdf"])


def test_waivers_name_a_check_and_a_reason():
    assert waivers([("near-copies", " twins ")]) == {"near-copies": "twins"}
    for wrong in (("copy", "x"), ("shortcuts", "")):
        with pytest.raises(UserError, match=f"--waive {wrong[0]}: "):
            waivers([wrong])


@pytest.mark.parametrize("way", [0, 3, 5, *(pytest.param(way, marks=pytest.mark.slow) for way in (1, 2, 4, 6, 7))])
def test_turned_pictures_are_copies_whatever_the_turn(way, table):
    from common.evidence.alike import turned

    pixels = np.array(table.pixels[:20])
    found = alike(np.concatenate([pixels, np.ascontiguousarray(turned(pixels, way))]), np.arange(40))
    by_kind = defaultdict(set)
    for pair in found.pairs:
        by_kind[pair.kind].add(pair[:2])
    assert by_kind == {"copy": {(i, i + 20) for i in range(20)}}
