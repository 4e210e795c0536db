"""The report: each number is bound to an artifact; nothing is claimed that audit or record do not allow."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
from contextlib import redirect_stdout
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from browsing import axe_core
from kept_results import make_run
from PIL import Image

from common import tracking
from common.cli import UserError
from common.data.made.phantoms import make_phantoms
from common.evidence import report
from common.evidence.checklists import forms
from common.evidence.claims import without_claims
from common.evidence.questions import QUESTIONS, read_answers, write_questions
from common.evidence.report_sections import method
from common.evidence.statements import Evidence, Rows
from common.evidence.verifying import differences_of
from common.results import delete_runs

GOLDEN = Path(__file__).with_name("report.md")
FAST = ("--fast", "--image-size", "32", "--n-trials", "1", "--json")
IDS = (8, 16, 24, 32, 40, 64)
MACHINE = (
    "device|deterministic|threads|cpu|cores|memory gib|python|platform|git commit|git dirty|lock sha256|hidden dim"
)
SCORES = (
    "ROC AUC|(?:sensitiv|specific)ity[^|]*|[PN]PV|(?:balanced )?accuracy|MCC|precision|F1|PR AUC|Brier score|log loss"
)
WORDS = re.compile("performance|accurac", re.IGNORECASE)


def two_sites(folder, n_patients=48):
    """Phantoms of two sites; the second one's scanner shows them darker."""
    make_phantoms(folder, n_patients, 2, 64)
    rng = np.random.default_rng(0)
    sites = dict(zip(range(n_patients), rng.permutation(["north", "south"] * (n_patients // 2)).tolist(), strict=True))
    lines = ["files,type,site"]
    for path in sorted(folder.glob("*/*.png")):
        site = sites[int(path.stem.split("_")[1])]
        lines.append(f"{path.relative_to(folder).as_posix()},{path.parent.name},{site}")
        if site == "south":
            Image.open(path).point(lambda value: value * 7 // 8).save(path)
    (folder / "info.csv").write_text("\n".join(lines))
    return folder


class Store:
    """Runs of one state folder, and reports of them."""

    def __init__(self, run_script, folder):
        self.run_script, self.folder, self.state = run_script, folder, folder / "state"

    def run(self, *arguments, **options):
        return self.run_script(*arguments, REPROAI_STATE=str(self.state), **options)

    def train(self, data, *flags):
        done = self.run("step_4/train.py", "--data", data, *FAST, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def report(self, *arguments, output=None):
        output = output or self.folder / "report.html"
        report.main([*arguments, "--output", str(output)])
        return output.read_text(), output.with_suffix(".md").read_text()

    def verify(self, *paths):
        """The exit code, and what is printed."""
        with redirect_stdout(io.StringIO()) as said:
            code = report.main(["--verify", *map(str, paths)])
        return code, said.getvalue()

    def artifacts(self, run_id):
        with sqlite3.connect(self.state / "mlflow.db") as database:
            query = "select artifact_uri from runs where run_uuid = ?"
            return Path(database.execute(query, [run_id]).fetchone()[0].removeprefix("file://"))


@pytest.fixture(scope="module")
def store(run_script, tmp_path_factory):
    store = Store(run_script, tmp_path_factory.mktemp("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROAI_STATE", str(store.state))
        yield with_runs(store)


def with_runs(store):
    data = two_sites(store.folder / "phantoms of two sites")
    outcome = store.train(data, "--root-splits", "2", "--inner-splits", "1", "--repeats", "2")
    store.runs = [one["run_id"] for one in outcome["runs"]]
    return store


@pytest.fixture(scope="module")
def reported(store):
    """The page and the Markdown of the first run, with all that can be asked for."""
    flags = ("--subgroups", "site", "--prevalence", "0.1", "--repeats", store.runs[1])
    return store.report(store.runs[0], *flags)


def unvaried(text):
    """A report without what differs from run to run and from machine to machine: ids, times, digits of scores."""
    text = re.sub(r"[+-]?\d+\.\d+(e-?\d+)?", "#.#", text)
    text = re.sub(
        r"(?<![0-9a-f])[0-9a-f]{8,64}(?![0-9a-f])", lambda found: "ID" if len(found[0]) in IDS else found[0], text
    )
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\+00:00)?", "TIME", text)
    text = re.sub(r"took \d+ s", "took # s", text)
    text = re.sub(r"\d+ (packages|lines of changes)", r"# \1", text)
    text = re.sub(rf"(?m)^\| ({MACHINE}) \| .*$", r"| \1 | … |", text)
    text = re.sub(rf"(?m)^\| ({SCORES}|calibration[^|]*) \| .*$", r"| \1 | … |", text)
    text = re.sub(r"The test ROC AUC is .*", "The test ROC AUC is …", text)
    text = re.sub(r"/\S*/phantoms", "FOLDER/phantoms", text)
    text = re.sub(r"git checkout .*", "git checkout COMMIT", text)
    return re.sub(r"<!-- request: .* -->", "<!-- request -->", text)


def test_the_report_of_phantoms_from_two_sites_is_the_golden_one(store, reported):
    found = unvaried(reported[1])
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found.splitlines() == GOLDEN.read_text().splitlines()
    assert "| north |" in found and "| south |" in found and "## Performance" in found


def test_each_number_is_in_its_sentence_and_bound_to_the_bytes_of_an_artifact_of_its_run(store, reported):
    said = re.findall(
        r'<span data-run="([^"]*)" data-artifact="([^"]*)" data-sha256="([^"]*)" data-value="([^"]*)">(.*?)</span>',
        reported[0],
    )
    assert len(said) > 10
    checked = 0
    for runs, artifacts, digests, values, text in said:
        for run_id, artifact, digest in zip(runs.split(), artifacts.split(", "), digests.split(), strict=True):
            path = store.artifacts(run_id) / artifact
            if path.is_file():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
                checked += 1
        for value in unescape(values).split("; "):
            shown = unescape(text)
            assert value in shown or f"{float(value):.3f}" in shown or f"{float(value):.0f}" in shown, (value, text)
    assert checked > 8


def test_what_is_reported_is_verified_and_each_changed_digit_is_found(store, reported):
    page, text = (store.folder / f"report.{suffix}" for suffix in ("html", "md"))
    done = store.run("common/evidence/report.py", "--verify", page, text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{page}: as its artifacts say\n{text}: as its artifacts say\n"
    changed = []
    auc = re.search(r"The test ROC AUC is (0\.\d)(\d)(\d)", reported[0])
    for place in (auc.start(2), reported[0].index('data-value="0.') + 16, reported[0].index("</td></tr>") - 8):
        digit = next(i for i in range(place, len(reported[0])) if reported[0][i].isdigit())
        wrong = str((int(reported[0][digit]) + 1) % 10)
        changed.append(store.folder / f"changed {place}.html")
        changed[-1].write_text(reported[0][:digit] + wrong + reported[0][digit + 1 :])
    changed.append(store.folder / "changed.md")
    changed[-1].write_text(reported[1].replace(auc[0], f"The test ROC AUC is {auc[1]}{9 - int(auc[2])}{auc[3]}"))
    code, said = store.verify(*changed)
    assert code == 1 and said.count(": found `") == 4
    assert all(f"{path}: 1 difference\n" in said for path in changed), said


def test_a_changed_artifact_and_another_answer_are_found_too(store, reported, tmp_path):
    shutil.copy(store.folder / "report.html", tmp_path / "report.html")
    (tmp_path / "report.toml").write_text('funding = "a rich uncle"')
    results = store.artifacts(store.runs[0]) / "results.csv"
    before = results.read_bytes()
    results.write_bytes(before.replace(b"0.", b"0.1", 7))
    try:
        code, said = store.verify(tmp_path / "report.html")
    finally:
        results.write_bytes(before)
    assert code == 1 and hashlib.sha256(results.read_bytes()).hexdigest() in said and "a rich uncle" in said


SENTENCES = {
    "results.csv": "Test scores, means over the models",
    "audit/flow.json": "outer folds were run",
    "provenance/packages.txt": "packages were installed",
    "predictions.csv": "The test ROC AUC is",
    "audit/audit.json": "checks of the data were made",
    "ledger.jsonl": "had predicted these test images",
}


@pytest.mark.parametrize(
    ("names", "is_claimed"),
    [
        (["results.csv", "audit/flow.json", "provenance/packages.txt"], True),
        (["predictions.csv"], False),
        (["audit/audit.json"], False),
        (["ledger.jsonl"], False),
    ],
)
def test_deleting_an_artifact_turns_its_sentences_into_boxes(store, reported, tmp_path, names, is_claimed):
    assert all(sentence in reported[0] for sentence in SENTENCES.values()) and 'class="lack"' not in reported[0]
    paths = [store.artifacts(store.runs[0]) / name for name in names]
    for path in paths:
        path.rename(tmp_path / path.name)
    try:
        page, text = store.report(store.runs[0], output=tmp_path / "after.html")
    finally:
        for path in paths:
            (tmp_path / path.name).rename(path)
    for name, sentence in SENTENCES.items():
        why = f"cannot be said: artifact {name} of run {store.runs[0]} is gone, or was never made"
        assert (sentence in page) == (name not in names) == (f'<p class="lack">{why}</p>' not in page), name
    assert text.count("cannot be said: artifact") >= len(names)
    assert ("Nothing is claimed here" not in page) == is_claimed == bool(WORDS.search(page + text))


@pytest.mark.parametrize("name", ["predictions.csv", "results.csv"])
def test_of_tables_that_are_not_whole_nothing_is_computed(store, reported, tmp_path, name):
    path = store.artifacts(store.runs[0]) / name
    before = path.read_bytes()
    path.write_bytes(b"".join(before.splitlines(keepends=True)[:-1]))
    try:
        page, _ = store.report(store.runs[0], output=tmp_path / "cut.html")
    finally:
        path.write_bytes(before)
    assert f"cannot be said: run {store.runs[0]}: predictions.csv and results.csv are not of the same folds" in page
    assert "Nothing is claimed here" in page and "The test ROC AUC is" not in page


@pytest.mark.slow
def test_of_a_planted_patient_leak_nothing_is_claimed_and_hostile_names_are_text(store, tmp_path):
    data = tmp_path / "leak"
    make_phantoms(data, 20, 2, 64)
    (data / "healthy").rename(data / "<img src=x onerror=alert(1)>")
    lines = (data / "groups.csv").read_text().replace("healthy/", "<img src=x onerror=alert(1)>/").splitlines()
    for path in sorted(data.glob("*/*_0.png")):  # each patient again, mirrored and under another name
        copy = path.with_name(f"other_{path.name}")
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy)
        lines.append(f"{copy.relative_to(data).as_posix()},other {path.stem}")
    (data / "groups.csv").write_text("\n".join(lines))
    flags = ("--root-splits", "1", "--inner-splits", "1")
    refused = store.run("step_4/train.py", "--data", data, *FAST, *flags)
    assert refused.returncode == 2 and "near-copies" in refused.stderr
    why = "twins & <b>others</b>"
    run_id = store.train(data, *flags, "--waive", "near-copies", why)["run_id"]
    page, text = store.report(run_id, output=tmp_path / "leak.html")
    assert not WORDS.search(page) and not WORDS.search(text)
    assert f"found what makes results wrong: near-copies (waived: {why})." in unescape(page)
    assert "What was computed" in page and "The test ROC AUC is" in page and "data:image" not in page
    assert "<img" not in page and "<b>others" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    assert store.verify(tmp_path / "leak.html", tmp_path / "leak.md")[0] == 0


@pytest.mark.slow
def test_runs_are_compared_and_a_repeat_with_its_verdict_is_told(store, tmp_path):
    run = tracking.find_root(store.runs[1])
    with run.child("reproduction", run_level="reproduction", verdict="bitwise identical") as tracked:
        tracked.text("bitwise identical\nmean test ROC AUC 0.5 then, 0.5 now\n", "reproduction.txt")
    page, text = store.report(*store.runs, output=tmp_path / "both.html")
    a, b = (run_id[:8] for run_id in store.runs)
    assert f"| {a} - {b} | these models, new patients |" in text and "2 runs were tested on the same images" in text
    assert "Repeat 1: bitwise identical" in page and "The run was repeated 0 times." in page
    assert f"### Run {b}" in text


def test_searched_settings_are_told_by_what_each_search_chose_and_that_on_all_images_is_no_outer_fold(home):
    settings = {"hidden_dim": "64", "epochs": "5", "model": "None", "--root-splits": "1"}
    run = tracking.find_root(make_run(identity=json.dumps({f"settings.{name}": settings[name] for name in settings})))
    for fold, hidden_dim in ((0, 19), (10, 111)):
        with run.root_split(fold) as found:
            found.params({"best_trial": 0, "hidden_dim": hidden_dim})
    told = {block.caption: block.rows for block in method(Evidence(run)) if isinstance(block, Rows)}
    assert {caption: [(row[0], row[1].text) for row in rows] for caption, rows in told.items()} == {
        "Settings that are set": [("epochs", "5"), ("--root-splits", "1")],
        "What the search of outer fold 0 chose": [("best trial", "0"), ("hidden dim", "19")],
        "What the search on all images chose, for the registered model": [("best trial", "0"), ("hidden dim", "111")],
    }


def test_a_run_that_a_report_names_is_deleted_by_force_alone(store, reported):
    for run_id in store.runs:
        with pytest.raises(UserError, match=rf"run {run_id}: {store.folder}/report.html names it; --force deletes it"):
            delete_runs([run_id])


def test_bad_input_is_one_line(store, tmp_path):
    run = store.runs[0]
    (tmp_path / "no.html").write_text("<!doctype html><p>no report</p>")
    (tmp_path / "odd.toml").write_text('fundin = "x"')
    (tmp_path / "odd.html").write_text("")
    for arguments, said in (
        ([], "no run: expected the id of one or more runs, each once"),
        ([run, run], "each once"),
        (["nonsense"], "run nonsense: no such run"),
        (["--verify", tmp_path / "none.html"], "none.html: cannot be read (No such file or directory)"),
        (["--verify", tmp_path / "no.html"], "no.html: expected a report"),
        (
            [run, "--output", tmp_path / "odd.html"],
            "odd.toml: fundin: no such key; did you mean",
        ),
        ([run, "--output", tmp_path / "x.txt"], "expected a name that ends with .html"),
        ([run, "--subgroups", "colour"], "colour"),
    ):
        with pytest.raises(UserError) as error:
            report.main([*map(str, arguments)])
        assert said in str(error.value) and "\n" not in str(error.value)


def test_answers_are_shown_as_the_word_of_a_person_and_never_overwritten(store, reported, tmp_path):
    output = tmp_path / "mine.html"
    write_questions(output.with_suffix(".toml"))
    page = (store.folder / "report.html").read_text()
    assert page.count("to be filled in by a person") == sum(map(len, QUESTIONS.values()))
    toml = output.with_suffix(".toml")
    written = toml.read_text()
    assert set(read_answers(toml)) == {key for keys in QUESTIONS.values() for key in keys}
    toml.write_text(written.replace('funding = ""', 'funding = "<script>alert(1)</script> | *ACME*"'))
    page, text = store.report(store.runs[0], output=output)
    assert not write_questions(toml) and "ACME" in toml.read_text()
    assert "<p>&lt;script&gt;alert(1)&lt;/script&gt; | *ACME*</p><p><small>said by a person</small></p>" in page
    assert r"> \<script\>alert(1)\</script\> \| \*ACME\*" in text


def test_an_answer_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "report.toml").write_text("funding = 3")
    with pytest.raises(UserError, match=r"report\.toml: funding: expected a text between quotes, found 3"):
        read_answers(tmp_path / "report.toml")


def test_checklists_have_the_items_of_the_published_forms_and_claim_none_without_evidence():
    numbers = {form.name: [item.number for item in form.items] for form in forms()}
    assert {name: len(found) for name, found in numbers.items()} == {
        "REFORMS": 32,
        "CLAIM 2024": 44,
        "TRIPOD+AI": 52,
        "Model card": 9,
        "Datasheet": 7,
    }
    assert numbers["CLAIM 2024"] == [str(n) for n in range(1, 45)]
    assert len({re.sub("[a-z]", "", number) for number in numbers["TRIPOD+AI"]}) == 27
    assert all(len(set(found)) == len(found) for found in numbers.values())
    keys = {key for known in QUESTIONS.values() for key in known}
    for form in forms():
        for item in form.items:
            assert set(item.keys) <= keys and item.status(set(), {}) == "to be filled"
            assert item.status({*item.sections}, {}) != "filled" or not item.keys


def test_a_word_is_withheld_in_any_case_and_number():
    said = without_claims("Accuracy, PERFORMANCES and balanced_accuracies")
    assert said == "(word withheld), (word withheld) and balanced_(word withheld)"


def test_a_difference_names_what_was_found_and_what_is_expected():
    page = "<!doctype html><p data-value=0.5>about 0.5</p><img src=data:a>"
    assert differences_of(page, page.replace("about 0.5", "about 0.6"), True) == [
        "found `about 0.5`; expected `about 0.6`"
    ]
    assert differences_of(page, page.replace("data:a", "data:b"), False) == []
    assert len(differences_of(page, page.replace("data:a", "data:b"), True)) == 1


@pytest.mark.slow
def test_in_a_browser_the_page_has_no_error_nothing_serious_and_no_sideways_scroll(store, reported, browser):
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get((store.folder / "report.html").as_uri())
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth)")
        browser.execute_script(axe_core())
        found = browser.execute_async_script("axe.run().then(arguments[0])")
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == [], (width, scheme)
        if folder := os.environ.get("SCREENSHOTS"):
            height = browser.execute_script("return document.documentElement.scrollHeight")
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | {"height": height})
            browser.save_screenshot(f"{folder}/{width}-{scheme}.png")
            (Path(folder) / "report.pdf").write_bytes(base64.b64decode(browser.print_page()))
