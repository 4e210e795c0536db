"""The audit of DICOM files: planted leaks are found, clean ones of two sites are not stopped, no value is told."""

import json
import shutil
from pathlib import Path

import pytest

from common import data
from common.evidence import audit
from common.evidence.audit_page import audit_page
from common.evidence.findings import as_json
from common.medical.dicom_writing import write_phantoms

pydicom = pytest.importorskip("pydicom")
N_PATIENTS, N_SLICES = 40, 2


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_phantoms(folder, n_patients=N_PATIENTS, n_slices=N_SLICES, size=96)
    return folder


@pytest.fixture
def heads(phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    (tmp_path / "patients.key").write_bytes(bytes(32))  # with a random one, splits would be others each time
    monkeypatch.setenv("REPROAI_PATIENT_KEY", str(tmp_path / "patients.key"))
    return Path(shutil.copytree(phantoms, tmp_path / "heads"))


def change(paths, **tags):
    for path in paths:
        found = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(found, name, value)
        found.save_as(path)


def audited(folder, **options):
    table = data.load_images(str(folder), 64, cached=False)
    splits = data.current_splits(table)
    folds = [data.folds_of(splits, root, 1)[0] for root in range(2)]
    found = audit.audit(table, folds, audit.coarse_features(table), **options)
    print("\n".join(found.lines()))
    return found, table


def found_by(found, check, level):
    return [one.text for one in found.findings if (one.check, one.level) == (check, level)]


def test_clean_files_of_two_sites_are_not_stopped(heads):
    found, _ = audited(heads)
    assert found.passed and not found.stops
    assert found.checks["identity"] == f"{N_PATIENTS} patients"
    assert found.checks["privacy"] == f"{N_SLICES * N_PATIENTS} DICOM files"
    assert [one.level for one in found.findings if one.check == "privacy"] == ["note"]


def test_a_patient_under_two_names_is_found_by_the_study(heads):
    first = pydicom.dcmread(heads / "healthy" / "000_0.dcm")
    change((heads / "healthy").glob("004_*"), StudyInstanceUID=first.StudyInstanceUID)
    change((heads / "healthy").glob("008_*"), SeriesInstanceUID=first.SeriesInstanceUID)
    change((heads / "healthy").glob("012_*"), PatientName=first.PatientName, PatientBirthDate=first.PatientBirthDate)
    found, _ = audited(heads)
    stops = found_by(found, "identity", "stop")
    assert ["one StudyInstanceUID" in text for text in stops] == [True, False]
    assert "healthy/000_0.dcm and healthy/004_0.dcm" in stops[0]
    assert "one SeriesInstanceUID" in stops[1] and "healthy/000_0.dcm and healthy/008_0.dcm" in stops[1]
    (warning,) = found_by(found, "identity", "warn")
    assert "one name and birth date" in warning and "healthy/012_0.dcm" in warning
    assert {one.check for one in found.stops} == {"identity"}


def test_groups_csv_that_tears_a_patient_apart_is_stopped(heads):
    files = data.find_images(str(heads)).files
    (heads / "groups.csv").write_text("files,group\n" + "".join(f"{file},{i % 200}\n" for i, file in enumerate(files)))
    found, _ = audited(heads)
    assert any("one PatientID" in text for text in found_by(found, "identity", "stop"))


@pytest.mark.slow
def test_one_name_for_all_as_in_anonymous_files_is_no_patient(heads):
    change(heads.rglob("*.dcm"), PatientName="ANONYMOUS", PatientBirthDate="19000101")
    assert audited(heads)[0].passed


def test_without_patients_somebody_must_say_that_studies_are_independent(heads):
    change(heads.rglob("*.dcm"), PatientID="")
    assert "expected groups.csv" in found_by(audited(heads)[0], "identity", "stop")[0]
    assert audited(heads, independent=True)[0].passed


def test_a_site_with_another_maker_of_which_the_classes_differ_is_found(heads):
    for number in range(N_PATIENTS):
        name = "healthy" if number % 2 == 0 else "lesion"
        is_second = (name == "lesion") != (number == 21)  # one exception
        site = {"InstitutionName": f"Site {is_second + 1}", "Manufacturer": ("Northlight", "Southfield")[is_second]}
        model, station = ("N1", "S64")[is_second], f"CT{is_second + 1}"
        change((heads / name).glob(f"{number:03d}_*"), **site, ManufacturerModelName=model, StationName=station)
    found, _ = audited(heads)
    assert [text.split(" alone")[0] for text in found_by(found, "shortcuts", "stop")] == ["tags"]
    assert {one.check for one in found.stops} == {"shortcuts"}


def test_what_identifies_a_person_is_reported_without_its_value(heads):
    change([heads / "healthy" / "000_0.dcm"], BurnedInAnnotation="YES")
    change([heads / "healthy" / "000_1.dcm"], BurnedInAnnotation="", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    person = {"PatientName": "DOE^JANE", "PatientID": "ID-4711", "PatientIdentityRemoved": "NO"}
    change((heads / "lesion").glob("001_*"), **person, PatientBirthDate="19611231", OperatorsName="ROE^RICHARD")
    (heads / "lesion" / "001_0.dcm").rename(heads / "lesion" / "scan of id4711.dcm")
    (heads / "lesion" / "001_1.dcm").rename(heads / "lesion" / "jane_doe_2.dcm")
    found, table = audited(heads)
    (stop,) = found_by(found, "privacy", "stop")
    assert "PatientName in 1 name, PatientID in 1 name" in stop and "rename the files" in stop
    said, perhaps = found_by(found, "privacy", "warn")
    assert "1 file (healthy/000_0.dcm) have BurnedInAnnotation YES" in said and "healthy/000_1.dcm" in perhaps
    assert f"PatientName {N_SLICES * N_PATIENTS}" in found_by(found, "privacy", "note")[0]
    waived, _ = audited(heads, waived={"privacy": "names are made up"})
    assert not waived.stops and not waived.passed
    told = "\n".join([*found.lines(), as_json(found), audit_page(found, table)])
    for value in ("DOE^JANE", "ID-4711", "19611231", "ROE"):
        assert value not in told
    assert json.loads(as_json(found))["checks"]["privacy"]
