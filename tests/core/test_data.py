"""The room `common/data`: sources, image tables and their cache, the download of the real photos, and splits."""

import hashlib
import http.server
import io
import json
import multiprocessing
import pickle
import re
import shutil
import socket
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from common import data
from common.cli import UserError
from common.data import decoded as module, load_images
from common.data.decoding import read_image
from common.seeds import Stream
from common.state import data_folder
from conftest import make_tiny_pets
from step_1 import download_data
from step_3 import make_dataset_splits


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder that the state lies in, instead of the project's."""
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def pets(home):
    return make_tiny_pets(home / "pets", n_per_class=6, groups=False)


def draw(root, *names, value=None):
    """A different picture for each name, or the one of `value`."""
    for name in names:
        pixels = np.random.default_rng(list((value or name).encode())).integers(0, 256, (20, 20, 3), np.uint8)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)


def load(root, **options):
    return load_images(str(root), 16, **options)


def labelled(table):
    return {file: table.classes[label] for file, label in zip(table.files, table.labels, strict=True)}


# ---- layouts


@pytest.mark.parametrize("folder", ["images/", ""], ids=["oxford", "flat oxford"])
def test_breeds_that_begin_with_a_capital_are_cats(home, folder):
    names = [f"{folder}{name}" for name in ("Manx_10.PNG", "Manx_2.jpg", "great_dane_1.jpg", "pug_1.jpg")]
    draw(home / "mine", *reversed(names))
    table = load(home / "mine")
    assert list(table.files) == names
    assert (table.classes, table.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1])
    assert (table.pixels.shape, table.pixels.dtype) == ((4, 3, 16, 16), np.uint8)
    assert (table.pixels[1] == read_image(home / "mine" / names[1], 16)).all()


def test_a_folder_per_class_names_the_classes_in_order(home):
    names = ["melanoma/a.jpg", "naevus/site 2/ä.jpg", "naevus/b.jpg"]
    draw(home / "mine", *names)
    table = load(home / "mine")
    assert table.classes == ("melanoma", "naevus")
    assert labelled(table) == {name: name.split("/")[0] for name in names}
    assert list(table.files) == sorted(names)


def test_info_csv_labels_the_files_that_it_lists(home, capsys):
    draw(home / "mine", "x/1.png", "x/2.png", "x/3.png", "x/4.png")
    (home / "mine" / "info.csv").write_text("id,type,files\n7,tumour,x/4.png\n8,healthy,x/1.png\n9,tumour,x/2.png\n")
    table = load(home / "mine")
    assert labelled(table) == {"x/1.png": "healthy", "x/2.png": "tumour", "x/4.png": "tumour"}
    assert table.classes == ("healthy", "tumour")
    assert "left out: 1 images without a label" in capsys.readouterr().out


def test_groups_csv_names_the_group_of_each_image(home):
    draw(home / "mine", "a/1.jpg", "a/2.jpg", "b/3.jpg")
    groups = home / "mine" / "groups.csv"
    groups.write_text("files,group\nb/3.jpg,patient 2\na/1.jpg,patient 1\na/2.jpg,patient 2\n")
    assert load(home / "mine").groups.tolist() == ["patient 1", "patient 2", "patient 2"]
    groups.write_text("files,group\nb/3.jpg,patient 2\na/1.jpg,patient 1\n")
    with pytest.raises(UserError, match=r"groups\.csv: no group for a/2\.jpg"):
        load(home / "mine")


def test_what_is_no_image_of_the_set_is_reported_and_not_read(pets, capsys):
    names = load(pets).files
    draw(pets, "annotations/trimaps/Bengal_1.png", "images/.hidden_1.jpg", "__MACOSX/images/a_1.jpg", ".git/x_1.jpg")
    (pets / "images" / "Bengal_1.mat").write_bytes(b"MATLAB 5.0")
    (pets / "images" / "Thumbs").write_bytes(b"")
    (pets / "annotations" / "list.txt").write_text("Bengal_1 1 1 1\n")
    capsys.readouterr()
    assert load(pets).files == names
    left_out = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert left_out == ["1 files without suffix", "1 .mat", "1 images without a label"]


# ---- reading by content

QUADRANTS = np.array([[[250, 10, 10], [10, 240, 20]], [[20, 10, 245], [240, 240, 240]]], np.uint8)
PICTURE = Image.fromarray(QUADRANTS).resize((48, 48), Image.Resampling.NEAREST)


def turned(picture):
    """As it was, with a note that it is to be shown turned by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return picture.transpose(Image.Transpose.ROTATE_90), {"quality": 98, "exif": exif}


@pytest.mark.parametrize(
    ("form", "picture", "options"),
    [
        ("GIF", PICTURE.quantize(), {}),
        ("PNG", PICTURE.convert("RGBA"), {}),
        ("JPEG", PICTURE.convert("CMYK"), {"quality": 98}),
        ("JPEG", *turned(PICTURE)),
    ],
    ids=["gif", "rgba", "cmyk", "turned"],
)
def test_a_picture_is_read_by_its_content_and_not_its_name(home, form, picture, options):
    draw(home / "mine", "b/1.jpg", "a/1.jpg")
    picture.save(home / "mine" / "a" / "1.jpg", form, **options)
    pixels = load(home / "mine").pixels[0].astype(int)
    for row, column in np.ndindex(2, 2):
        assert abs(pixels[:, 4 + 8 * row, 4 + 8 * column] - QUADRANTS[row, column]).max() < 12


def test_sixteen_bit_grey_keeps_its_range(home):
    draw(home / "mine", "b/1.jpg", "a/1.jpg")
    Image.fromarray(np.linspace(0, 65535, 48 * 48).reshape(48, 48).astype(np.uint16)).save(home / "mine/a/1.jpg", "PNG")
    pixels = load(home / "mine").pixels[0].astype(int)
    assert (pixels == pixels[:1]).all()
    assert abs(pixels[0].mean(axis=1) - np.linspace(8, 247, 16)).max() < 3


# ---- fingerprint


def write_table(root, name, column, value_of):
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.jpg"))
    (root / name).write_text("\n".join([f"files,{column}", *(f"{name},{value_of(name)}" for name in names), ""]))


def pairs(file):
    """Two animals a breed, by the parity of the number."""
    return file.split("/")[1][:3] + str(int(file[-5]) % 2)


def test_any_change_changes_the_fingerprint(pets):
    def fingerprint_with(column, value_of):
        write_table(pets, {"group": "groups.csv", "type": "info.csv"}[column], column, value_of)
        return load(pets).fingerprint

    first = pets / "images" / "Bengal_1.jpg"
    found = [fingerprint_with("group", pairs), fingerprint_with("group", lambda file: pairs(file)[0])]
    found.append(fingerprint_with("type", lambda file: "dog" if file.endswith("_1.jpg") or "beagle" in file else "cat"))
    first.write_bytes(first.read_bytes() + b"\0")
    found.append(load(pets).fingerprint)
    first.rename(first.with_name("Bengal_01.jpg"))  # the first one still
    for table in (pets / "groups.csv", pets / "info.csv"):
        table.write_text(table.read_text().replace("Bengal_1.", "Bengal_01."))
    found.append(load(pets).fingerprint)
    assert len(set(found)) == 5


# ---- cache


def test_images_are_decoded_once_and_a_copy_elsewhere_is_the_same_data(pets, home, monkeypatch):
    first = load(pets)
    shutil.copytree(pets, home / "copy")
    monkeypatch.setattr(module, "read_image", lambda *_: pytest.fail("decoded again"))
    for table in (load(pets), load(home / "copy")):
        assert table.fingerprint == first.fingerprint and (table.pixels == first.pixels).all()


def test_a_pickled_table_still_maps_its_pixels(pets):
    table = load_images(str(pets), 64)
    pickled = pickle.dumps(table)
    again = pickle.loads(pickled)
    assert len(pickled) < table.pixels.nbytes / 10
    assert isinstance(again.pixels, np.memmap)
    assert not again.pixels.flags.writeable
    assert (again.pixels == table.pixels).all()
    assert (again.files, again.fingerprint) == (table.files, table.fingerprint)


def decode_slowly(root, home, start, decoded):
    def slow(path, size):
        decoded.put(path.name)
        time.sleep(0.05)
        return read_image(path, size)

    module.read_image = slow
    start.wait()
    assert len(load(root)) == 12


def test_two_processes_at_once_make_one_cache(pets, home):
    context = multiprocessing.get_context("spawn")
    start, decoded = context.Barrier(2), context.Queue()
    both = [context.Process(target=decode_slowly, args=(pets, home, start, decoded)) for _ in range(2)]
    for process in both:
        process.start()
    names = [decoded.get(timeout=60) for _ in range(12)]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert decoded.empty()
    assert len(set(names)) == 12
    assert [p.suffix for p in (home / "cache").iterdir() if p.suffix not in (".lock", ".json")] == [".npy"]


def test_an_interrupted_decoding_leaves_no_cache(pets, monkeypatch):
    def interrupted(path, size):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "read_image", interrupted)
        load(pets)
    assert load(pets).pixels.any(axis=(1, 2, 3)).all()


def test_unreadable_images_are_named_or_left_out(pets, capsys):
    good = load_images(str(pets), 64)
    photo = (pets / "images" / "Bengal_1.jpg").read_bytes()
    bad = {"Bengal_7.jpg": photo[: len(photo) // 2], "Bengal_8.jpg": b"", "beagle_7.jpg": b"a text, no picture"}
    for name, content in bad.items():
        (pets / "images" / name).write_bytes(content)
    (pets / "images" / "Bengal_9.jpg").symlink_to("nowhere")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UserError, match=r"pets/images/Bengal_7\.jpg.*truncated.*3 more.*--skip-unreadable"):
            load_images(str(pets), 64)
        capsys.readouterr()
        table = download_data.main(["--data", str(pets), "--skip-unreadable"])
        out = capsys.readouterr().out
        assert all(f"left out: images/{name}: not a readable image" in out for name in bad)
        assert "left out: images/Bengal_9.jpg: No such file or directory" in out
        assert table.fingerprint == good.fingerprint
        assert (table.pixels == good.pixels).all()


# ---- the download of the real set


def archive(root, folder):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(root / folder, folder)
    return file.getvalue()


@pytest.fixture
def site(pets, monkeypatch):
    """A server with a small set of the real one's layout; `broken` archives are cut off half-way."""
    draw(pets, "annotations/trimaps/Bengal_1.png")
    for name in ("list", "trainval", "test"):
        (pets / "annotations" / f"{name}.txt").write_text("Bengal_1 1 1 1\nbeagle_1 2 2 1\n")
    files = {f"/{name}.tar.gz": archive(pets, name) for name in ("images", "annotations")}
    broken = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in broken else content)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that asks only for the address hangs up

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    server.files, server.broken = files, broken
    point_to(server.address, files, monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


def point_to(address, files, monkeypatch, md5=lambda content: hashlib.md5(content).hexdigest()):
    resources = tuple((address + name, md5(content)) for name, content in files.items())
    monkeypatch.setattr("torchvision.datasets.OxfordIIITPet._RESOURCES", resources)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_the_download_becomes_a_table_and_is_not_repeated(site, pets, home):
    table = load_images("oxford-pets", 16)
    assert table.name == "oxford-pets"
    assert table.root.is_relative_to(home / "data" / "oxford-pets")
    assert table.fingerprint == load(pets).fingerprint
    assert [p.name for p in (home / "data").iterdir() if not p.name.startswith(".")] == ["oxford-pets"]
    site.files.clear()
    assert load_images("oxford-pets", 16).fingerprint == table.fingerprint


def test_a_download_that_is_interrupted_or_damaged_is_refused_and_can_be_repeated(site, home, monkeypatch):
    site.broken.add("/annotations.tar.gz")
    with pytest.raises(UserError, match="download failed"):
        load_images("oxford-pets", 16)
    assert not (home / "data" / "oxford-pets").exists()
    site.broken.clear()
    point_to(site.address, site.files, monkeypatch, md5=lambda content: "0" * 32)
    with pytest.raises(UserError, match=r"download failed \(.*corrupted.*--data drawn"):
        load_images("oxford-pets", 16)
    assert not (home / "data" / "oxford-pets").exists()
    point_to(site.address, site.files, monkeypatch)
    assert len(load_images("oxford-pets", 16)) == 12


def test_neither_an_interrupted_unpacking_nor_splits_of_that_name_are_taken_for_the_download(site, home):
    partial = home / "data" / "oxford-pets.partial" / "oxford-iiit-pet"
    draw(partial, "images/Bengal_1.jpg", "annotations/trimaps/Bengal_1.png")
    (home / "data" / "oxford-pets").mkdir()
    (home / "data" / "oxford-pets" / "dataset_splits.json").write_text("{}")
    assert len(load_images("oxford-pets", 16)) == 12


def test_without_a_network_the_error_says_where_to_put_the_archives(site, home, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    point_to(closed, site.files, monkeypatch)
    with pytest.raises(UserError) as error:
        load_images("oxford-pets", 16)
    folder = home / "data" / "oxford-pets.partial" / "oxford-iiit-pet"
    text = str(error.value)
    assert "\n" not in text
    assert f"{closed}/images.tar.gz and {closed}/annotations.tar.gz into {folder}" in text
    assert "--data drawn" in text
    assert not (home / "data" / "oxford-pets").exists()
    for name, content in site.files.items():
        (folder / name[1:]).write_bytes(content)
    assert len(load_images("oxford-pets", 16)) == 12


# ---- splits


def a_table(n_cats=60, n_dogs=40, group_of=None):
    """A table without pictures; `group_of` names the group of a row."""
    names = [f"images/{'Bengal' if i < n_cats else 'beagle'}_{i:04d}.jpg" for i in range(n_cats + n_dogs)]
    return data.ImageTable(
        name="mine",
        root=data_folder(),
        files=tuple(names),
        labels=np.repeat([0, 1], [n_cats, n_dogs]),
        classes=("cat", "dog"),
        groups=None if group_of is None else np.array([group_of(i) for i in range(len(names))]),
        digests=tuple(hashlib.sha256(name.encode()).hexdigest() for name in names),
    )


def by_threes(row):
    return f"animal {row // 3}"


def test_splits_by_default_are_nested_and_stratified_ten_by_ten_and_are_kept(capsys):
    table = a_table()
    splits = data.load_splits(table)
    assert str(data.splits_file(table)) in capsys.readouterr().out
    assert data.load_splits(table) == splits == data.make_splits(table, Stream(0).at("splits"))
    assert capsys.readouterr().out == ""
    roots = splits["root_splits"]
    assert len(roots) == 10
    assert sorted(row for root in roots for row in root["test_indices"]) == list(range(100))
    for root in roots:
        assert table.labels[root["test_indices"]].tolist() == [0] * 6 + [1] * 4
        rest = sorted(set(range(100)) - set(root["test_indices"]))
        assert len(root["nested_splits"]) == 10
        assert sorted(row for nested in root["nested_splits"] for row in nested["dev_indices"]) == rest
        for nested in root["nested_splits"]:
            assert sorted(nested["train_indices"] + nested["dev_indices"]) == rest
            assert np.bincount(table.labels[nested["dev_indices"]]).tolist() in ([6, 4], [6, 3], [5, 4], [5, 3])


@pytest.mark.parametrize(("n_groups", "folds"), [(30, (10, 10)), (11, (10, 9)), (8, (8, 7)), (3, (3, 2))])
def test_of_few_groups_there_are_as_many_folds_as_they_allow(n_groups, folds):
    table = a_table(60, 60, lambda row: f"subject {row % n_groups}")
    splits = data.load_splits(table)
    assert (splits["root_folds"], splits["nested_folds"]) == folds
    assert splits == data.make_splits(table, Stream(0).at("splits"), folds[0], 1, folds[1])


def test_groups_stay_whole_and_every_repeat_tests_every_image_once():
    table = a_table(61, 41, by_threes)
    splits = data.make_splits(table, Stream(0), root_folds=3, root_repeats=2, nested_folds=4, nested_repeats=2)
    roots = splits["root_splits"]
    assert len(roots) == 6
    for repeat in (roots[:3], roots[3:]):
        assert sorted(row for root in repeat for row in root["test_indices"]) == list(range(102))
    assert {tuple(root["test_indices"]) for root in roots[:3]} != {tuple(root["test_indices"]) for root in roots[3:]}
    for number in range(6):
        folds = data.folds_of(splits, number)
        assert [(fold.root_split, fold.inner_split) for fold in folds] == [(number, i) for i in range(8)]
        for fold in folds:
            groups = [set(table.groups[rows]) for rows in (fold.train, fold.dev, fold.test)]
            assert sum(map(len, groups)) == len(set.union(*groups)) == 34
            assert all(set(table.labels[rows]) == {0, 1} for rows in (fold.train, fold.dev, fold.test))


@pytest.mark.parametrize("group_of", [None, by_threes])
def test_splits_depend_on_the_seed_alone(group_of):
    table = a_table(group_of=group_of)
    first, again, other = (json.dumps(data.make_splits(table, Stream(seed), 4, 2, 3, 1)) for seed in (7, 7, 8))
    assert first == again
    assert json.loads(first)["root_splits"] != json.loads(other)["root_splits"]


def test_too_few_images_or_groups_of_a_class_are_refused():
    three = {"a": 40, "b": 7, "c": 8}
    labels = np.repeat(range(3), list(three.values()))
    table = replace(a_table(40, 15), labels=labels, classes=tuple(three))
    most = "the most that works is step_3/make_dataset_splits.py --root-folds"
    line = (
        f"7 images of class b, the smallest class; expected at least 10, one for each fold; {most} 7 --nested-folds 6"
    )
    with pytest.raises(UserError, match=re.escape(line)):
        data.make_splits(table, Stream(0), 10, 1, 10)
    assert len(data.make_splits(table, Stream(0), 7, 1, 6)["root_splits"]) == 7
    line = f"9 images of class dog, the smallest class, without those for testing; .* {most} 10 --nested-folds 9"
    with pytest.raises(UserError, match=line):
        data.make_splits(a_table(20, 10), Stream(0), 10, 1, 10)
    with pytest.raises(UserError, match="4 groups of images of class dog, the smallest class; expected at least 5"):
        data.random_fold(a_table(60, 12, by_threes), Stream(0))
    with pytest.raises(UserError, match=r"2 groups .*: nested folds take three of each class"):
        data.make_splits(a_table(60, 6, by_threes), Stream(0))


def test_other_splits_are_replaced_only_when_asked_to(home, pets, capsys):
    def make(seed, *flags):
        return make_dataset_splits.main(
            ["--data", str(pets), "--root-folds", "3", "--nested-folds", "2", "--seed", str(seed), *flags]
        )

    first = make(0)
    assert make(0) == first and "up to date" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"dataset_splits\.json: holds other splits already; --force"):
        make(1)
    assert data.load_splits(load(pets)) == first
    other = make(1, "--force")
    assert data.load_splits(load(pets)) == other != first
    assert [path.name for path in (home / "data" / "pets").iterdir()] == ["dataset_splits.json"]


def test_splits_of_changed_photos_are_refused_and_say_what_changed(pets):
    original = (pets / "images" / "Bengal_2.jpg").read_bytes()
    splits, path = data.make_splits(load(pets), Stream(0), 3, 1, 3, 1), data.splits_file(load(pets))
    data.save_splits(splits, path)

    def refusal():
        with pytest.raises(UserError, match=r"pets/dataset_splits\.json: made for other data than .*/pets: ") as error:
            data.load_splits(load(pets))
        return str(error.value).split("/pets: ")[1]

    shutil.copy(pets / "images" / "Bengal_3.jpg", pets / "images" / "Bengal_2.jpg")
    assert refusal().startswith("1 changed (images/Bengal_2.jpg);")
    (pets / "images" / "Bengal_2.jpg").unlink()
    assert refusal().startswith("1 missing (images/Bengal_2.jpg);")
    draw(pets, "images/pug_1.jpg", "images/pug_2.jpg")
    assert refusal().startswith("1 missing (images/Bengal_2.jpg), 2 new (images/pug_1.jpg);")
    for number in (1, 2):
        (pets / "images" / f"pug_{number}.jpg").unlink()
    (pets / "images" / "Bengal_2.jpg").write_bytes(original)
    assert data.load_splits(load(pets)) == splits
    write_table(pets, "groups.csv", "group", lambda file: file)
    assert refusal().startswith("labels or groups changed;")
    data.save_splits(data.make_splits(load(pets), Stream(0), 3, 1, 3, 1), path)
    (kept,) = path.parent.glob("dataset_splits-*.json")
    assert json.loads(kept.read_text()) == splits != data.load_splits(load(pets))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda train, dev, test, roots: dev.append(train[0]), "HERE: FILE is in train and in dev"),
        (lambda train, dev, test, roots: train.append(test[0]), "HERE: FILE is in train and in test"),
        (lambda train, dev, test, roots: dev.append(test[0]), "HERE: FILE is in dev and in test"),
        (lambda train, dev, test, roots: dev.append(train.pop()), "HERE: group animal [0-9]+ is in train and in dev"),
        (lambda train, dev, test, roots: dev.append(dev[0]), "HERE: dev .*repeats an index"),
        (lambda train, dev, test, roots: dev.clear(), "HERE: dev is empty"),
        (lambda train, dev, test, roots: train.append(-1), "HERE: train .* has one outside 0-101"),
        (lambda train, dev, test, roots: train.append(102), "HERE: train .* has one outside 0-101"),
        (lambda train, dev, test, roots: roots.append(roots[0]), "FILE is tested 2 times; expected once"),
        (lambda train, dev, test, roots: roots.pop(), "FILE is tested 0 times; expected once"),
        (lambda train, dev, test, roots: roots[2].pop("nested_splits"), "not a splits file .*nested_splits"),
        (lambda train, dev, test, roots: test.append("first"), "not a splits file .*first"),
    ],
)
def test_splits_that_leak_or_leave_out_are_refused(tamper, message):
    table = a_table(61, 41, by_threes)
    path = data.splits_file(table)
    splits = data.make_splits(table, Stream(0), 3, 1, 3, 1)
    roots = splits["root_splits"]
    nested = roots[1]["nested_splits"][2]
    tamper(nested["train_indices"], nested["dev_indices"], roots[1]["test_indices"], roots)
    data.save_splits(splits, path)
    message = message.replace("HERE", "root split 1, nested split 2").replace("FILE", r"images/\w+\.jpg")
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {message}"):
        data.load_splits(table)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "a"}'])
def test_a_damaged_splits_file_is_refused(text):
    table = a_table()
    path = data.splits_file(table)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=r"dataset_splits\.json: not a splits file .*make_dataset_splits.py makes one"):
        data.load_splits(table)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read"):
        data.load_splits(table)


def test_more_splits_than_the_file_holds_are_refused():
    splits = data.make_splits(a_table(), Stream(0), 3, 1, 4, 1)
    assert len(data.folds_of(splits, 2, 4)) == 4
    with pytest.raises(UserError, match="--root-splits: expected at most 3"):
        data.folds_of(splits, 3)
    with pytest.raises(UserError, match="--inner-splits 5: expected at most 4"):
        data.folds_of(splits, 0, 5)
