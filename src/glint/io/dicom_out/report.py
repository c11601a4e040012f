"""A structured report of the answers: TID 1500 with score, size, place and text of every query.

A finding has up to three measurement groups under one tracking UID: the score with the mask (segment) and its size, the
box, the point. Standard templates allow one region a group.
"""

from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from glint.io.dicom_out.codes import SCHEME, meaning
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.headers import slice_step_mm, spacing_mm
from glint.io.dicom_out.segmentation import tracking
from glint.io.dicom_out.stamp import MANUFACTURER, MODEL_NAME, Stamp

SERIES_NUMBER = 9002
SCORE = Code("SCORE", SCHEME, "Score of the text for the image, 0 to 1")
QUERY = Code("QUERY", SCHEME, "Query text")
RADIOGRAPHY = Code("399208008", "SCT", "Plain chest X-ray")
TOMOGRAPHY = Code("169069000", "SCT", "CT of chest")
NO_UNITS = Code("1", "UCUM", "no units")
Group = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)


def report(
    headers: Sequence[Dataset],
    findings: Sequence[Finding],
    stamp: Stamp,
    *,
    segmented: Segmentation | None = None,
    parts: Sequence[str] = (),
) -> sr.ComprehensiveSR:
    """Return a structured report on all queries, those without a mask included.

    Args:
        headers: Headers of the source images, in the order of the first axis of the masks.
        findings: What was found.
        stamp: Who answered.
        segmented: The segmentation of the same findings, to which the report refers.
        parts: Further settings that make another report, see `Stamp.uid`.
    """
    numbers = _segment_numbers(findings)
    groups: list[Group] = []
    for finding in findings:
        number = numbers.get(id(finding)) if segmented is not None else None
        groups.append(_scored(headers, finding, stamp, segmented, number))
        groups += _located(headers, finding, stamp)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=stamp.uid("device", ()), name="GLINT", manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=TOMOGRAPHY if headers[0].get("Modality") == "CT" else RADIOGRAPHY,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        evidence=[*headers, *([segmented] if segmented is not None else [])],
        content=content,
        is_complete=True,
        is_final=False,
        **stamp.series("SR", headers, [*parts, *(finding.query for finding in findings)], SERIES_NUMBER),
    )


def _segment_numbers(findings: Sequence[Finding]) -> dict[int, int]:
    """Return the segment number of each finding that has one, by identity."""
    return {id(f): number for number, f in enumerate((f for f in findings if not f.empty), start=1)}


def _scored(
    headers: Sequence[Dataset],
    finding: Finding,
    stamp: Stamp,
    segmented: Segmentation | None,
    number: int | None,
) -> Group:
    """Return the group with the score, and with mask and size where there is a mask."""
    measured = [sr.Measurement(SCORE, round(finding.score, 6), NO_UNITS)]
    common = _common(finding, headers, stamp)
    group: Group
    if segmented is None or number is None:
        group = sr.MeasurementsAndQualitativeEvaluations(measurements=measured, **common)
    elif len(headers) == 1:
        measured += _area(headers[0], finding)
        source = sr.SourceImageForSegmentation(headers[0].SOPClassUID, headers[0].SOPInstanceUID)
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegmentationFrame(
                segmented.SOPClassUID, segmented.SOPInstanceUID, _frame(segmented, number), number, source
            ),
            measurements=measured,
            **common,
        )
        _without_frame(group)
    else:
        measured += _volume(headers, finding)
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegment(
                segmented.SOPClassUID,
                segmented.SOPInstanceUID,
                number,
                source_images=[
                    sr.SourceImageForSegmentation(header.SOPClassUID, header.SOPInstanceUID)
                    for header, plane in zip(headers, finding.mask, strict=True)
                    if plane.any()
                ],
            ),
            measurements=measured,
            **common,
        )
    text = sr.TextContentItem(QUERY, finding.query, sr.RelationshipTypeValues.CONTAINS)
    group[0].ContentSequence.append(text)
    return group


def _frame(segmented: Segmentation, number: int) -> int:
    """Return the frame of a segment of a radiograph: labelmaps have one, the others one a segment."""
    return 1 if segmented.SegmentationType == "LABELMAP" else number


def _without_frame(group: Group) -> None:
    """Name the segment alone: the standard allows the number of a frame or of a segment, highdicom writes both."""
    for item in group[0].ContentSequence:
        for reference in item.get("ReferencedSOPSequence", ()):
            if "ReferencedSegmentNumber" in reference and "ReferencedFrameNumber" in reference:
                del reference.ReferencedFrameNumber


def _located(headers: Sequence[Dataset], finding: Finding, stamp: Stamp) -> list[Group]:
    """Return groups with the box and the point. Pixel coordinates: 0 is the edge of the first pixel."""
    groups: list[Group] = []
    common = _common(finding, headers, stamp)
    if finding.box is not None:
        (n0, y0, x0), (n1, y1, x1) = finding.box
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], dtype=np.float64)
        regions = [_region("POLYLINE", corners, header) for header in headers[n0:n1]]
        if len(headers) == 1:
            groups.append(
                sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=regions[0], **common)
            )
        else:
            groups.append(
                sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=regions, **common)
            )
    if finding.point is not None:
        n, y, x = finding.point
        place = _region("POINT", np.array([[x + 0.5, y + 0.5]]), headers[n])
        groups.append(sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=place, **common))
    return groups


def _region(kind: str, corners: np.ndarray[Any, Any], header: Dataset) -> sr.ImageRegion:
    source = sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID)
    return sr.ImageRegion(kind, corners, source)


def _common(finding: Finding, headers: Sequence[Dataset], stamp: Stamp) -> dict[str, Any]:
    what = meaning(finding.query)
    identifier, uid = tracking(finding, headers, stamp)
    parameters = [f"{name}={value}" for name, value in stamp.parameters().items()]
    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=hd.UID(uid), identifier=identifier),
        "finding_type": what.code,
        "finding_category": what.category,
        "finding_sites": [sr.FindingSite(what.site)] if what.site else None,
        "algorithm_id": sr.AlgorithmIdentification("GLINT", stamp.version, parameters),
    }


def _area(header: Dataset, finding: Finding) -> list[sr.Measurement]:
    """Return the area at the detector, where the pixel size is known."""
    size = spacing_mm(header)
    if size is None:
        return []
    area = float(finding.mask.sum()) * size[0] * size[1]
    return [sr.Measurement(codes.SCT.Area, round(area, 3), codes.UCUM.SquareMillimeter)]


def _volume(headers: Sequence[Dataset], finding: Finding) -> list[sr.Measurement]:
    size = spacing_mm(headers[0])
    if size is None:
        return []
    volume = float(finding.mask.sum()) * size[0] * size[1] * slice_step_mm(headers)
    return [sr.Measurement(codes.SCT.Volume, round(volume, 3), codes.UCUM.CubicMillimeter)]
