"""A run that comes from another machine, whose git has other commits, is used there as if it had been made there."""

import json

import pytest
from test_reproduce import Repository

FLAGS = ("--n-jobs", 1, "--n-trials", 1, "--inner-splits", 1)


@pytest.mark.slow
def test_a_run_that_was_imported_is_analysed_compared_reported_predicts_and_is_repeated_bitwise(tmp_path):
    here, there = Repository(tmp_path / "here"), Repository(tmp_path / "there")
    there.git("commit", "--quiet", "--amend", "--message", "elsewhere")
    run_id, other = here.train(4, *FLAGS, "--register", "pets"), here.train(4, *FLAGS, "--seed", 1)

    def asked(repository, *arguments, code=0):
        done = repository.python(*arguments)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr

    archive = tmp_path / "results.zip"
    asked(here, "-m", "common.results", "export", run_id, other, "-o", archive)
    asked(there, "-m", "common.results", "import", archive)
    listed = asked(there, "-m", "common.results", "list", "--csv")
    assert run_id in listed and other in listed
    own, moved = (asked(each, "-m", "common.results", "show", run_id) for each in (here, there))
    assert moved.split("\n\n")[1].splitlines()[:3] == own.split("\n\n")[1].splitlines()[:3]  # the scores of each fold
    said = asked(there, there.folder / "step_4/analyze_predictions.py", "--run-id", run_id)
    assert "on the record: the scores of these test folds were read" in said
    assert "test ROC AUC" in asked(there, "-m", "common.evaluation.compare", run_id, other)
    report = tmp_path / "report.html"
    asked(there, "-m", "common.evidence.report", run_id, "--output", report)
    assert "is gone" not in report.read_text()
    asked(there, "-m", "common.evidence.report", "--verify", report)
    images = there.pets / "images"
    predict = ("-m", "common.production.predict", "--model", "pets", images, "--output")
    asked(here, *predict, tmp_path / "here.csv")
    asked(there, *predict, tmp_path / "there.csv")
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "there.csv").read_text()
    reproduce = ("-m", "common.tracking.reproduce", run_id)
    assert "which a terminal shows and asks for; --yes runs it" in asked(there, *reproduce, code=2)
    assert "verdict: bitwise identical" in asked(there, *reproduce, "--yes")
    asked(there, "-m", "common.results", "export", run_id, "-o", tmp_path / "back.zip")
    assert "2 runs below it added" in asked(here, "-m", "common.results", "import", tmp_path / "back.zip")
    lines = [json.loads(line) for line in (there.folder / "ledger.jsonl").read_text().splitlines()]
    assert {line["what"] for line in lines} == {"read", "reported"}
