"""Labels that are wrong: networks that have not seen an image doubt its label."""

import json
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
from kept_results import make_run, predictions

from common.cli import UserError
from common.data.made.drawn import make_drawn_pets
from common.evidence import ledger, mislabelled
from common.evidence.mislabelled import doubtful_labels

SWAPPED = 100


@pytest.mark.slow
def test_of_100_swapped_labels_most_are_on_the_list_and_first(run_script, tmp_path):
    make_drawn_pets(tmp_path / "drawn", 600, 96)
    names = sorted(path.name for path in (tmp_path / "drawn" / "images").iterdir())
    swapped = set(np.random.default_rng(0).choice(names, SWAPPED, replace=False).tolist())
    group_of = dict(line.split(",") for line in (tmp_path / "drawn" / "groups.csv").read_text().split()[1:])
    folder, lines, wrong = tmp_path / "swapped", ["files,group"], set()
    for name in names:
        label = "cat" if name[0].isupper() != (name in swapped) else "dog"
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "drawn" / "images" / name, folder / label / name)
        lines.append(f"{label}/{name},{group_of[f'images/{name}']}")
        wrong |= {f"{label}/{name}"} if name in swapped else set()
    (folder / "groups.csv").write_text("\n".join(lines))
    run = ("step_3/train.py", "--data", folder, "--image-size", "64", "--root-splits", "10", "--inner-splits", "1")
    done = run_script(*run, "--json")
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    page = tmp_path / "labels.html"
    listed = run_script("common/evidence/mislabelled.py", run_id, "--output", page, "--json")
    assert listed.returncode == 0, listed.stderr
    found = [one["file"] for one in json.loads(listed.stdout.splitlines()[-1])["doubtful"]]
    print(f"swapped labels: {len(set(found) & wrong)} of {SWAPPED} found, {len(set(found) - wrong)} others")
    assert len(set(found) & wrong) >= 60
    assert len(set(found[:50]) & wrong) >= 30
    assert page.read_text().count("data:image/png;base64,") == min(200, len(found))


def test_the_first_digits_of_an_id_are_enough_and_a_page_that_cannot_be_written_is_one_line(
    home, tmp_path, monkeypatch, capsys
):
    run_id, images = make_run(1), mock.MagicMock(files=())
    images.name = "pets"
    monkeypatch.setattr(mislabelled.data, "load_images", lambda *_, **__: images)
    mislabelled.main([run_id[:8], "--output", str(tmp_path / "labels.html"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run_id"] == run_id
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        mislabelled.main([run_id[:8], "--output", str(tmp_path / "folder.html")])


def test_labels_are_judged_by_predictions_on_the_record_alone_and_that_is_a_read(home, tmp_path, monkeypatch, capsys):
    run_id, images, page = make_run(1, recorded="yes"), mock.MagicMock(files=()), tmp_path / "labels.html"
    images.name = "pets"
    monkeypatch.setattr(mislabelled.data, "load_images", lambda *_, **__: images)
    with pytest.raises(UserError, match="outer fold 0 are not on the record"):
        mislabelled.main([run_id, "--output", str(page)])
    assert capsys.readouterr().out == "" and not page.exists() and ledger.ledger_lines() == []
    ledger.put_on_record(run_id, {}, predictions(0))
    mislabelled.main([run_id, "--output", str(page)])
    assert "were read 1 time; 1 config tried on them" in capsys.readouterr().out
    assert [line.get("reason") for line in ledger.ledger_lines()] == [None, "mislabelled"]


def test_without_cleanlab_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r"^cleanlab is not installed; pip install cleanlab, extra `evidence`$"):
        doubtful_labels(None)


def test_a_run_that_is_not_there_is_one_line(run_script):
    done = run_script("common/evidence/mislabelled.py", "no-such-run")
    assert (done.returncode, done.stderr) == (2, "error: run no-such-run: no such run\n")
