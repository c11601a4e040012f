"""`glint segment --dicom-out`: files for the study of the image, patients kept or replaced, refusals before work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from tests.archive.conftest import ct_series

pytest.importorskip("highdicom", reason="the extra dicom is not installed")

Command = Callable[..., Any]
QUERIES = ("-q", "There is a pleural effusion.", "-q", "There is a nodule.")


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    """A small CR image with marked patient data."""
    data = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    rows, columns = np.mgrid[:90, :80]
    data.PixelData = (1800 + 1200 * np.sin(rows / 17) * np.cos(columns / 13)).astype("<i2").tobytes()
    data.Rows, data.Columns, data.Modality = 90, 80, "CR"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    data.PatientName, data.PatientID, data.AccessionNumber = "ZZMARK^A", "ZZMARK1", "ZZMARK2"
    data.ReferringPhysicianName = data.InstitutionName = data.OperatorsName = data.StudyDescription = (
        "ZZMARK3"
    )
    data.PatientBirthDate, data.StudyDate = "19310203", "20110405"
    data.save_as(tmp_path / "chest.dcm", enforce_file_format=True)
    return tmp_path / "chest.dcm"


def test_dicom_out__writes_results_for_the_study(
    glint: Command, radiograph: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("segment", radiograph, *QUERIES, "-m", model_folder, "--json", "--threshold", "0.0001")
    done = glint(*words, "--dicom-out", tmp_path / "out")
    assert done.status == 0, done.err
    source = pydicom.dcmread(radiograph)
    written = {data.Modality: data for data in map(pydicom.dcmread, (tmp_path / "out").iterdir())}
    assert set(written) == {"SEG", "SR", "PR", "OT"}
    assert len({data.SeriesInstanceUID for data in written.values()}) == 4
    for data in written.values():
        assert data.StudyInstanceUID == source.StudyInstanceUID
        assert (data.PatientID, str(data.PatientName), data.StudyDate) == ("ZZMARK1", "ZZMARK^A", "20110405")
        assert "InstitutionName" not in data
        assert data.SeriesDescription.startswith("GLINT")
    areas = [result["mask_area_px"] for result in json.loads(done.out)["results"]]
    assert [int(frame.sum()) for frame in written["SEG"].pixel_array] == areas
    before = {path.name for path in (tmp_path / "out").iterdir()}
    assert glint(*words, "--dicom-out", tmp_path / "out").status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == before


def test_dicom_out__of_a_ct_lies_on_the_slices_for_other_readers(
    glint: Command, ct_folder: Path, tmp_path: Path
) -> None:
    import highdicom
    import SimpleITK

    (tmp_path / "series").mkdir()
    for data in ct_series():
        data.save_as(tmp_path / "series" / f"{data.SOPInstanceUID}.dcm", enforce_file_format=True)
    words = ("-m", ct_folder, "-q", "There is a mass.", "-o", tmp_path / "mask.nii.gz")
    done = glint("segment", tmp_path / "series", *words, "--dicom-out", tmp_path / "out")
    assert done.status == 0, done.err
    written = {pydicom.dcmread(path).Modality: path for path in (tmp_path / "out").iterdir()}
    assert set(written) == {"SEG", "SR"}
    mask = SimpleITK.ReadImage(tmp_path / "mask.nii.gz")
    voxels = SimpleITK.GetArrayFromImage(mask) > 0
    assert 0 < voxels.sum() < voxels.size
    where = {
        mask.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in np.argwhere(voxels)
    }
    segmentation = highdicom.seg.segread(written["SEG"])
    volume = segmentation.get_volume(combine_segments=True)
    inside = volume.map_indices_to_reference(np.argwhere(volume.array > 0))
    assert len(inside) == len(where)
    assert {tuple(np.round(point, 2)) for point in inside} == {tuple(np.round(point, 2)) for point in where}


def test_deidentify__no_value_of_the_patient_is_left(
    glint: Command, radiograph: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("-m", model_folder, "--threshold", "0.0001", "--seg-type", "labelmap", "--deidentify")
    done = glint("segment", radiograph, *QUERIES, *words, "--dicom-out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "ZZMARK" not in done.out + done.err
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 4
    for path in files:
        content = path.read_bytes()
        assert b"study-" in content
        for secret in (b"ZZMARK", b"19310203", b"20110405"):
            assert secret not in content


def test_bad_words__are_refused_before_anything_is_written(
    glint: Command, radiograph: Path, image: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for words, part in (
        ((image, "--dicom-out", out), "DICOM images only"),
        ((radiograph, "--dicom-out", out, "--seg-type", "colour"), "segmentation type"),
        ((radiograph, "--deidentify"), "--dicom-out"),
        ((radiograph, "--seg-type", "labelmap"), "--dicom-out"),
    ):
        done = glint("segment", *words, "-q", "a", "-m", model_folder)
        assert (done.status, done.out) == (2, "")
        assert part in done.err
    assert not out.exists()
