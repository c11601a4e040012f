"""A DICOM segmentation of the findings: one segment a query, on the voxels of the source images.

Findings without a voxel have no segment, planes without a voxel no frame: empty ones make viewers slow, and some stop.
"""

from collections.abc import Sequence
from typing import Any, Literal

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from glint.errors import DataError
from glint.io.dicom_out.codes import meaning, shortened
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.stamp import Stamp

SegType = Literal["binary", "labelmap", "fractional"]
SEG_TYPES: tuple[SegType, ...] = ("binary", "labelmap", "fractional")
SERIES_NUMBER = 9001
COLOURS = (
    (230, 60, 60),
    (70, 160, 255),
    (255, 200, 40),
    (90, 210, 90),
    (220, 110, 220),
    (255, 140, 40),
    (90, 220, 210),
)
"""Display colours (sRGB) of the segments in turn."""


def segmentation(
    headers: Sequence[Dataset], findings: Sequence[Finding], stamp: Stamp, *, seg_type: SegType = "binary"
) -> Segmentation | None:
    """Return a segmentation, or None when all masks are empty.

    Args:
        headers: Headers of the source images (headers.py), in the order of the first axis of the masks.
        findings: What was found; the numbers of segments follow their order.
        stamp: Who answered.
        seg_type: "binary": masks, which may overlap. "labelmap": one number a voxel, small; where masks overlap, the
            higher score wins. "fractional": the heat maps where the masks are, 0 to 1 in 255 steps.

    Raises:
        DataError: A mask does not have the shape of the source.
    """
    found = [finding for finding in findings if not finding.empty]
    _check_shapes(headers, findings)
    if not found:
        return None
    queries = [finding.query for finding in findings]
    written = Segmentation(
        source_images=headers,
        pixel_array=_pixels(found, seg_type),
        segmentation_type=seg_type.upper(),
        segment_descriptions=[
            _describe(number, finding, headers, stamp) for number, finding in enumerate(found, start=1)
        ],
        # Bits of binary frames are packed, which no lossless syntax in common use can do.
        transfer_syntax_uid=ExplicitVRLittleEndian if seg_type == "binary" else RLELossless,
        content_label="GLINT",
        content_description=shortened(f"GLINT {stamp.model}"),
        **stamp.series("SEG", headers, [seg_type, *queries], SERIES_NUMBER),
    )
    if "FrameOfReferenceUID" not in headers[0]:
        # Where a projection has no place in the patient, the standard wants this, empty if need be.
        written.PatientOrientation = headers[0].get("PatientOrientation", "")
        # Pixel measures without a slice thickness: readers stop at them, and the pixels are those of the source.
        if "PixelMeasuresSequence" in written.SharedFunctionalGroupsSequence[0]:
            del written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    return written


def tracking(finding: Finding, headers: Sequence[Dataset], stamp: Stamp) -> tuple[str, str]:
    """Return (tracking identifier, tracking UID), the same in every result."""
    return finding.query, stamp.uid("tracking", headers, finding.query)


def _check_shapes(headers: Sequence[Dataset], findings: Sequence[Finding]) -> None:
    expected = (len(headers), int(headers[0].Rows), int(headers[0].Columns))
    for finding in findings:
        if finding.mask.shape != expected:
            raise DataError(
                f"a mask has the shape {finding.mask.shape}, its source images {expected}",
                expected="masks on the voxels of the source images",
            )


def _pixels(found: Sequence[Finding], seg_type: SegType) -> NDArray[Any]:
    """Return what highdicom takes: (N, Y, X) numbers for a labelmap, else (N, Y, X, segment)."""
    if seg_type == "labelmap":
        labels = np.zeros(found[0].mask.shape, dtype=np.uint16)
        for number, finding in sorted(enumerate(found, start=1), key=lambda item: item[1].score):
            labels[finding.mask] = number
        return labels
    if seg_type == "binary":
        return np.stack([finding.mask for finding in found], axis=-1)
    stack = np.zeros((*found[0].mask.shape, len(found)), dtype=np.float32)
    for number, finding in enumerate(found):
        heat = finding.mask if finding.heat is None else np.clip(finding.heat, 0, 1)
        stack[..., number] = np.where(finding.mask, heat, 0)
    return stack


def _describe(number: int, finding: Finding, headers: Sequence[Dataset], stamp: Stamp) -> SegmentDescription:
    what = meaning(finding.query)
    identifier, uid = tracking(finding, headers, stamp)
    described = SegmentDescription(
        segment_number=number,
        segment_label=shortened(finding.query),
        segmented_property_category=what.category,
        segmented_property_type=what.code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="GLINT",
            family=codes.DCM.ArtificialIntelligence,
            version=stamp.version,
            source="GLINT",
            parameters=stamp.parameters(),
        ),
        tracking_id=identifier,
        tracking_uid=uid,
        anatomic_regions=[what.site] if what.site else None,
        display_color=hd.color.CIELabColor.from_rgb(*COLOURS[(number - 1) % len(COLOURS)]),
    )
    described.SegmentDescription = shortened(f"{finding.query} (score {finding.score:.3f})", 1024)
    return described
