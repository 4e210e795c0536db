"""The steps on DICOM files: they run unchanged, nothing of a person is kept, and the model answers for such files."""

import json
import re
import shutil

import pandas as pd
import pytest

from conftest import PROJECT

pydicom = pytest.importorskip("pydicom")
QUICK = ("--fast", "--root-splits", "1", "--inner-splits", "1", "--device", "cpu", "--precision", "fp32", "--json")
SECRETS = (b"DOE^JANE", b"^JANE", b"ID-4711", b"19611231", b"ROE^RICHARD")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """24 patients of two sites, whose tags name persons."""
    from common.medical.dicom_writing import write_phantoms

    folder = tmp_path_factory.mktemp("scans") / "heads"
    write_phantoms(folder, n_patients=24, n_slices=2, size=64)
    for path in folder.rglob("*.dcm"):
        tags = pydicom.dcmread(path)
        number = path.name[:3]
        tags.PatientName, tags.PatientID, tags.PatientBirthDate = f"DOE^JANE{number}", f"ID-4711{number}", "19611231"
        tags.OperatorsName, tags.PatientIdentityRemoved = "ROE^RICHARD", "NO"
        tags.save_as(path)
    return folder


@pytest.mark.slow
def test_step_4_runs_and_keeps_no_value_that_identifies_a_person(heads, run_script, project):
    options = ("--n-trials", "1", "--register", "heads", "--waive", "shortcuts", "few patients")
    done = run_script("step_4/train.py", "--data", heads, *QUICK, *options)
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    assert "in 24 patients" in done.stdout and "audit: privacy: tags that identify" in done.stdout
    kept = [path for path in project.rglob("*") if path.is_file()]
    leaks = [(path, secret) for path in kept for secret in SECRETS if secret in path.read_bytes()]
    assert leaks == [] and {"mlflow.db", "optuna.db", "patients.key"} <= {path.name for path in kept}
    assert {"mlruns", "cache", "data"} <= {path.relative_to(project).parts[0] for path in kept}

    done = run_script("step_4/analyze_predictions.py", "--run-id", run_id, "--subgroups", "site")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Site 1 ", done.stdout, re.MULTILINE) and re.search(r"^Site 2 ", done.stdout, re.MULTILINE)

    output = project / "answers.csv"
    predict = ("--model", "heads", "--output", output, heads / "lesion", heads / "healthy" / "000_0.dcm")
    done = run_script("common/production/predict.py", *predict)
    assert done.returncode == 0, done.stderr
    answers = pd.read_csv(output)
    assert len(answers) == 25 and answers["file"].iloc[-1].endswith("000_0.dcm")


def test_without_the_wing_one_line_says_that_it_is_missing(heads, tmp_path):
    from test_wings import run

    from conftest import copy_code

    folder = copy_code(tmp_path / "project")
    shutil.rmtree(folder / "common" / "medical")
    done = run(folder, "step_1/train.py", "--data", str(heads), "--fast")
    expected = "error: data with DICOM or NIfTI files needs common/medical, which is not here"
    assert (done.returncode, done.stderr.strip().splitlines()) == (2, [expected])


def test_the_extra_names_what_the_wing_imports():
    extras = (PROJECT / "pyproject.toml").read_text()
    assert 'medical = ["nibabel", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg"]' in extras
