"""DICOM and NIfTI files as data: what is read of them, what is refused, and of which patient each image is."""

import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from common import cli, data
from common.cli import UserError
from common.data.made.phantoms import draw_phantoms
from common.data.scans import scan_image, tag_column
from common.medical.__main__ import main
from common.medical.dicom_writing import SYNTAXES, write_phantoms
from common.medical.windows import windowed
from conftest import PROJECT

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("pydicom.pixels")

N_PATIENTS = 16
READ = "1.2.840.10008.1.2 1.2.840.10008.1.2.1 1.2.840.10008.1.2.2 1.2.840.10008.1.2.5 1.2.840.10008.1.2.4.50 "
READ += "1.2.840.10008.1.2.4.51 1.2.840.10008.1.2.4.90 1.2.840.10008.1.2.4.91 1.2.840.10008.1.2.4.201 "
READ += "1.2.840.10008.1.2.4.202 1.2.840.10008.1.2.4.203"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_phantoms(folder, n_patients=N_PATIENTS, size=64)
    return folder


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))


@pytest.fixture
def heads(phantoms, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(phantoms, tmp_path / "heads"))


def table_of(folder, size=32, **options):
    return data.load_images(str(folder), size, **options)


def pixels_of(path):
    return np.asarray(scan_image(path))


def changed(path, target=None, **tags):
    """A DICOM file with other tags; None takes one away."""
    found = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            del found[name]
        else:
            setattr(found, name, value)
            if name.endswith("Descriptor"):
                found[name].VR = "US"
    found.save_as(target or path)
    return target or path


def save_head(path, shape=(20, 30, 10), scale=1.0, affine=None):
    """A volume whose values are 10000 x + 100 y + z, in voxels, with a step of 2 mm."""
    x, y, z = np.indices(shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = ((10000 * x + 100 * y + z) * scale).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 2, 2, 1]) if affine is None else affine), path)
    return path


# ---- DICOM


def test_phantoms_as_dicom_have_the_shades_of_the_drawn_ones_in_every_syntax_and_polarity(phantoms):
    kinds = set()
    for one in draw_phantoms(N_PATIENTS, 4, 64, 0):
        path = phantoms / one.name / f"{one.patient:03d}_{one.number}.dcm"
        head = pydicom.dcmread(path, stop_before_pixels=True)
        kinds.add((head.file_meta.TransferSyntaxUID, head.PhotometricInterpretation, head.Manufacturer))
        assert np.abs(pixels_of(path).astype(int) - one.pixels).max() <= 1
    assert len(kinds) == len(SYNTAXES) * 2 * 2


def test_phantoms_are_written_again_to_the_same_bytes(phantoms, tmp_path):
    main(["phantoms", str(tmp_path / "again"), "--patients", "2", "--size", "64"])
    for path in sorted((tmp_path / "again").rglob("*.dcm")):
        assert path.read_bytes() == (phantoms / path.relative_to(tmp_path / "again")).read_bytes()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_is_what_pydicom_makes_of_it(function):
    tags = pydicom.Dataset()
    tags.PhotometricInterpretation, tags.BitsStored, tags.PixelRepresentation = "MONOCHROME2", 12, 0
    tags.WindowCenter, tags.WindowWidth, tags.VOILUTFunction = 1000, 700, function
    values = np.arange(4096, dtype=np.int16)
    expected = pydicom.pixels.apply_windowing(values, tags) * 255 / 4095
    assert np.abs(windowed(values, 1000, 700, function) - expected).max() <= 0.51


def test_a_window_of_ones_own_and_none_are_as_the_page_says(heads):
    path = sorted((heads / "healthy").iterdir())[16]  # MONOCHROME2
    real = pydicom.dcmread(path)
    values = real.pixel_array * real.RescaleSlope + float(real.RescaleIntercept)
    shown = np.rint(255 * np.clip((values - 40) / 400 + 0.5, 0, 1))
    assert np.abs(pixels_of(path.with_name(f"{path.name}#window=40,400")) - shown).max() <= 1  # ties
    changed(path, WindowCenter=None, WindowWidth=None)
    assert np.abs(pixels_of(path) - 255 * (values - values.min()) / np.ptp(values)).max() <= 0.51


def test_look_up_tables_of_12_bits_and_colours_of_a_palette_are_read(heads):
    path = heads / "healthy" / "000_1.dcm"  # implicit values: their kind is not written
    stored = pydicom.dcmread(path).pixel_array
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 12], (4095 - np.arange(4096)).astype("<u2").tobytes()
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    tags = dict(VOILUTSequence=[lut], RescaleSlope=None, RescaleIntercept=None)
    changed(path, PhotometricInterpretation="MONOCHROME2", **tags)
    assert (pixels_of(path) == np.rint((4095 - stored.astype(int)) * 255 / 4095)).all()
    reds = np.arange(4096, dtype="<u2") * 16
    for name, values in {"Red": reds, "Green": reds[::-1], "Blue": 0 * reds}.items():
        tags |= {f"{name}PaletteColorLookupTableDescriptor": [4096, 0, 16]}
        tags |= {f"{name}PaletteColorLookupTableData": values.tobytes()}
    tags = {name: value for name, value in tags.items() if "Palette" in name}
    changed(path, PhotometricInterpretation="PALETTE COLOR", **tags)
    assert (pixels_of(path)[..., 0] == stored // 16).all() and not pixels_of(path)[..., 2].any()


def test_frames_are_images_of_one_patient_and_medical_toml_chooses_them(heads):
    file = changed(heads / "healthy" / "000_0.dcm", NumberOfFrames=3)
    tags = pydicom.dcmread(file)
    tags.PixelData = b"".join((np.full((64, 64), 412 + 2 * shade, "<u2")).tobytes() for shade in (10, 20, 30))
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.save_as(file)
    table = table_of(heads)
    rows = [row for row, image in enumerate(table.files) if image.startswith("healthy/000_0.dcm")]
    assert [table.files[row][-8:] for row in rows] == ["#frame=0", "#frame=1", "#frame=2"]
    assert [table.pixels[row].max() for row in rows] == [10, 20, 30]
    assert len({table.groups[row] for row in rows}) == 1 and len({table.digests[row] for row in rows}) == 3
    (heads / "medical.toml").write_text('frames = "middle"\nwindow = [300, 900]\n')
    other = table_of(heads)
    assert other.files[0] == "healthy/000_0.dcm#frame=1&window=300,900" and len(other) == len(table) - 2
    assert other.fingerprint != table.fingerprint and (other.pixels[:, 0] != table.pixels[2:, 0]).any()


def test_the_patient_is_the_group_by_a_key_of_this_machine_and_groups_csv_wins(heads, tmp_path, monkeypatch):
    table, again = table_of(heads), table_of(heads, cached=False)
    assert table.grouped_by == "patient" and len(set(table.groups)) == N_PATIENTS
    assert table.fingerprint == again.fingerprint and not any("phantom" in group for group in table.groups)
    key = tmp_path / "state" / "data" / "patients.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    (tmp_path / "other.key").write_bytes(os.urandom(32))
    monkeypatch.setenv("REPROAI_PATIENT_KEY", str(tmp_path / "other.key"))
    assert not set(table_of(heads).groups) & set(table.groups)
    monkeypatch.setenv("REPROAI_PATIENT_KEY", str(tmp_path / "none"))
    with pytest.raises(UserError, match="none: the key of patients"):
        table_of(heads)
    (heads / "groups.csv").write_text("files,group\n" + "".join(f"{file},all of them\n" for file in table.files))
    assert set(data.find_images(str(heads)).groups) == {"all of them"}


def test_without_patient_id_the_study_is_the_group_and_is_not_taken_for_a_patient(heads):
    for path in heads.rglob("*.dcm"):
        changed(path, PatientID="")
    table = data.find_images(str(heads))
    assert table.grouped_by == "study" and len(set(table.groups)) == N_PATIENTS


def test_files_without_a_suffix_are_found_by_content(heads):
    for path in heads.rglob("*.dcm"):
        path.rename(path.with_name(f"1.2.{path.stem.replace('_', '.')}"))
    (heads / "healthy" / "README").write_text("nothing")
    table = table_of(heads)
    assert len(table) == 4 * N_PATIENTS and table.skipped == ("1 files without suffix",)


def test_site_maker_year_and_sex_are_columns_for_subgroups(phantoms):
    files = data.find_images(str(phantoms)).files
    columns = {name: tag_column(phantoms, files, name) for name in ("site", "maker", "study_year", "sex")}
    found = {name: set(values.values()) for name, values in columns.items()}
    assert found == {"site": {"Site 1", "Site 2"}, "maker": {"Northlight", "Southfield"}} | {
        "study_year": {"2024", "2025"},
        "sex": {"F", "M"},
    }


def test_these_transfer_syntaxes_are_read_and_the_page_lists_them():
    known = [uid for uid in pydicom.uid.AllTransferSyntaxes if _decodes(uid)]
    assert {str(uid) for uid in known} - {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"} >= set(READ.split())
    page = (PROJECT / "docs" / "medical.md").read_text()
    assert [uid for uid in READ.split() if f"`{uid}`" not in page] == []


def _decodes(uid):
    try:
        return pydicom.pixels.get_decoder(uid).is_available
    except NotImplementedError:  # what pydicom raises for a syntax that it does not know
        return False


def damage(kind, path):
    content = path.read_bytes()
    if kind == "cut short":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif kind == "text":
        path.write_text("Dear colleague")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a report":
        changed(path, PixelData=None, Rows=None, Columns=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    elif kind == "lossless JPEG":
        at = content.index(b"1.2.840.10008.1.2.1\0")
        tags = pydicom.dcmread(path)
        tags.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        tags.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
        tags["PixelData"].is_undefined_length = at > 0
        tags.save_as(path)
    elif kind == "deflated":
        changed(path)
        tags = pydicom.dcmread(path)
        tags.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        tags.save_as(path)
    else:
        changed(path, Rows=65000, Columns=65000)


DAMAGES = {
    "cut short": "not a readable image",
    "text": "no DICM at byte 128",
    "empty": "no DICM at byte 128",
    "a report": "holds no image \\(Basic Text SR Storage\\)",
    "lossless JPEG": "transfer syntax JPEG Lossless.*nothing here decodes it; dcmdjpeg",
    "deflated": "deflated as a whole",
    "a bomb": "expected 1 to \\d+ pixels, found 65000 x 65000",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_or_foreign_file_is_named_with_its_reason_or_left_out_and_listed(kind, heads):
    damage(kind, heads / "healthy" / "000_0.dcm")
    with pytest.raises(UserError, match=f"healthy/000_0.dcm: .*{DAMAGES[kind]}.*--skip-unreadable") as found:
        table_of(heads)
    assert len(str(found.value).splitlines()) == 1
    table = table_of(heads, skip_unreadable=True)
    assert len(table) == 4 * N_PATIENTS - 1 and re.search(DAMAGES[kind], table.skipped[-1])
    assert table.grouped_by == "patient"


def test_splits_as_folders_keep_files_and_their_settings(heads, tmp_path):
    (heads / "medical.toml").write_text("window = [300, 900]\n")
    data.split_data(heads, tmp_path / "split", (0.5, 0.25, 0.25))
    whole, split = table_of(heads), table_of(tmp_path / "split")
    assert sorted(split.digests) == sorted(whole.digests) and split.files[0].endswith("#window=300,900")
    assert len(set(split.groups)) == N_PATIENTS


# ---- NIfTI


def test_a_slice_lies_as_radiologists_look_at_it_whatever_the_orientation_of_the_file(tmp_path):
    path = save_head(tmp_path / "head.nii.gz")
    flipped = np.diag([-2, 2, 2, 1]).astype(float)
    values = nibabel.load(path).get_fdata()[::-1]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), flipped), tmp_path / "flipped.nii")
    window = "window=100000,300000"
    for name in ("head.nii.gz", "flipped.nii"):
        axial = pixels_of(tmp_path / f"{name}#axial=4&{window}")
        coronal = pixels_of(tmp_path / f"{name}#coronal=4&{window}")
        sagittal = pixels_of(tmp_path / f"{name}#sagittal=4&{window}")
        assert (axial.shape, coronal.shape, sagittal.shape) == ((30, 20), (10, 20), (10, 30))
        assert axial[0, 0] > axial[0, -1] and axial[0, 0] >= axial[-1, 0]  # the patient's right is on the left
        shade = np.rint(255 * np.clip((values[::-1] - 100000) / 300000 + 0.5, 0, 1))
        assert (axial == shade[::-1, ::-1, 4].T).all() and (sagittal == shade[4, ::-1, ::-1].T).all()


def test_without_a_window_percentiles_of_the_whole_volume_are_black_and_white(tmp_path):
    path = save_head(tmp_path / "head.nii", scale=0.001)
    values = nibabel.load(path).get_fdata(dtype=np.float32)
    low, high = np.percentile(values, (1, 99))
    expected = np.rint(255 * np.clip((values[::-1, ::-1, 5].T - low) / (high - low), 0, 1))
    assert np.abs(pixels_of(tmp_path / "head.nii") - expected).max() <= 1


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "volumes" / ("ill" if number % 2 else "well") / f"sub-{number:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = rng.integers(0, 900, (12, 14, 10)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return tmp_path / "volumes"


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ("", ["axial=5"]),
        ('axis = "sagittal"\nslices = [2, 11]', ["sagittal=02", "sagittal=11"]),
        (
            'axis = "coronal"\nslices = "every 5"\nwindow = [450, 900]',
            [f"coronal={n}&window=450,900" for n in ("02", "07", "12")],
        ),
        ('slices = "all"', [f"axial={n}" for n in range(10)]),
    ],
)  # fmt: skip
def test_medical_toml_chooses_axis_slices_and_window_and_changes_the_fingerprint(settings, parts, volumes):
    before = data.find_images(str(volumes)).fingerprint
    (volumes / "medical.toml").write_text(settings)
    table = table_of(volumes)
    assert [file.partition("#")[2] for file in table.files[: len(parts)]] == parts
    assert len(table) == 12 * len(parts) and table.grouped_by == "subject" and len(set(table.groups)) == 12
    assert (table.fingerprint == before) == (settings == "")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('axes = "axial"', "medical.toml: axes: expected one of axis, .*did you mean `axis`"),
        ('axis = "up"', "medical.toml: axis: expected one of sagittal, coronal, axial, found 'up'"),
        ("slices = [99]", "nii.gz: expected slices or frames below 10, as many as it has; medical.toml says 99"),
        ("slices = 3", 'medical.toml: slices: expected "middle", "all", "every 10"'),
        ("window = [40, 0]", "medical.toml: window: expected .centre, width."),
        ("window = ", "medical.toml: expected a TOML file"),
    ],
)
def test_a_wrong_setting_is_one_line(settings, problem, volumes):
    (volumes / "medical.toml").write_text(settings)
    with pytest.raises(UserError, match=problem):
        data.find_images(str(volumes))


def test_nifti_files_without_subjects_are_by_themselves(volumes):
    for path in list(volumes.rglob("*.nii.gz")):
        path.rename(path.with_name(path.name.replace("sub-", "scan")))
    assert data.find_images(str(volumes)).grouped_by == "file"


@pytest.mark.parametrize("kind", ["cut short", "text", "a bomb", "five axes"])
def test_a_damaged_nifti_file_is_named_with_its_reason(kind, volumes):
    path = volumes / "ill" / "sub-01_T1w.nii.gz"
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "text":
        path.write_text("Dear colleague")
    elif kind == "five axes":
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3, 2), np.int16), np.eye(4)), path)
    else:
        header = nibabel.Nifti1Header()
        header.set_data_shape((30000, 30000, 30000))
        path.unlink()
        path = path.with_suffix("")
        path.write_bytes(header.binaryblock + bytes(100))
    with pytest.raises(UserError, match=f"{path.name}.*: .*--skip-unreadable"):
        table_of(volumes)
    assert len(table_of(volumes, skip_unreadable=True)) == 11


def test_volumes_become_arrays_for_a_network_of_ones_own(volumes, tmp_path, capsys):
    main(["volumes", str(volumes), str(tmp_path / "heads.npz"), "--shape", "5", "7", "6"])
    assert "12 volumes of 12 subjects, each 1 x 5 x 7 x 6" in capsys.readouterr().out
    table = table_of(tmp_path / "heads.npz")
    assert table.is_arrays and table.pixels.shape == (12, 1, 5, 7, 6) and table.classes == ("ill", "well")
    assert 0 <= table.pixels.min() < table.pixels.max() <= 1 and table.grouped_by == "subject"


# ---- where they go


def test_an_example_for_the_registry_is_a_picture_without_tags(phantoms):
    example = table_of(phantoms).example()
    assert example[:4] == b"\x89PNG" and b"Phantom" not in example and b"phantom" not in example


def test_bytes_of_a_dicom_file_are_decoded_as_the_file_is(phantoms):
    from common.data.decoding import decode_image, read_image

    path = phantoms / "healthy" / "000_2.dcm"
    assert (decode_image(path.read_bytes(), 32) == read_image(path, 32)).all()


def test_without_the_extra_or_the_wing_one_line_says_what_is_needed(phantoms, monkeypatch, tmp_path):
    from common.data import scans

    def version(name):
        raise scans.PackageNotFoundError("pydicom")

    monkeypatch.setattr(scans, "version", version)
    with pytest.raises(UserError, match=r"need pydicom, which is not installed; expected pip install \.\[medical\]"):
        table_of(phantoms)
    assert cli.WINGS["medical"] == "data with DICOM or NIfTI files"


def test_what_is_kept_of_the_tags_under_cache_has_none_of_their_values(phantoms):
    from common.data.scans import tags_in_files

    table = data.find_images(str(phantoms))
    found = json.dumps(tags_in_files(table, np.arange(len(table))))
    assert "PatientName" in found and "Phantom^" not in found and "phantom 0" not in found
