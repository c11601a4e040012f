"""A presentation state for radiographs: boxes, points and texts that any viewer draws over the image itself.

A viewer shows an image as its presentation state says, not as the image says: brightness is therefore taken over.
"""

from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import pr
from pydicom.dataset import Dataset

from glint.io.dicom_out.codes import shortened
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.segmentation import COLOURS, tracking
from glint.io.dicom_out.stamp import Stamp

SERIES_NUMBER = 9003
PIXEL = "PIXEL"
"""Unit of coordinates: pixels of the image; 0 is the edge of the first one."""

MAX_TEXT = 1024
"""Characters of a text (value representation ST)."""


def presentation(
    header: Dataset, findings: Sequence[Finding], stamp: Stamp, *, parts: Sequence[str] = ()
) -> pr.GrayscaleSoftcopyPresentationState | None:
    """Return box, point and text of every finding with a mask; None without one, or for a picture in colour.

    Args:
        header: Header of the radiograph.
        findings: What was found.
        stamp: Who answered.
        parts: Further settings that make another result, see `Stamp.uid`.
    """
    found = [finding for finding in findings if not finding.empty]
    if not found or header.get("SamplesPerPixel") != 1:
        return None
    layer = pr.GraphicLayer("GLINT", order=1, display_color=hd.color.CIELabColor.from_rgb(*COLOURS[2]))
    written = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[header],
        content_label="GLINT",
        content_description="Boxes and points of GLINT",
        graphic_layers=[layer],
        graphic_annotations=[_annotation(header, finding, layer, stamp) for finding in found],
        modality_lut_transformation=_rescale(header),
        voi_lut_transformations=[_window(header)],
        presentation_lut_transformation=hd.PresentationLUTTransformation(
            "INVERSE" if header.get("PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"
        ),
        **stamp.series("PR", [header], [*parts, *(f.query for f in findings)], SERIES_NUMBER),
    )
    _repeat_tables(header, written)
    written.Laterality = ""  # wanted by the standard for series of paired parts, empty when not known
    return written


def _repeat_tables(header: Dataset, written: Dataset) -> None:
    """Put the look-up tables of the image in place of slopes and windows: an image that has them is shown by them."""
    if "ModalityLUTSequence" in header:
        written.ModalityLUTSequence = header.ModalityLUTSequence
        _drop(written, "RescaleSlope", "RescaleIntercept", "RescaleType")
    if "VOILUTSequence" in header:
        shown = written.SoftcopyVOILUTSequence[0]
        shown.VOILUTSequence = header.VOILUTSequence
        _drop(shown, "WindowCenter", "WindowWidth", "VOILUTFunction")


def _drop(data: Dataset, *names: str) -> None:
    for name in names:
        if name in data:
            delattr(data, name)


def _annotation(
    header: Dataset, finding: Finding, layer: pr.GraphicLayer, stamp: Stamp
) -> pr.GraphicAnnotation:
    identifier, uid = tracking(finding, [header], stamp)
    names: dict[str, Any] = {"units": PIXEL, "tracking_id": identifier, "tracking_uid": str(uid)}
    shapes: list[pr.GraphicObject] = []
    anchor = (0.0, 0.0)
    if finding.point is not None:
        anchor = (finding.point[2] + 0.5, finding.point[1] + 0.5)
        shapes.append(pr.GraphicObject("POINT", np.array([anchor]), **names))
    if finding.box is not None:
        (_, y0, x0), (_, y1, x1) = finding.box
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], dtype=np.float64)
        anchor = (float(x0), float(y0))
        shapes.append(pr.GraphicObject("POLYLINE", corners, **names))
    text = pr.TextObject(
        shortened(f"{finding.query} {finding.score:.2f}", MAX_TEXT), anchor_point=anchor, **names
    )
    return pr.GraphicAnnotation([header], layer, graphic_objects=shapes or None, text_objects=[text])


def _rescale(header: Dataset) -> hd.ModalityLUTTransformation | None:
    if "RescaleSlope" not in header or "RescaleIntercept" not in header:
        return None
    return hd.ModalityLUTTransformation(
        rescale_intercept=float(header.RescaleIntercept),
        rescale_slope=float(header.RescaleSlope),
        rescale_type="US",
    )


def _window(header: Dataset) -> pr.SoftcopyVOILUTTransformation:
    """Return the window of the image, or all values that it could hold."""
    if "WindowCenter" in header and "WindowWidth" in header:
        return pr.SoftcopyVOILUTTransformation(
            window_center=_numbers(header.WindowCenter),
            window_width=_numbers(header.WindowWidth),
            voi_lut_function=header.get("VOILUTFunction"),
        )
    width = float(2 ** int(header.get("BitsStored", 16)) * abs(float(header.get("RescaleSlope", 1))))
    low = float(header.get("RescaleIntercept", 0))
    low -= width / 2 if header.get("PixelRepresentation") == 1 else 0
    return pr.SoftcopyVOILUTTransformation(window_center=low + width / 2, window_width=width)


def _numbers(value: object) -> float | list[float]:
    """Return one window, or all that the image offers."""
    return [float(part) for part in value] if isinstance(value, Sequence) else float(str(value))
