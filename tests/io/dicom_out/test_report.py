"""Structured reports: every query with score, size, box, point and text; valid; readable by others."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.headers import read_header, read_series_headers
from glint.io.dicom_out.report import QUERY, SCORE, report
from glint.io.dicom_out.segmentation import SEG_TYPES, segmentation
from glint.io.dicom_out.stamp import Stamp

Write = Callable[..., Path]


def scores(groups: list[hd.sr.MeasurementsAndQualitativeEvaluations]) -> dict[str, float]:
    """Return {query: score} of measurement groups."""
    found = {}
    for group in groups:
        for measured in group.get_measurements(SCORE):
            texts = [
                i.TextValue for i in group[0].ContentSequence if i.name == hd.sr.CodedConcept(*QUERY[:3])
            ]
            assert texts == [group.tracking_identifier]
            found[group.tracking_identifier] = float(measured.value)
    return found


@pytest.mark.parametrize("kind", SEG_TYPES)
def test_radiograph__every_query_with_score_area_box_and_point(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path, kind: str
) -> None:
    headers = [read_header(radiograph_file())]
    segmented = segmentation(headers, findings, stamp, seg_type=kind)  # type: ignore[arg-type]
    report(headers, findings, stamp, segmented=segmented).save_as(tmp_path / "sr.dcm")
    assert segmented is not None
    content = hd.sr.srread(tmp_path / "sr.dcm").content
    planar, image = content.get_planar_roi_measurement_groups(), content.get_image_measurement_groups()
    assert scores(planar) | scores(image) == {f.query: f.score for f in findings}
    assert set(scores(image)) == {"There is a nodule."}
    first = [group for group in planar if group.tracking_identifier == findings[0].query]
    assert len({str(group.tracking_uid) for group in first}) == 1
    assert {group.finding_type.value for group in first} == {"60046008"}
    (masked,) = [group for group in first if scores([group])]
    item = next(i for i in masked[0].ContentSequence if "ReferencedSOPSequence" in i)
    reference = item.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == segmented.SOPInstanceUID
    assert reference.ReferencedSegmentNumber == 1
    (area,) = masked.get_measurements(codes.SCT.Area)
    assert area.value == pytest.approx(20 * 30 * 0.2 * 0.3)
    regions = [group.roi for group in first if not scores([group])]
    assert [region.value.tolist() for region in regions if region is not None] == [
        [[20, 10], [50, 10], [50, 30], [20, 30], [20, 10]],
        [[25.5, 15.5]],
    ]


def test_ct__volume_box_on_every_slice_and_point(series_folder: Write, stamp: Stamp, tmp_path: Path) -> None:
    stored = np.full((10, 12, 14), 40, dtype=np.uint16)
    stored[2:-2, 2:-2, 2:-2] = 1050
    headers = read_series_headers(series_folder(stored, np.eye(3)[:, ::-1], (2.5, 0.8, 0.7), np.zeros(3)))
    mask = np.zeros(stored.shape, dtype=bool)
    mask[3:6, 4:6, 5:9] = True
    finding = Finding("There is a mass.", 0.6, mask, None, (4, 5, 6), ((3, 4, 5), (6, 6, 9)))
    segmented = segmentation(headers, [finding], stamp)
    report(headers, [finding], stamp, segmented=segmented).save_as(tmp_path / "sr.dcm")
    content = hd.sr.srread(tmp_path / "sr.dcm").content
    masked, boxed = content.get_volumetric_roi_measurement_groups()
    (volume,) = masked.get_measurements(codes.SCT.Volume)
    assert volume.value == pytest.approx(3 * 2 * 4 * 2.5 * 0.8 * 0.7)
    assert scores([masked]) == {finding.query: 0.6}
    images = [
        region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for region in boxed.roi
    ]
    assert images == [header.SOPInstanceUID for header in headers[3:6]]
    (pointed,) = content.get_planar_roi_measurement_groups()
    assert pointed.roi is not None
    assert pointed.roi.value.tolist() == [[6.5, 5.5]]


def test_dciodvfy__finds_no_error_that_the_source_had_not(
    radiograph_file: Write, series_folder: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path,
    complaints: Callable[[Path], set[str]],
) -> None:  # fmt: skip
    source = radiograph_file()
    headers = [read_header(source)]
    for segmented in (segmentation(headers, findings, stamp), None):
        report(headers, findings, stamp, segmented=segmented).save_as(tmp_path / "sr.dcm")
        assert complaints(tmp_path / "sr.dcm") - complaints(source) == set()
    stored = np.full((10, 12, 14), 40, dtype=np.uint16)
    headers = read_series_headers(series_folder(stored, np.eye(3)[:, ::-1], (2.5, 0.8, 0.7), np.zeros(3)))
    mask = np.zeros(stored.shape, dtype=bool)
    mask[3:6, 4:6, 5:9] = True
    finding = Finding("There is a mass.", 0.6, mask, None, (4, 5, 6), ((3, 4, 5), (6, 6, 9)))
    report(headers, [finding], stamp, segmented=segmentation(headers, [finding], stamp)).save_as(
        tmp_path / "sr.dcm"
    )
    assert complaints(tmp_path / "sr.dcm") == set()


def test_dsrdump__reads_the_text_in_its_own_letters(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path
) -> None:
    program = shutil.which("dsrdump")
    if program is None:
        pytest.skip("dsrdump is not installed (apt-get install dcmtk)")
    report([read_header(radiograph_file())], findings, stamp).save_as(tmp_path / "sr.dcm")
    done = subprocess.run([program, tmp_path / "sr.dcm"], capture_output=True, check=True)
    text = done.stdout.decode()
    assert not [line for line in done.stderr.splitlines() if not line.startswith(b"W:")]
    assert findings[1].query in text
    assert "Jörg" in text
